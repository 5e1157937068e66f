"""What can be wrong with a mount, in whichever form it was asked for."""

import pytest

from sampan.docker.options.mounts import check_mounts, check_volume_name, mount_type, normal
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Mount, MountType

BIND, VOLUME, TMPFS, IMAGE = MountType.BIND, MountType.VOLUME, MountType.TMPFS, MountType.IMAGE


def test_types_are_known_in_any_case() -> None:
    assert mount_type("Bind") is BIND
    with pytest.raises(InvalidArgumentError, match='invalid mount config for type "npipe": mount type unknown'):
        mount_type("npipe")


def test_two_names_of_one_place_are_one_target() -> None:
    assert normal("//a/./b/../c/") == "/a/c"
    with pytest.raises(InvalidArgumentError, match="Duplicate mount point: /b"):
        check_mounts([Mount(BIND, "/b", "/a"), Mount(TMPFS, "/x/../b")])


@pytest.mark.parametrize(
    ("mount", "trouble"),
    [
        (Mount(VOLUME, ""), "field Target must not be empty"),
        (Mount(VOLUME, "b"), "invalid mount path: 'b' mount path must be absolute"),
        (Mount(VOLUME, "/."), "invalid specification: destination can't be '/'"),
        (Mount(VOLUME, "/a\0"), "the mount path has a NUL byte in it"),
        (Mount(VOLUME, "/a", read_only=True), "must not set ReadOnly mode when using anonymous volumes"),
        (Mount(VOLUME, "/a", "data", propagation="rslave"), "field BindOptions must not be specified"),
        (Mount(VOLUME, "/a", "data", create_source=True), "field BindOptions must not be specified"),
        (Mount(BIND, "/a"), "field Source must not be empty"),
        (Mount(BIND, "/a", "b"), "invalid mount path: 'b' mount path must be absolute"),
        (Mount(BIND, "/a", "/b\0"), "the source path has a NUL byte in it"),
        (Mount(BIND, "/a", "/b", propagation="sideways"), "invalid propagation mode: sideways"),
        (Mount(BIND, "/a", "/b", options=("noexec", "suid")), "unknown option suid"),
        (Mount(BIND, "/a", "/b", no_copy=True), "field VolumeOptions must not be specified"),
        (Mount(BIND, "/a", "/b", volume_labels={"a": "b"}), "field VolumeOptions must not be specified"),
        (Mount(TMPFS, "/a", "/b"), "field Source must not be specified"),
        (Mount(TMPFS, "/a", non_recursive=True), "field BindOptions must not be specified"),
        (Mount(VOLUME, "/a", subpath="b"), "must not set Subpath when using anonymous volumes"),
        (Mount(VOLUME, "/a", "data", subpath="/b"), "subpath must be a relative path within the volume"),
        (Mount(VOLUME, "/a", "data", subpath="b/../../c"), "subpath must be a relative path within the volume"),
        (Mount(VOLUME, "/a", "data", subpath="b\0"), "the subpath has a NUL byte in it"),
        (Mount(IMAGE, "/a", "tools", subpath=".."), "subpath must be a relative path within the volume"),
        (Mount(IMAGE, "/a"), "field Source must not be empty"),
        (Mount(IMAGE, "/a", "tools", propagation="rslave"), "field BindOptions must not be specified"),
        (Mount(IMAGE, "/a", "tools", no_copy=True), "field VolumeOptions must not be specified"),
        (Mount(BIND, "/a", "/b", subpath="c"), "field VolumeOptions must not be specified"),
    ],
)
def test_a_mount_that_cannot_be_meant_is_refused_by_its_type(mount: Mount, trouble: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        check_mounts([mount])
    assert str(refused.value) == f'invalid mount config for type "{mount.type.value}": {trouble}'


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        ("a", "volume name is too short, names should be at least two alphanumeric characters"),
        ("a/b", "includes invalid characters for a local volume name"),
        ("a" * 250, "is too long for a volume name"),
    ],
)
def test_a_name_that_no_local_volume_has_is_refused(name: str, trouble: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^create {name}: .*{trouble}"):
        check_volume_name(name)
