"""An image as ``sampan image inspect`` prints it."""

from typing import Any

from sampan.api.image.v1 import images_pb2 as pb
from sampan_cli.shape.times import nanoseconds, shape_time
from sampan_cli.template.functions import GoMap


def shape_image(image: pb.Image) -> dict[str, Any]:
    """Return everything that is known about an image, under Docker's names."""
    return {
        "Id": image.id,
        "RepoTags": list(image.repo_tags),
        "RepoDigests": list(image.repo_digests),
        "Parent": image.parent,
        "Comment": image.comment,
        "Created": shape_time(image.created),
        "DockerVersion": image.docker_version,
        "Author": image.author,
        "Architecture": image.platform.architecture,
        "Variant": image.platform.variant,
        "Os": image.platform.os,
        "OsVersion": image.os_version,
        "Size": image.content_bytes,
        "Config": _config(image.config),
        "RootFS": {"Type": "layers", "Layers": [layer.diff_id for layer in image.layers]},
        "Metadata": {"LastTagTime": shape_time(image.last_tagged)},
        "Descriptor": {
            "mediaType": image.target.media_type,
            "digest": image.target.digest,
            "size": image.target.size,
        },
    }


def _config(config: pb.ImageConfig) -> dict[str, Any]:
    shaped: dict[str, Any] = {
        "User": config.user,
        "ExposedPorts": GoMap({port: {} for port in config.exposed_ports}),
        "Env": list(config.env),
        "Cmd": list(config.cmd) or None,
        "Volumes": GoMap({volume: {} for volume in config.volumes}) or None,
        "WorkingDir": config.working_dir,
        "Entrypoint": list(config.entrypoint) or None,
        "OnBuild": list(config.on_build) or None,
        "Labels": GoMap(config.labels),
        "StopSignal": config.stop_signal,
        "Shell": list(config.shell) or None,
    }
    if config.health_check.test:
        shaped["Healthcheck"] = {
            "Test": list(config.health_check.test),
            "Interval": nanoseconds(config.health_check.interval),
            "Timeout": nanoseconds(config.health_check.timeout),
            "StartPeriod": nanoseconds(config.health_check.start_period),
            "Retries": config.health_check.retries,
        }
    return shaped
