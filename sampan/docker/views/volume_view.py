"""A volume in the shape that Docker's clients know."""

from sampan.docker.times import rfc3339
from sampan.resource.volume import Volume


def volume_json(volume: Volume) -> dict[str, object]:
    """Return a volume as every endpoint shows it."""
    return {
        "CreatedAt": rfc3339(volume.created),
        "Driver": volume.driver,
        "Labels": dict(volume.labels) or None,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": dict(volume.options) or None,
        "Scope": volume.scope or "local",
    }
