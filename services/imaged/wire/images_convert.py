"""Protobuf messages to and from imaged's values."""

from collections.abc import Iterable, Iterator

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from imaged.archive.load import Loaded
from imaged.images.index import Member, Tree
from imaged.images.model import (
    Created,
    Credentials,
    Fetched,
    Image,
    Imported,
    Layer,
    LayerProgress,
    Phase,
    Removed,
    Resolved,
)
from imaged.push.steps import Pushed, PushPhase, PushResolved, PushStep
from imaged.registry.lookup import Remote, SearchResult
from sampan.api.containerd.types import types_pb2 as types_pb
from sampan.api.image.v1 import images_pb2 as pb
from sampan.disk import Root
from sampan.errors import InvalidArgumentError
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.image_config import HealthCheck, History, RunConfig
from sampan.oci.platform import Platform
from sampan.wire.disk import holder_to_proto
from sampan.wire.pages import pages

_PHASES = {
    Phase.WAITING: pb.FetchProgress.WAITING,
    Phase.DOWNLOADING: pb.FetchProgress.DOWNLOADING,
    Phase.VERIFYING: pb.FetchProgress.VERIFYING,
    Phase.COMMITTED: pb.FetchProgress.COMMITTED,
    Phase.EXISTED: pb.FetchProgress.EXISTED,
    Phase.RETRYING: pb.FetchProgress.RETRYING,
}
_PUSH_PHASES = {
    PushPhase.PREPARING: pb.PushProgress.PREPARING,
    PushPhase.WAITING: pb.PushProgress.WAITING,
    PushPhase.PUSHING: pb.PushProgress.PUSHING,
    PushPhase.PUSHED: pb.PushProgress.PUSHED,
    PushPhase.EXISTED: pb.PushProgress.EXISTED,
    PushPhase.MOUNTED: pb.PushProgress.MOUNTED,
    PushPhase.RETRYING: pb.PushProgress.RETRYING,
}


def timestamp(moment_ns: int) -> Timestamp:
    """Return nanoseconds since the epoch as a message."""
    seconds, nanos = divmod(moment_ns, 10**9)
    return Timestamp(seconds=seconds, nanos=nanos)


def _duration(span_ns: int) -> Duration:
    seconds, nanos = divmod(span_ns, 10**9)
    return Duration(seconds=seconds, nanos=nanos)


def descriptor_to_proto(descriptor: Descriptor) -> types_pb.Descriptor:
    """Encode a descriptor."""
    return types_pb.Descriptor(media_type=descriptor.media_type, digest=descriptor.digest, size=descriptor.size)


def descriptor_from_proto(message: types_pb.Descriptor) -> Descriptor:
    """Decode a descriptor. Raises InvalidArgumentError for a bad digest or size."""
    if message.size < 0:
        raise InvalidArgumentError(f"descriptor of {message.digest}: size is {message.size}")
    return Descriptor(message.media_type, Digest.parse(message.digest), message.size)


def platform_from_proto(message: pb.Platform) -> Platform | None:
    """Decode a platform; None for an empty one."""
    if not (message.os or message.architecture):
        return None
    return Platform(message.os or "linux", message.architecture, message.variant)


def credentials_from_proto(message: pb.Credentials) -> Credentials:
    """Decode credentials."""
    return Credentials(message.username, message.password, message.identity_token, message.registry_token)


def _layer_to_proto(layer: Layer) -> pb.LayerContent:
    return pb.LayerContent(descriptor=descriptor_to_proto(layer.descriptor), diff_id=layer.diff_id)


def step_to_proto(step: Resolved | LayerProgress | Fetched) -> pb.FetchProgress:
    """Encode a step of a fetch."""
    match step:
        case Resolved():
            resolved = pb.FetchProgress.Resolved(
                lease=step.lease,
                reference=str(step.reference),
                target=descriptor_to_proto(step.target),
                layers=[_layer_to_proto(layer) for layer in step.layers],
            )
            return pb.FetchProgress(resolved=resolved)
        case LayerProgress():
            layer = pb.FetchProgress.Layer(
                digest=step.digest, phase=_PHASES[step.phase], offset=step.offset, total=step.total
            )
            return pb.FetchProgress(layer=layer)
        case Fetched():
            fetched = pb.FetchProgress.Fetched(
                image_id=step.image_id,
                target=descriptor_to_proto(step.target),
                manifest=descriptor_to_proto(step.manifest),
            )
            return pb.FetchProgress(fetched=fetched)


def image_to_proto(image: Image, tree: Tree | None = None) -> pb.Image:
    """Encode an image, with what its index leads to if that is given."""
    config = image.config
    message = brief_image_to_proto(image)
    message.MergeFrom(
        pb.Image(
            os_version=config.os_version,
            author=config.author,
            comment=config.comment,
            config=_run_config_to_proto(config.run),
            history=[_history_to_proto(step) for step in config.history],
            docker_version=config.docker_version,
            manifests=[member_to_proto(member) for member in tree.members] if tree else (),
        )
    )
    return message


def brief_image_to_proto(image: Image) -> pb.Image:
    """Encode what is known of an image without its config's longer parts."""
    record, config = image.record, image.config
    message = pb.Image(
        id=record.id,
        repo_tags=image.repo_tags,
        repo_digests=image.repo_digests,
        platform=_platform_to_proto(config.platform),
        layers=[_layer_to_proto(layer) for layer in record.layers],
        target=descriptor_to_proto(record.target),
        manifest=descriptor_to_proto(record.manifest),
        content_bytes=record.content_bytes,
        parent=record.parent or "",
    )
    if config.created_ns is not None:
        message.created.CopyFrom(timestamp(config.created_ns))
    if record.tagged_ns:
        message.last_tagged.CopyFrom(timestamp(record.tagged_ns))
    return message


def member_to_proto(member: Member) -> pb.ImageManifest:
    """Encode what an index lists."""
    platform = member.platform
    kind = pb.ImageManifest.ATTESTATION if member.is_attestation else pb.ImageManifest.IMAGE
    descriptor = types_pb.Descriptor(
        media_type=member.descriptor.media_type,
        digest=member.descriptor.digest,
        size=member.descriptor.size,
        annotations=member.annotations,
    )
    return pb.ImageManifest(
        descriptor=descriptor,
        kind=kind if member.is_attestation or member.is_image else pb.ImageManifest.UNKNOWN,
        available=member.available,
        content_bytes=member.here_bytes,
        platform=_platform_to_proto(platform) if platform else None,
        image_id=member.references[0].digest if member.references and member.is_image else "",
        attested_digest=member.attested,
    )


def _platform_to_proto(platform: Platform) -> pb.Platform:
    return pb.Platform(os=platform.os, architecture=platform.architecture, variant=platform.variant)


def _run_config_to_proto(run: RunConfig) -> pb.ImageConfig:
    return pb.ImageConfig(
        user=run.user,
        env=run.env,
        entrypoint=run.entrypoint,
        cmd=run.cmd,
        working_dir=run.working_dir,
        labels=run.labels,
        exposed_ports=run.exposed_ports,
        volumes=run.volumes,
        stop_signal=run.stop_signal,
        health_check=_health_check_to_proto(run.health_check) if run.health_check else None,
        shell=run.shell,
        on_build=run.on_build,
        args_escaped=run.args_escaped,
    )


def _health_check_to_proto(check: HealthCheck) -> pb.HealthCheck:
    return pb.HealthCheck(
        test=check.test,
        interval=_duration(check.interval_ns),
        timeout=_duration(check.timeout_ns),
        start_period=_duration(check.start_period_ns),
        start_interval=_duration(check.start_interval_ns),
        retries=check.retries,
    )


def _history_to_proto(step: History) -> pb.History:
    message = pb.History(
        created_by=step.created_by, author=step.author, comment=step.comment, empty_layer=step.empty_layer
    )
    if step.created_ns is not None:
        message.created.CopyFrom(timestamp(step.created_ns))
    return message


def created_to_proto(created: Created) -> pb.CreateResponse:
    """Encode what naming an image came to."""
    return pb.CreateResponse(image=image_to_proto(created.image), moved=created.moved, existed=created.existed)


def run_config_from_proto(message: pb.ImageConfig) -> RunConfig:
    """Decode what a container of an image runs as."""
    return RunConfig(
        user=message.user,
        env=tuple(message.env),
        entrypoint=tuple(message.entrypoint),
        cmd=tuple(message.cmd),
        working_dir=message.working_dir,
        labels=dict(message.labels),
        exposed_ports=tuple(message.exposed_ports),
        volumes=tuple(message.volumes),
        stop_signal=message.stop_signal,
        health_check=_health_check_from_proto(message.health_check) if message.HasField("health_check") else None,
        shell=tuple(message.shell),
        on_build=tuple(message.on_build),
        args_escaped=message.args_escaped,
    )


def _health_check_from_proto(message: pb.HealthCheck) -> HealthCheck:
    return HealthCheck(
        test=tuple(message.test),
        interval_ns=message.interval.ToNanoseconds(),
        timeout_ns=message.timeout.ToNanoseconds(),
        start_period_ns=message.start_period.ToNanoseconds(),
        start_interval_ns=message.start_interval.ToNanoseconds(),
        retries=message.retries,
    )


def layer_from_proto(message: pb.LayerContent) -> Layer:
    """Decode a layer. Raises InvalidArgumentError for a bad digest or size."""
    return Layer(descriptor_from_proto(message.descriptor), Digest.parse(message.diff_id))


def push_to_proto(step: PushResolved | PushStep | Pushed) -> pb.PushProgress:
    """Encode a step of a push."""
    match step:
        case PushResolved():
            resolved = pb.PushProgress.Resolved(
                reference=str(step.reference), layers=[_layer_to_proto(layer) for layer in step.layers]
            )
            return pb.PushProgress(resolved=resolved)
        case PushStep():
            layer = pb.PushProgress.Layer(
                digest=step.digest,
                phase=_PUSH_PHASES[step.phase],
                offset=step.offset,
                total=step.total,
                mounted_from=step.mounted_from,
            )
            return pb.PushProgress(layer=layer)
        case Pushed():
            pushed = pb.PushProgress.Pushed(
                image_id=step.image_id,
                tag=step.tag,
                manifest=descriptor_to_proto(step.manifest),
                instead_of=descriptor_to_proto(step.instead_of) if step.instead_of else None,
            )
            return pb.PushProgress(pushed=pushed)


def loaded_to_proto(loaded: Iterable[Loaded]) -> Iterator[pb.LoadResponse]:
    """Encode the images of an archive, in pages."""
    images = (
        pb.LoadedImage(
            lease=one.lease,
            image_id=one.image_id,
            target=descriptor_to_proto(one.target),
            layers=[_layer_to_proto(layer) for layer in one.layers],
            references=[str(reference) for reference in one.references],
            platform=_platform_to_proto(one.platform),
        )
        for one in loaded
    )
    return pages(pb.LoadResponse, "images", images)


def remote_to_proto(remote: Remote) -> pb.InspectResponse:
    """Encode what a registry says of a name."""
    return pb.InspectResponse(
        target=descriptor_to_proto(remote.target),
        platforms=[_platform_to_proto(platform) for platform in remote.platforms],
    )


def results_to_proto(results: Iterable[SearchResult]) -> pb.SearchResponse:
    """Encode what a search found."""
    return pb.SearchResponse(
        results=[
            pb.SearchResponse.Result(
                name=each.name,
                description=each.description,
                stars=each.stars,
                official=each.official,
                automated=each.automated,
            )
            for each in results
        ]
    )


def imported_to_proto(imported: Imported) -> pb.ImportResponse:
    """Encode an imported image."""
    return pb.ImportResponse(
        lease=imported.lease,
        image_id=imported.image_id,
        target=descriptor_to_proto(imported.target),
        layers=[_layer_to_proto(layer) for layer in imported.layers],
    )


def removed_to_proto(removed: Removed) -> Iterator[pb.RemoveResponse]:
    """Encode what a removal took away, in pages."""
    changes = (
        pb.RemoveResponse.Change(image=change.image, untagged=change.untagged, chain_ids=change.chain_ids)
        for change in removed.changes
    )
    return pages(pb.RemoveResponse, "changes", changes, reclaimed_bytes=removed.reclaimed_bytes)


def root_to_proto(root: Root) -> pb.RootsResponse.Root:
    """Encode who needs which layers unpacked."""
    return pb.RootsResponse.Root(holder=holder_to_proto(root.holder), diff_ids=root.diff_ids)
