"""A volume as ``sampan volume inspect`` prints it."""

from typing import Any

from sampan.api.runtime.v1 import volumes_pb2 as pb
from sampan_cli.shape.times import shape_time
from sampan_cli.template.functions import NIL_MAP, GoMap


def shape_volume(volume: pb.Volume) -> dict[str, Any]:
    """Return everything that is known about a volume, under Docker's names."""
    return {
        "CreatedAt": shape_time(volume.created),
        "Driver": volume.driver,
        "Labels": GoMap(volume.labels) or NIL_MAP,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": GoMap(volume.options) or NIL_MAP,
        "Scope": "local",
    }
