"""Mounts in the four forms that clients send."""

from typing import Any

import pytest

from dockerapi.container.mount_specs import mounts, parse_bind, parse_mount
from dockerapi.http.fields import Fields
from sampan.docker.mounts import parse_volumes_from
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import MountType


def test_an_absolute_source_is_bound_and_made_if_missing() -> None:
    mount = parse_bind("/host:/target:ro,rshared")
    assert (mount.type, mount.source, mount.target) == (MountType.BIND, "/host", "/target")
    assert (mount.read_only, mount.propagation, mount.create_source) == (True, "rshared", True)


def test_a_name_is_a_volume() -> None:
    mount = parse_bind("data:/var/lib:nocopy")
    assert (mount.type, mount.source, mount.no_copy, mount.create_source) == (MountType.VOLUME, "data", True, False)


def test_a_target_alone_is_an_anonymous_volume() -> None:
    mount = parse_bind("/data")
    assert (mount.type, mount.source, mount.target) == (MountType.VOLUME, "", "/data")


@pytest.mark.parametrize("text", ["", ":", "a::b", "/a:/b:ro:x", "/a:ro", "/a:/"])
def test_other_specifications_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid volume specification"):
        parse_bind(text)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="invalid mode: rw,fast"):
        parse_bind("/a:/b:rw,fast")


@pytest.mark.parametrize("mode", ["ro,rw", "z,Z", "private,rslave", "copy,nocopy"])
def test_two_words_of_a_kind_are_no_mode(mode: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"invalid mode: {mode}"):
        parse_bind(f"/a:/b:{mode}")
    with pytest.raises(InvalidArgumentError, match=f"invalid mode: {mode}"):
        parse_volumes_from(f"web:{mode}")


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
        ({"Target": "/x"}, "mount type unknown"),
        ({"Type": "volume"}, "field Target must not be empty"),
        ({"Type": "bind", "Target": "/x"}, "field Source must not be empty"),
        ({"Type": "tmpfs", "Target": "/x", "Source": "/y"}, "field Source must not be specified"),
    ],
)
def test_bad_mount_objects_are_refused(sent: dict[str, Any], message: str) -> None:
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
