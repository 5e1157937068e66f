"""Mounts that are taken over from another container."""

import pytest

from sampan.docker.mounts import inherited, parse_volumes_from
from sampan.errors import InvalidArgumentError
from sampan.resource.container import MountPoint
from sampan.resource.container_spec import Mount, MountType


def test_volumes_from_takes_over_what_is_not_covered() -> None:
    points = [
        MountPoint(MountType.VOLUME, "/volumes/v", "/data", name="v", driver="local"),
        MountPoint(MountType.BIND, "/host", "/bound", propagation="rslave"),
        MountPoint(MountType.BIND, "/x", "/own"),
        MountPoint(MountType.TMPFS, "", "/tmp"),
    ]
    taken = inherited(points, [Mount(MountType.BIND, "/own")], read_only=True)
    assert [(mount.source, mount.target, mount.read_only) for mount in taken] == [
        ("v", "/data", True),
        ("/host", "/bound", True),
    ]
    assert taken[0].volume_driver == "local"
    assert (taken[0].no_copy, taken[1].propagation) == (True, "rslave")


def test_volumes_from_names_a_container_and_a_mode() -> None:
    assert parse_volumes_from("web:ro") == ("web", True)
    assert parse_volumes_from("web") == ("web", False)
    with pytest.raises(InvalidArgumentError, match="invalid mode: fast"):
        parse_volumes_from("web:fast")
