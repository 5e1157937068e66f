"""An image as ``sampan image inspect`` prints it: as Docker's API 1.50 does."""

from typing import Any

from sampan.api.image.v1 import images_pb2 as pb
from sampan.docker.times import rfc3339_ns
from sampan_cli.shape.times import nanoseconds, shape_time
from sampan_cli.template.functions import (
    ABSENT,
    ABSENT_LIST,
    ABSENT_MAP,
    ABSENT_TEXT,
    NIL_LIST,
    NIL_MAP,
    GoMap,
    Nil,
)


def shape_image(image: pb.Image, size_bytes: int, driver: str) -> dict[str, Any]:
    """Return everything that is known about an image, under Docker's names.

    ``size_bytes`` is that of its layers on disk, ``driver`` what holds them.
    """
    target = image.target
    return {
        "Id": image.id,
        "RepoTags": list(image.repo_tags),
        "RepoDigests": list(image.repo_digests),
        "Parent": image.parent,
        "Comment": image.comment,
        "Created": rfc3339_ns(image.created.ToNanoseconds()) if image.HasField("created") else "",
        "DockerVersion": image.docker_version,
        "Author": image.author,
        "Config": _config(image.config),
        "Architecture": image.platform.architecture,
        "Variant": image.platform.variant or ABSENT_TEXT,
        "Os": image.platform.os,
        "OsVersion": image.os_version or ABSENT_TEXT,
        "Size": size_bytes,
        "GraphDriver": {"Data": NIL_MAP, "Name": driver},
        "RootFS": {"Type": "layers", "Layers": [layer.diff_id for layer in image.layers]},
        "Metadata": {"LastTagTime": shape_time(image.last_tagged)},
        "Descriptor": {"mediaType": target.media_type, "digest": target.digest, "size": target.size},
    }


def _config(config: pb.ImageConfig) -> dict[str, Any]:
    return {
        "User": config.user,
        "ExposedPorts": GoMap({port: {} for port in sorted(config.exposed_ports)}) or ABSENT_MAP,
        "Env": list(config.env) or NIL_LIST,
        "Cmd": list(config.cmd) or NIL_LIST,
        "Healthcheck": _health_check(config.health_check) if config.HasField("health_check") else ABSENT,
        "ArgsEscaped": config.args_escaped or Nil("false", omitted=True),
        "Volumes": GoMap({volume: {} for volume in sorted(config.volumes)}) or NIL_MAP,
        "WorkingDir": config.working_dir,
        "Entrypoint": list(config.entrypoint) or NIL_LIST,
        "OnBuild": list(config.on_build) or NIL_LIST,
        "Labels": GoMap(sorted(config.labels.items())) or NIL_MAP,
        "StopSignal": config.stop_signal or ABSENT_TEXT,
        "Shell": list(config.shell) or ABSENT_LIST,
    }


def _health_check(check: pb.HealthCheck) -> dict[str, Any]:
    values = {
        "Interval": nanoseconds(check.interval),
        "Timeout": nanoseconds(check.timeout),
        "StartPeriod": nanoseconds(check.start_period),
        "StartInterval": nanoseconds(check.start_interval),
        "Retries": check.retries,
    }
    return {"Test": list(check.test)} | {key: value for key, value in values.items() if value}
