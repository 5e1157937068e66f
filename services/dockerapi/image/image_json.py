"""Images in the shapes that Docker's clients know."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from dockerapi.http.times import duration_ns, rfc3339, rfc3339_known
from dockerapi.http.versions import Version
from sampan.api.containerd.types import types_pb2
from sampan.api.image.v1 import images_pb2
from sampan.engine.remove import Step
from sampan.engine.sizes import Sizes

# What Docker shows as repository and tag of an image that has none; clients up to 1.43 expect it spelled out.
_NO_TAG: Final = "<none>:<none>"
_NO_DIGEST: Final = "<none>@<none>"


def inspect_json(image: images_pb2.Image, sizes: Sizes, driver: str, version: Version) -> dict[str, Any]:
    """Return everything, as GET /images/{name}/json does."""
    size = image_bytes(image, sizes)
    result: dict[str, Any] = {
        "Id": image.id,
        "RepoTags": list(image.repo_tags),
        "RepoDigests": list(image.repo_digests),
        "Parent": image.parent,
        "Comment": image.comment,
        "Created": rfc3339_known(image.created) if image.HasField("created") else "",
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
        "Size": size,
        "GraphDriver": {"Data": None, "Name": driver},
        "RootFS": {"Type": "layers", "Layers": [layer.diff_id for layer in image.layers]},
        "Metadata": {"LastTagTime": rfc3339(image.last_tagged)},
    }
    if version < (1, 44):
        result["VirtualSize"] = size
    if version < (1, 45):
        result |= {"Container": "", "ContainerConfig": config_json(images_pb2.ImageConfig(), version)}
    if version >= (1, 48) and image.target.digest:
        result["Descriptor"] = descriptor_json(image.target)
    return result


def descriptor_json(descriptor: types_pb2.Descriptor) -> dict[str, Any]:
    """Return a descriptor as the OCI image spec writes it."""
    result: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    return result | ({"annotations": dict(descriptor.annotations)} if descriptor.annotations else {})


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


def config_json(config: images_pb2.ImageConfig, version: Version) -> dict[str, Any]:
    """Return an image's config the way Docker shows it; maps are in the order that Go gives them."""
    result: dict[str, Any] = {
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
    if config.HasField("health_check"):
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
    return {key: value for key, value in result.items() if version < (1, 50) or key not in _OF_CONTAINERS}


def _health_check(check: images_pb2.HealthCheck) -> dict[str, Any]:
    values = {
        "Interval": duration_ns(check.interval),
        "Timeout": duration_ns(check.timeout),
        "StartPeriod": duration_ns(check.start_period),
        "StartInterval": duration_ns(check.start_interval),
        "Retries": check.retries,
    }
    return {"Test": list(check.test)} | {key: value for key, value in values.items() if value}


def image_bytes(image: images_pb2.Image, sizes: Sizes) -> int:
    """Return what an image's layers take on disk; those that are not unpacked count with the size of their blob."""
    return sizes.of(image)


def summary_json(
    image: images_pb2.Image, size: int, version: Version, *, shared_bytes: int = -1, containers: int = -1
) -> dict[str, Any]:
    """Return one row of GET /images/json; -1 stands for what nobody has counted."""
    tags, digests = list(image.repo_tags), list(image.repo_digests)
    if version < (1, 44) and not tags:
        tags, digests = [_NO_TAG], digests or [_NO_DIGEST]
    result: dict[str, Any] = {
        "Id": image.id,
        "ParentId": image.parent,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Created": image.created.seconds,
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
    image: images_pb2.Image, sizes: Sizes, ancestors: Sequence[images_pb2.Image] = ()
) -> list[dict[str, Any]]:
    """Return the steps, newest first: the image itself, those that it was committed from, and steps without an ID."""
    layers = iter(sizes.parts(image))
    rows: list[dict[str, Any]] = []
    for step in image.history:
        size = 0 if step.empty_layer else next(layers, 0)
        rows.append(
            {
                "Id": "<missing>",
                "Created": step.created.seconds,
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


def deletions_json(steps: Iterable[Step]) -> list[dict[str, str]]:
    """Return what a removal did."""
    return [{"Untagged" if step.untagged else "Deleted": step.name} for step in steps]
