"""Mounts in the four forms that clients send."""

from typing import Any

import pytest

from dockerapi.container.mount_specs import mounts, parse_mount
from dockerapi.http.fields import Fields
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import MountType


def test_mount_objects_of_each_type() -> None:
    bind = parse_mount(Fields({"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True}, ""))
    assert (bind.type, bind.read_only, bind.create_source) == (MountType.BIND, True, False)
    options = {"NoCopy": True, "DriverConfig": {"Name": "local", "Options": {"type": "tmpfs"}}, "Labels": {"a": "b"}}
    volume = parse_mount(Fields({"Type": "volume", "Source": "v", "Target": "/b", "VolumeOptions": options}, ""))
    assert (volume.type, volume.no_copy, dict(volume.volume_options)) == (MountType.VOLUME, True, {"type": "tmpfs"})
    limits = {"SizeBytes": 1 << 20, "Mode": 0o1777, "Options": [["noexec"], ["uid", "5"]]}
    tmpfs = parse_mount(Fields({"Type": "tmpfs", "Target": "/t", "TmpfsOptions": limits}, ""))
    assert (tmpfs.tmpfs_size_bytes, tmpfs.tmpfs_mode, list(tmpfs.options)) == (1 << 20, 0o1777, ["noexec", "uid=5"])


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"Type": "npipe", "Target": "/x"}, 'invalid mount config for type "npipe": mount type unknown'),
        ({"Target": "/x"}, 'invalid mount config for type "": mount type unknown'),
        (
            {"Type": "volume", "Source": "v", "Target": "/x", "ImageOptions": {"Subpath": "a"}},
            'invalid mount config for type "volume": field ImageOptions must not be specified',
        ),
        (
            {"Type": "image", "Source": "i", "Target": "/x", "VolumeOptions": {"Subpath": "a"}},
            'invalid mount config for type "image": field VolumeOptions must not be specified',
        ),
    ],
)
def test_mount_objects_that_cannot_be_are_refused(sent: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        parse_mount(Fields(sent, ""))


def test_all_forms_add_up_in_order() -> None:
    host = {
        "Binds": ["/a:/1"],
        "Mounts": [{"Type": "volume", "Target": "/2"}],
        "Tmpfs": {"/3": "size=64m,noexec"},
    }
    found = mounts(Fields(host, ""))
    assert [(mount.target, mount.type) for mount in found] == [
        ("/1", MountType.BIND),
        ("/2", MountType.VOLUME),
        ("/3", MountType.TMPFS),
    ]
    assert list(found[2].options) == ["size=64m", "noexec"]
