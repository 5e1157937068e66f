"""How control groups are named, by whichever driver."""

from pathlib import Path

import pytest

from runtimed.cgroups.naming import CgroupDriver, CgroupNames, is_scope, oci_path, read_driver, slice_path
from sampan.errors import InvalidArgumentError

CGROUPFS = CgroupNames("sampan")
SYSTEMD = CgroupNames("sampan-ab12", CgroupDriver.SYSTEMD)
ID = "c" * 64


@pytest.mark.parametrize(
    ("parent", "path"),
    [
        ("kubepods-burstable-pod1.slice", "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice"),
        ("kubepods.slice", "kubepods.slice"),
        ("-.slice", "/"),
        ("/kubepods/besteffort/pod1", "/kubepods/besteffort/pod1"),
        ("/kubepods.slice/kubepods-pod1.slice", "/kubepods.slice/kubepods-pod1.slice"),
    ],
)
def test_a_slice_is_below_those_that_its_name_begins_with(parent: str, path: str) -> None:
    assert slice_path(parent) == path


@pytest.mark.parametrize(
    ("parent", "owned", "path"),
    [
        ("", False, f"/sampan/{ID}"),
        ("/mine/", False, f"/mine/{ID}"),
        ("a-b.slice", False, f"/a-b.slice/{ID}"),
        ("a-b.slice", True, f"/a.slice/a-b.slice/{ID}"),
        ("-.slice", True, f"/{ID}"),
        ("/kubepods/pod1", True, f"/kubepods/pod1/{ID}"),
    ],
)
def test_cgroupfs_has_a_directory_for_each(parent: str, owned: bool, path: str) -> None:
    assert CGROUPFS.path(ID, parent, owned=owned) == path
    assert not is_scope(path)
    assert oci_path(path) == path


@pytest.mark.parametrize(
    ("parent", "owned", "above", "slice"),
    [
        ("", False, "/system.slice", "system.slice"),
        ("", True, "/system.slice", "system.slice"),
        ("-.slice", False, "", "-.slice"),
        ("a-b.slice", False, "/a.slice/a-b.slice", "a-b.slice"),
        ("kubepods-pod1.slice", True, "/kubepods.slice/kubepods-pod1.slice", "kubepods-pod1.slice"),
        ("/kubepods.slice/kubepods-pod1.slice", True, "/kubepods.slice/kubepods-pod1.slice", "kubepods-pod1.slice"),
    ],
)
def test_systemd_has_a_scope_in_a_slice(parent: str, owned: bool, above: str, slice: str) -> None:
    path = SYSTEMD.path(ID, parent, owned=owned)
    assert path == f"{above}/sampan-ab12-{ID}.scope"
    assert is_scope(path)
    assert oci_path(path) == f"{slice}:sampan-ab12:{ID}"


@pytest.mark.parametrize("parent", ["/kubepods/pod1", "mine", ".slice", "a--b.slice", "-a.slice", "a-.slice", "/"])
@pytest.mark.parametrize("owned", [True, False])
def test_systemd_takes_slices_alone_for_parents(parent: str, owned: bool) -> None:
    with pytest.raises(InvalidArgumentError, match=r'should be a valid slice named as "xxx[.]slice"'):
        SYSTEMD.path(ID, parent, owned=owned)


def test_docker_names_a_slice_and_no_path_of_one() -> None:
    with pytest.raises(InvalidArgumentError, match="valid slice"):
        SYSTEMD.path(ID, "/a.slice/a-b.slice")


def test_a_driver_is_one_of_two_and_systemd_one_where_it_is_the_init(tmp_path: Path) -> None:
    assert read_driver("cgroupfs", tmp_path / "none") is CgroupDriver.CGROUPFS
    assert read_driver("systemd", tmp_path) is CgroupDriver.SYSTEMD
    with pytest.raises(InvalidArgumentError, match="cgroup_driver is systemd, which is not the init of this machine"):
        read_driver("systemd", tmp_path / "none")
    with pytest.raises(InvalidArgumentError, match="cgroup_driver is 'runit': cgroupfs and systemd are known"):
        read_driver("runit", tmp_path)
