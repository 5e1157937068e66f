"""An image as ``sampan image inspect`` prints it: as Docker's API 1.50 does."""

from typing import Any

from sampan.api.image.v1 import images_pb2 as pb
from sampan_cli.shape.times import NEVER, nanoseconds, shape_time
from sampan_cli.template.functions import GoMap


def shape_image(image: pb.Image, size_bytes: int, driver: str) -> dict[str, Any]:
    """Return everything that is known about an image, under Docker's names.

    ``size_bytes`` is that of its layers on disk, ``driver`` what holds them.
    """
    shaped: dict[str, Any] = {
        "Id": image.id,
        "RepoTags": list(image.repo_tags),
        "RepoDigests": list(image.repo_digests),
        "Parent": image.parent,
        "Comment": image.comment,
        "Created": "" if (created := shape_time(image.created)) == NEVER else created,
        "DockerVersion": image.docker_version,
        "Author": image.author,
        "Config": _config(image.config),
        "Architecture": image.platform.architecture,
    }
    if image.platform.variant:
        shaped["Variant"] = image.platform.variant
    shaped["Os"] = image.platform.os
    if image.os_version:
        shaped["OsVersion"] = image.os_version
    target = image.target
    return shaped | {
        "Size": size_bytes,
        "GraphDriver": {"Data": None, "Name": driver},
        "RootFS": {"Type": "layers", "Layers": [layer.diff_id for layer in image.layers]},
        "Metadata": {"LastTagTime": shape_time(image.last_tagged)},
        "Descriptor": {"mediaType": target.media_type, "digest": target.digest, "size": target.size},
    }


def _config(config: pb.ImageConfig) -> dict[str, Any]:
    shaped: dict[str, Any] = {"User": config.user}
    if config.exposed_ports:
        shaped["ExposedPorts"] = GoMap({port: {} for port in sorted(config.exposed_ports)})
    shaped |= {"Env": list(config.env) or None, "Cmd": list(config.cmd) or None}
    if config.HasField("health_check"):
        shaped["Healthcheck"] = _health_check(config.health_check)
    if config.args_escaped:
        shaped["ArgsEscaped"] = True
    shaped |= {
        "Volumes": GoMap({volume: {} for volume in sorted(config.volumes)}) or None,
        "WorkingDir": config.working_dir,
        "Entrypoint": list(config.entrypoint) or None,
        "OnBuild": list(config.on_build) or None,
        "Labels": GoMap(sorted(config.labels.items())) or None,
    }
    if config.stop_signal:
        shaped["StopSignal"] = config.stop_signal
    if config.shell:
        shaped["Shell"] = list(config.shell)
    return shaped


def _health_check(check: pb.HealthCheck) -> dict[str, Any]:
    values = {
        "Interval": nanoseconds(check.interval),
        "Timeout": nanoseconds(check.timeout),
        "StartPeriod": nanoseconds(check.start_period),
        "StartInterval": nanoseconds(check.start_interval),
        "Retries": check.retries,
    }
    return {"Test": list(check.test)} | {key: value for key, value in values.items() if value}
