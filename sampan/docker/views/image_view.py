"""An image in the shapes that Docker's clients know: of ``inspect``, of lists, its history, what its index leads to."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from sampan.docker.times import NEVER, rfc3339_ns
from sampan.json_types import JsonObject
from sampan.oci.descriptor import Descriptor
from sampan.oci.image_config import HealthCheck, RunConfig
from sampan.oci.platform import Platform
from sampan.resource.image import AnnotatedDescriptor, ImageDetails, ImageManifest, ManifestKind, SearchResult

Version = tuple[int, int]  # of Docker's API

COMMAND_LINE: Final[Version] = (1, 50)  # in whose shape the command line shows things, as docker 28 does

_SECOND_NS: Final = 1_000_000_000

# What Docker shows as repository and tag of an image that has none; clients before 1.43 expect it spelled out.
_NO_TAG: Final = "<none>:<none>"
_NO_DIGEST: Final = "<none>@<none>"


def inspect_json(image: ImageDetails, size_bytes: int, driver: str, version: Version = COMMAND_LINE) -> JsonObject:
    """Return everything, as GET /images/{name}/json does.

    ``size_bytes`` is that of its layers on disk, ``driver`` what holds them.
    """
    result: JsonObject = {
        "Id": image.id,
        "RepoTags": list(image.repo_tags),
        "RepoDigests": list(image.repo_digests),
        "Parent": image.parent,
        "Comment": image.comment,
        "Created": rfc3339_ns(image.created_ns) if image.created_ns is not None else NEVER,
        "DockerVersion": image.docker_version,
        "Author": image.author,
        "Config": config_json(image.config, version),
        "Architecture": image.platform.architecture,
    }
    if image.platform.variant:
        result["Variant"] = image.platform.variant
    result["Os"] = image.platform.os
    if image.os_version:
        result["OsVersion"] = image.os_version
    result |= {
        "Size": size_bytes,
        "GraphDriver": {"Data": None, "Name": driver},
        "RootFS": {"Type": "layers", "Layers": [layer.diff_id for layer in image.layers]},
        "Metadata": {"LastTagTime": rfc3339_ns(image.last_tagged_ns) if image.last_tagged_ns else NEVER},
    }
    if version < (1, 44):
        result["VirtualSize"] = size_bytes
    elif image.created_ns is None:
        del result["Created"]
    if version < (1, 45):
        result |= {"Container": "", "ContainerConfig": config_json(RunConfig(), version)}
    if version >= (1, 48) and image.target.digest:
        result["Descriptor"] = descriptor_json(image.target)
    return _without_nothing(result, _OF_OLD_BUILDERS) if version >= (1, 52) else result


def descriptor_json(descriptor: Descriptor) -> JsonObject:
    """Return a descriptor as the OCI image spec writes it."""
    result: JsonObject = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    annotations = descriptor.annotations if isinstance(descriptor, AnnotatedDescriptor) else None
    return result | ({"annotations": dict(annotations)} if annotations else {})


# What version 1.52 leaves out where it says nothing.
_OF_OLD_BUILDERS: Final = ("Parent", "Comment", "DockerVersion", "Author")
_OPTIONAL: Final = ("Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "User", "Volumes", "WorkingDir")

# What Docker showed of an image although only containers have it; version 1.50 left it out.
_OF_CONTAINERS: Final = (
    "Hostname",
    "Domainname",
    "AttachStdin",
    "AttachStdout",
    "AttachStderr",
    "Tty",
    "OpenStdin",
    "StdinOnce",
    "Image",
)


def config_json(config: RunConfig, version: Version) -> JsonObject:
    """Return an image's config the way Docker shows it; maps are in the order that Go gives them."""
    result: JsonObject = {
        "Hostname": "",
        "Domainname": "",
        "User": config.user,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
    }
    if config.exposed_ports:
        result["ExposedPorts"] = {port: {} for port in sorted(config.exposed_ports)}
    result |= {
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": list(config.env) or None,
        "Cmd": list(config.cmd) or None,
    }
    if config.health_check is not None:
        result["Healthcheck"] = _health_check(config.health_check)
    if config.args_escaped:
        result["ArgsEscaped"] = True
    result |= {
        "Image": "",
        "Volumes": {target: {} for target in sorted(config.volumes)} or None,
        "WorkingDir": config.working_dir,
        "Entrypoint": list(config.entrypoint) or None,
        "OnBuild": list(config.on_build) or None,
        "Labels": dict(sorted(config.labels.items())) or None,
    }
    if config.stop_signal:
        result["StopSignal"] = config.stop_signal
    if config.shell:
        result["Shell"] = list(config.shell)
    shown = {key: value for key, value in result.items() if version < (1, 50) or key not in _OF_CONTAINERS}
    return _without_nothing(shown, _OPTIONAL) if version >= (1, 52) else shown


def _without_nothing(shown: JsonObject, names: Collection[str]) -> JsonObject:
    """Return an object without those of its fields that say nothing."""
    return {key: value for key, value in shown.items() if value or key not in names}


def _health_check(check: HealthCheck) -> JsonObject:
    values = {
        "Interval": check.interval_ns,
        "Timeout": check.timeout_ns,
        "StartPeriod": check.start_period_ns,
        "StartInterval": check.start_interval_ns,
        "Retries": check.retries,
    }
    return {"Test": list(check.test)} | {key: value for key, value in values.items() if value}


def summary_json(
    image: ImageDetails, size: int, version: Version, *, shared_bytes: int = -1, containers: int = -1
) -> JsonObject:
    """Return one row of GET /images/json; -1 stands for what nobody has counted."""
    tags, digests = list(image.repo_tags), list(image.repo_digests)
    if version < (1, 43) and not (tags or digests):
        tags, digests = [_NO_TAG], [_NO_DIGEST]
    none: list[str] | None = [] if version >= (1, 43) else None
    result: JsonObject = {
        "Id": image.id,
        "ParentId": image.parent,
        "RepoTags": tags or none,
        "RepoDigests": digests or none,
        "Created": seconds(image.created_ns),
        "Size": size,
        "SharedSize": shared_bytes,
        "Labels": dict(image.config.labels) or None,
        "Containers": containers,
    }
    if version < (1, 44):
        result["VirtualSize"] = size
    if version >= (1, 48) and image.target.digest:
        result["Descriptor"] = descriptor_json(image.target)
    return result


def history_json(
    image: ImageDetails, layer_bytes: Iterable[int], ancestors: Sequence[ImageDetails] = ()
) -> list[JsonObject]:
    """Return the steps, newest first: the image itself, those that it was committed from, and steps without an ID.

    ``layer_bytes`` are the sizes of its layers, base first.
    """
    layers = iter(layer_bytes)
    rows: list[JsonObject] = []
    for step in image.history:
        size = 0 if step.empty_layer else next(layers, 0)
        rows.append(
            {
                "Id": "<missing>",
                "Created": seconds(step.created_ns),
                "CreatedBy": step.created_by,
                "Tags": None,
                "Size": size,
                "Comment": step.comment,
            }
        )
    rows.reverse()
    for row, one in zip(rows, (image, *ancestors), strict=False):
        row |= {"Id": one.id, "Tags": list(one.repo_tags) or None}
    return rows


def manifests_json(
    image: ImageDetails,
    others: Iterable[ImageDetails],
    unpacked_bytes: Callable[[ImageDetails], int],
    containers: Mapping[str, Sequence[str]],
) -> list[JsonObject]:
    """Return the manifests of one image; ``containers`` are the IDs of those that use an image, by its ID.


    A platform whose image is here, and unpacked, is among ``others``.
    """
    known: dict[str, ImageDetails] = {each.id: each for each in (*others, image)}
    return [_summary(each, image, known, unpacked_bytes, containers) for each in image.manifests]


def _summary(
    manifest: ImageManifest,
    image: ImageDetails,
    known: Mapping[str, ImageDetails],
    unpacked_bytes: Callable[[ImageDetails], int],
    containers: Mapping[str, Sequence[str]],
) -> JsonObject:
    own = known.get(manifest.image_id) if manifest.available else None
    unpacked = unpacked_bytes(own) if own else 0
    platform = manifest.platform or image.platform
    descriptor = descriptor_json(manifest.descriptor)
    if manifest.platform is not None:
        descriptor["platform"] = platform_json(platform)
    result: JsonObject = {
        "ID": manifest.descriptor.digest,
        "Descriptor": descriptor,
        "Available": manifest.available,
        "Size": {"Content": manifest.content_bytes, "Total": manifest.content_bytes + unpacked},
        "Kind": manifest.kind.value,
    }
    if manifest.kind is ManifestKind.IMAGE:
        result["ImageData"] = {
            "Platform": platform_json(platform),
            "Size": {"Unpacked": unpacked},
            "Containers": list(containers.get(manifest.image_id, ())),
        }
    elif manifest.kind is ManifestKind.ATTESTATION:
        result["AttestationData"] = {"For": manifest.attested_digest}
    return result


def platform_json(platform: Platform) -> dict[str, str]:
    """Return a platform as the OCI image spec writes it."""
    result = {"architecture": platform.architecture, "os": platform.os}
    return result | ({"variant": platform.variant} if platform.variant else {})


def result_json(found: SearchResult) -> JsonObject:
    """Return a row of what a search found."""
    return {
        "star_count": found.stars,
        "is_official": found.official,
        "name": found.name,
        "is_automated": False,  # as Docker says of all of them
        "description": found.description,
    }


def seconds(time_ns: int | None) -> int:
    """Return whole seconds since 1970, 0 for a time that nobody knows."""
    return (time_ns or 0) // _SECOND_NS
