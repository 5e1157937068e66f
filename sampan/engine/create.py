"""Create a container: what the user leaves open comes from the image."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sampan.api.containerd.snapshots.v1 import snapshots_pb2
from sampan.api.image.v1 import images_pb2
from sampan.api.snapshot.v1 import layers_pb2
from sampan.client.convert.codec import from_duration
from sampan.docker.mounts import inherited, parse_volumes_from
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.oci.platform import Platform, host_platform, parse_platform
from sampan.resource.container import Created
from sampan.resource.container_spec import ContainerSpec, HealthCheck, Process
from sampan.wire.channel import rpc_errors

if TYPE_CHECKING:
    from sampan.engine.services import Services
    from sampan.resource.protocols import Containers

# --entrypoint "" arrives as one empty word: "none, and not the image's either".
_NO_ENTRYPOINT: Final = ("",)


async def create_container(engine: "Services", spec: ContainerSpec, platform: str) -> Created:
    """See ``Engine.create_container``."""
    wanted = parse_platform(platform) if platform else None
    with rpc_errors():
        image = await engine.images.Get(images_pb2.GetRequest(image=spec.image))
    if wanted is not None:
        _check_platform(spec.image, wanted, image.platform)
    warnings = () if wanted is not None else _platform_warning(image.platform)
    complete = replace(merge(spec, image), chain_id=await ensure_stack(engine, image))
    try:
        created = await engine.runtime.containers.create(complete)
    except NotFoundError:
        if not complete.chain_id or await _stands(engine, complete.chain_id):
            raise
        # It was removed between the two, with its image, or with another one of the same layers.
        with rpc_errors():
            image = await engine.images.Get(images_pb2.GetRequest(image=spec.image))
        complete = replace(merge(spec, image), chain_id=await ensure_stack(engine, image))
        created = await engine.runtime.containers.create(complete)
    return Created(created.id, (*warnings, *created.warnings))


async def with_volumes_of(containers: "Containers", spec: ContainerSpec, sources: Iterable[str]) -> ContainerSpec:
    """Return ``spec`` with the mounts of other containers, each ``container[:ro|rw…]``; its own targets win.

    Raises:
        InvalidArgumentError: in Docker's words, an unknown mode, or there is no such container: a 404 would say that
            the image is missing.
    """
    for text in sources:
        name, read_only = parse_volumes_from(text)
        try:
            source = await containers.get(name)
        except NotFoundError as error:
            raise InvalidArgumentError(str(error)) from error
        spec = replace(spec, mounts=(*spec.mounts, *inherited(source.mounts, spec.mounts, read_only=read_only)))
    return spec


async def _stands(engine: "Services", chain_id: str) -> bool:
    try:
        with rpc_errors():
            await engine.snapshots.Stat(snapshots_pb2.StatSnapshotRequest(key=chain_id))
    except NotFoundError:
        return False
    return True


def merge(spec: ContainerSpec, image: images_pb2.Image) -> ContainerSpec:
    """Return ``spec`` with the gaps filled from the image's config.

    The rules are Docker's: a command of the user's own comes without the image's entrypoint only if the user has set
    one too; variables and labels of the user's win one by one; ports and volumes add up.

    Raises:
        InvalidArgumentError: neither of them says what to run.
    """
    config, process = image.config, spec.process
    entrypoint, cmd = _command(process, config)
    taken = {entry.partition("=")[0] for entry in process.env}
    return replace(
        spec,
        image_id=image.id,
        platform=image.platform.os or "linux",
        process=replace(
            process,
            entrypoint=entrypoint,
            cmd=cmd,
            user=process.user or config.user,
            working_dir=process.working_dir or config.working_dir,
            env=(*process.env, *(entry for entry in config.env if entry.partition("=")[0] not in taken)),
        ),
        labels={**config.labels, **spec.labels},
        exposed_ports=_with_missing(spec.exposed_ports, config.exposed_ports),
        anonymous_volumes=_with_missing(spec.anonymous_volumes, config.volumes),
        stop_signal=spec.stop_signal or config.stop_signal,
        health_check=_health_check(spec.health_check, config),
    )


def _command(process: Process, config: images_pb2.ImageConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    entrypoint, cmd = process.entrypoint, process.cmd
    if not entrypoint:
        entrypoint, cmd = tuple(config.entrypoint), cmd or tuple(config.cmd)
    if entrypoint == _NO_ENTRYPOINT:  # the user's, or what the image says
        entrypoint = ()
    if not entrypoint and not cmd:
        raise InvalidArgumentError("no command specified")
    return entrypoint, cmd


def _health_check(ours: HealthCheck | None, config: images_pb2.ImageConfig) -> HealthCheck | None:
    """Return the image's health check where ours leaves something open, whole or field by field."""
    if not config.HasField("health_check"):
        return ours
    ours, theirs = ours or HealthCheck(), config.health_check
    return HealthCheck(
        ours.test or tuple(theirs.test),
        ours.interval_s or from_duration(theirs.interval),
        ours.timeout_s or from_duration(theirs.timeout),
        ours.start_period_s or from_duration(theirs.start_period),
        ours.start_interval_s or from_duration(theirs.start_interval),
        ours.retries or theirs.retries,
    )


def _with_missing(values: tuple[str, ...], more: Iterable[str]) -> tuple[str, ...]:
    return (*values, *(value for value in more if value not in values))


def _check_platform(name: str, wanted: Platform, actual: images_pb2.Platform) -> None:
    found = Platform(actual.os, actual.architecture, actual.variant)
    if not wanted.accepts(found):
        raise NotFoundError(
            f"image with reference {name} was found but does not provide the specified platform "
            f"(wanted {wanted}, actual: {found})"
        )


def _platform_warning(actual: images_pb2.Platform) -> tuple[str, ...]:
    """Say, in Docker's words, that an image is probably not for this host."""
    host, found = host_platform(), Platform(actual.os, actual.architecture, actual.variant)
    if not found.architecture or host.accepts(found):
        return ()
    return (
        f"The requested image's platform ({found}) does not match the detected host platform ({host}) "
        "and no specific platform was requested",
    )


async def ensure_stack(engine: "Services", image: images_pb2.Image) -> str:
    """Return the chain ID of the image's snapshots; layers that were lost are unpacked again from their blobs."""
    request = layers_pb2.StackRequest(diff_ids=[layer.diff_id for layer in image.layers])
    try:
        with rpc_errors():
            return (await engine.layers.Stack(request)).chain_id
    except NotFoundError:
        for layer in image.layers:
            apply = layers_pb2.ApplyLayerRequest(descriptor=layer.descriptor, diff_id=layer.diff_id)
            with rpc_errors():
                async for _ in engine.layers.Apply(apply):
                    pass
        with rpc_errors():
            return (await engine.layers.Stack(request)).chain_id
