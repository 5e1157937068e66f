"""What a bundle has of what an owner's containers alone may ask for."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from runtimed.containers.check import check_spec
from runtimed.host.facts import CgroupLayout, Limits
from runtimed.oci.security.capabilities import oci_capabilities, security_capabilities
from sampan.errors import InvalidArgumentError, StartError
from sampan.resource.container_spec import (
    ContainerSpec,
    HugepageLimit,
    IdMapping,
    Namespaces,
    Process,
    Resources,
    Security,
)
from tests.unit.runtimed.bundle_values import HOST, RUN, container
from tests.unit.runtimed.oci.test_builder import config

UNIFIED = dataclasses.replace(HOST, layout=CgroupLayout.UNIFIED)


def spec(**fields: Any) -> ContainerSpec:
    return dataclasses.replace(ContainerSpec(process=RUN, owner="cri"), **fields)


def test_only_an_owner_s_parent_is_a_slice(tmp_path: Path) -> None:
    resources = Resources(cgroup_parent="a-b.slice")
    owned = config(tmp_path, container(spec(resources=resources)))
    assert owned["linux"]["cgroupsPath"] == f"/a.slice/a-b.slice/{'c' * 64}"
    docker_s = config(tmp_path, container(spec(resources=resources, owner="")))
    assert docker_s["linux"]["cgroupsPath"] == f"/a-b.slice/{'c' * 64}"


def test_ambient_capabilities_are_added_and_kept_by_other_users() -> None:
    security = Security(cap_drop=("ALL",), cap_add=("KILL",), cap_add_ambient=("NET_BIND_SERVICE",))
    everything, kept = security_capabilities(security, HOST.capabilities, privileged=False)
    assert (everything, kept) == (("CAP_KILL", "CAP_NET_BIND_SERVICE"), ("CAP_NET_BIND_SERVICE",))
    of_user = oci_capabilities(everything, 1000, kept)
    assert of_user["bounding"] == ["CAP_KILL", "CAP_NET_BIND_SERVICE"]
    for name in ("effective", "permitted", "inheritable", "ambient"):
        assert of_user[name] == ["CAP_NET_BIND_SERVICE"]
    assert oci_capabilities(everything, 0, kept)["effective"] == ["CAP_KILL", "CAP_NET_BIND_SERVICE"]


def test_a_name_that_is_no_capability_is_refused_among_ambient_ones_too() -> None:
    with pytest.raises(InvalidArgumentError, match='unknown capability: "CAP_NONE"'):
        check_spec(spec(security=Security(cap_add_ambient=("NONE",))), HOST, runtimes=())


def test_huge_pages_are_limited_where_that_can_be_and_told_where_not(tmp_path: Path) -> None:
    asked = spec(resources=Resources(hugepage_limits=(HugepageLimit("2MB", 1 << 21),)))
    resources = config(tmp_path, container(asked))["linux"]["resources"]
    assert resources["hugepageLimits"] == [{"pageSize": "2MB", "limit": 1 << 21}]
    without = dataclasses.replace(HOST, limits=Limits(hugepages=False))
    assert "hugepageLimits" not in config(tmp_path, container(asked), host=without)["linux"]["resources"]
    assert any("huge page limits" in warning for warning in check_spec(asked, without, runtimes=()))
    nothing = spec(resources=Resources(hugepage_limits=(HugepageLimit("2MB", 0),)))
    assert check_spec(nothing, without, runtimes=()) == ()  # as kubelet says of a size that a pod does not use


def test_files_of_cgroups_are_written_where_those_are_of_version_2(tmp_path: Path) -> None:
    asked = spec(resources=Resources(unified={"memory.high": "1000"}))
    assert config(tmp_path, container(asked), host=UNIFIED)["linux"]["resources"]["unified"] == {"memory.high": "1000"}
    assert check_spec(asked, UNIFIED, runtimes=()) == ()
    with pytest.raises(InvalidArgumentError, match=r"memory.high cannot be set: this host has cgroups of version 1"):
        check_spec(asked, HOST, runtimes=())


def test_namespaces_of_files_are_joined_and_nothing_is_set_in_them(tmp_path: Path) -> None:
    modes = Namespaces(network="ns:/proc/self/ns/net", ipc="ns:/proc/self/ns/ipc", uts="ns:/proc/self/ns/uts")
    found = config(tmp_path, container(spec(namespaces=modes, domainname="example.org")))
    paths = {one["type"]: one.get("path") for one in found["linux"]["namespaces"]}
    assert (paths["network"], paths["uts"]) == ("/proc/self/ns/net", "/proc/self/ns/uts")
    assert "hostname" not in found
    assert found["linux"]["sysctl"] == {}


def test_a_file_of_another_kind_is_not_joined(tmp_path: Path) -> None:
    for path, why in (("/proc/self/ns/uts", "it is none"), (str(tmp_path), "it is none"), ("/no", "No such file")):
        with pytest.raises(StartError, match=f"cannot join network namespace {path}: {why}"):
            config(tmp_path, container(spec(namespaces=Namespaces(network=f"ns:{path}"))))


def test_a_user_namespace_of_its_own_has_the_mappings(tmp_path: Path) -> None:
    mapping = IdMapping(0, 100_000, 65_536)
    modes = Namespaces(network="none", uid_mappings=(mapping,), gid_mappings=(mapping,))
    linux = config(tmp_path, container(spec(namespaces=modes)))["linux"]
    assert {"type": "user"} in linux["namespaces"]
    expected = [{"containerID": 0, "hostID": 100_000, "size": 65_536}]
    assert (linux["uidMappings"], linux["gidMappings"]) == (expected, expected)


def test_labels_are_the_process_s_and_its_mounts_where_the_host_has_them(tmp_path: Path) -> None:
    options = ("label=user:u", "label=role:r", "label=type:container_t", "label=level:s0:c1,c2")
    asked = container(spec(security=Security(options=options)))
    found = config(tmp_path, asked, host=dataclasses.replace(HOST, selinux=True))
    assert found["process"]["selinuxLabel"] == found["linux"]["mountLabel"] == "u:r:container_t:s0:c1,c2"
    without = config(tmp_path, asked)
    assert "selinuxLabel" not in without["process"]
    assert "mountLabel" not in without["linux"]


def test_strict_groups_are_those_that_were_named(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("me:x:5:5::/:\n")
    (tmp_path / "etc/group").write_text("me:x:5:\nwheel:x:10:me\n")

    def groups(*, strict: bool) -> list[int]:
        process = Process(cmd=("x",), user="me", additional_groups=("7",), strict_groups=strict)
        user: dict[str, list[int]] = config(tmp_path, container(spec(process=process)))["process"]["user"]
        return user["additionalGids"]

    assert groups(strict=False) == [5, 10, 7]
    assert groups(strict=True) == [5, 7]
