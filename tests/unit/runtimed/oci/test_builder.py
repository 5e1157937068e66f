"""What is written into config.json."""

import dataclasses
import json
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from runtimed.cgroups.naming import CgroupDriver, CgroupNames
from runtimed.oci.builder import OciBundles
from runtimed.oci.devices.nodes import oci_devices
from runtimed.oci.mountinfo import MountInfo, read_mounts
from runtimed.oci.mounts import build_mounts
from runtimed.oci.resources import changed_resources, oci_resources
from runtimed.oci.security.capabilities import DEFAULT, KNOWN, granted
from runtimed.oci.security.seccomp import default_profile, own_profile
from runtimed.protocol import NO_JOINS, Joins
from sampan.errors import InvalidArgumentError, StartError
from sampan.resource.container import Container, MountPoint
from sampan.resource.container_spec import (
    ContainerSpec,
    Device,
    Mount,
    MountType,
    Namespaces,
    Process,
    Resources,
    Security,
    Ulimit,
)
from tests.unit.runtimed.bundle_values import HOST, RUN, container


def config(tmp_path: Path, of: Container, joins: Joins = NO_JOINS, host: Any = HOST) -> dict[str, Any]:
    bundles = OciBundles(host, cgroups=CgroupNames("sampan"), runtimes=[])
    return bundles.config(of, tmp_path, files=tmp_path, init_path="/usr/bin/tini-static", joins=joins)


def test_environment_defaults_come_first_and_entries_replace_or_take_away(tmp_path: Path) -> None:
    process = Process(cmd=("x",), env=("PATH=/bin", "A=1", "A=2", "HOSTNAME", "LINES=a\nb"), tty=True)
    env = config(tmp_path, container(ContainerSpec(process=process)))["process"]["env"]
    assert env == ["PATH=/bin", "TERM=xterm", "A=2", "LINES=a\nb", "HOME=/"]


def test_the_cgroup_is_below_the_engines_or_the_given_parent(tmp_path: Path) -> None:
    assert config(tmp_path, container())["linux"]["cgroupsPath"] == "/sampan/" + "c" * 64
    own = ContainerSpec(process=RUN, resources=Resources(cgroup_parent="/mine/"))
    assert config(tmp_path, container(own))["linux"]["cgroupsPath"] == "/mine/" + "c" * 64


def test_a_scope_of_systemd_s_is_named_by_its_parts_and_holds_the_processes_itself(tmp_path: Path) -> None:
    bundles = OciBundles(HOST, cgroups=CgroupNames("sampan", CgroupDriver.SYSTEMD), runtimes=[])
    asked = container(ContainerSpec(process=RUN, resources=Resources(cgroup_parent="a-b.slice")))
    made = bundles.config(asked, tmp_path, files=tmp_path, init_path=None)
    assert made["linux"]["cgroupsPath"] == f"a-b.slice:sampan:{'c' * 64}"  # type: ignore[index]
    assert made["annotations"] == {"run.oci.systemd.subgroup": ""}
    assert config(tmp_path, container())["annotations"] == {}
    limited = dataclasses.replace(asked, spec=ContainerSpec(process=RUN, resources=Resources(pids_limit=50)))
    told = bundles.config(limited, tmp_path, files=tmp_path, init_path=None)["annotations"]
    assert told == {"run.oci.systemd.subgroup": "", "org.systemd.property.TasksMax": "uint64 50"}


def test_swap_is_twice_the_memory_unless_chosen(tmp_path: Path) -> None:
    def memory(**fields: int) -> dict[str, Any]:
        spec = ContainerSpec(process=RUN, resources=Resources(**fields))  # type: ignore[arg-type]
        return config(tmp_path, container(spec))["linux"]["resources"].get("memory", {})  # type: ignore[no-any-return]

    assert memory(memory_bytes=100) == {"limit": 100, "swap": 200}
    assert memory(memory_bytes=100, memory_swap_bytes=-1) == {"limit": 100, "swap": -1}
    assert memory() == {}


def test_limits_above_the_engines_own_are_lowered(tmp_path: Path) -> None:
    spec = ContainerSpec(process=RUN, resources=Resources(ulimits=(Ulimit("nofile", 5, -1), Ulimit("core", 0, 0))))
    assert config(tmp_path, container(spec))["process"]["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 5, "hard": 20000},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]


def test_joined_namespaces_are_paths_and_must_have_been_found(tmp_path: Path) -> None:
    spec = ContainerSpec(
        process=RUN, namespaces=Namespaces(network="container:x", pid="container:x", ipc="container:x")
    )
    joins = Joins(network="/proc/7/ns/net", pid="/proc/7/ns/pid", ipc="/proc/7/ns/ipc", shm="/run/shm")
    linux = config(tmp_path, container(spec), joins)["linux"]
    assert {"type": "network", "path": "/proc/7/ns/net"} in linux["namespaces"]
    assert {"type": "pid", "path": "/proc/7/ns/pid"} in linux["namespaces"]
    assert linux["sysctl"] == {}
    with pytest.raises(StartError, match="cannot join network namespace of a non running container: x"):
        config(tmp_path, container(spec))


def test_init_needs_an_own_pid_namespace(tmp_path: Path) -> None:
    made = config(tmp_path, container(ContainerSpec(process=RUN, init=True)))
    assert made["process"]["args"] == ["/sbin/docker-init", "--", "true"]
    shared = ContainerSpec(process=RUN, init=True, namespaces=Namespaces(pid="host"))
    assert config(tmp_path, container(shared))["process"]["args"] == ["true"]


def test_privileged_hides_nothing_and_filters_nothing(tmp_path: Path) -> None:
    linux = config(tmp_path, container(ContainerSpec(process=RUN, security=Security(privileged=True))))["linux"]
    assert linux["maskedPaths"] == linux["readonlyPaths"] == []
    assert "seccomp" not in linux
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]


def test_system_paths_and_seccomp_can_be_unconfined(tmp_path: Path) -> None:
    options = ("systempaths=unconfined", "seccomp=unconfined", "no-new-privileges:true")
    made = config(tmp_path, container(ContainerSpec(process=RUN, security=Security(options=options))))
    assert made["linux"]["maskedPaths"] == []
    assert "seccomp" not in made["linux"]
    assert made["process"]["noNewPrivileges"] is True


def test_a_user_that_is_not_root_has_capabilities_in_the_bounding_set_alone(tmp_path: Path) -> None:
    process = dataclasses.replace(RUN, user="5")
    capabilities = config(tmp_path, container(ContainerSpec(process=process)))["process"]["capabilities"]
    assert list(capabilities) == ["bounding"]
    assert set(capabilities["bounding"]) == set(DEFAULT)


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ((), (), set(DEFAULT)),
        (("net_admin",), ("CAP_CHOWN",), (set(DEFAULT) | {"CAP_NET_ADMIN"}) - {"CAP_CHOWN"}),
        (("ALL",), ("SYS_ADMIN",), set(KNOWN) - {"CAP_SYS_ADMIN"}),
        (("CHOWN",), ("all",), {"CAP_CHOWN"}),
    ],
)
def test_capabilities_are_added_and_dropped(add: tuple[str, ...], drop: tuple[str, ...], expected: set[str]) -> None:
    assert set(granted(add, drop, KNOWN, privileged=False)) == expected


def seccomp_action(profile: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [rule for rule in profile["syscalls"] if name in rule["names"]]


@pytest.mark.parametrize("x32", [True, False])
def test_the_filter_is_compiled_for_x32_only_where_the_kernel_has_it(x32: bool) -> None:
    architectures = default_profile(DEFAULT, "x86_64", x32=x32)["architectures"]
    assert architectures == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", *(["SCMP_ARCH_X32"] if x32 else [])]


def test_the_default_profile_allows_mounting_with_sys_admin_alone() -> None:
    plain: dict[str, Any] = default_profile(DEFAULT, "x86_64")
    assert plain["defaultAction"] == "SCMP_ACT_ERRNO"
    for name in ("mount", "unshare", "setns", "bpf", "init_module", "reboot", "io_uring_setup", "keyctl", "add_key"):
        assert seccomp_action(plain, name) == []
    assert seccomp_action(plain, "clone3") == [{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]
    (clone,) = seccomp_action(plain, "clone")
    assert clone["args"] == [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]
    more: dict[str, Any] = default_profile([*DEFAULT, "CAP_SYS_ADMIN"], "x86_64")
    assert seccomp_action(more, "mount")
    assert "args" not in seccomp_action(more, "clone")[0]


def test_the_names_in_the_default_profile_are_there_once() -> None:
    profile: dict[str, Any] = default_profile(DEFAULT)
    names = profile["syscalls"][0]["names"]
    assert len(names) == len(set(names))


def test_an_own_profile_is_cut_to_the_capabilities_and_the_machine() -> None:
    text = json.dumps(
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
            "syscalls": [
                {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"name": "bpf", "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}},
                {"names": ["old"], "action": "SCMP_ACT_KILL", "includes": {"arches": ["s390x"]}},
                {"names": ["new"], "action": "SCMP_ACT_LOG", "includes": {"minKernel": "99.0"}},
            ],
        }
    )
    profile = own_profile(text, DEFAULT, "x86_64")
    assert profile is not None
    assert profile["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert profile["syscalls"] == [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]


@pytest.mark.parametrize(
    "profile",
    [
        {"syscalls": [{"names": ["x"], "action": "SCMP_ACT_ALLOW"}]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": 3},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["x"]}]},
        {"defaultAction": "x", "architectures": ["a"], "archMap": [{}]},
        {"defaultAction": "x", "syscalls": [{"names": ["x"], "action": "y", "includes": {"caps": ["CAP_NOSUCH"]}}]},
    ],
)
def test_a_profile_of_the_wrong_form_is_refused(profile: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="Decoding seccomp profile failed"):
        own_profile(json.dumps(profile), DEFAULT)


@pytest.mark.parametrize("text", ["{}", "null", '{"syscalls": []}', '{"architectures": ["SCMP_ARCH_X86"]}'])
def test_a_profile_that_says_nothing_filters_nothing(text: str) -> None:
    assert own_profile(text, DEFAULT) is None


def test_an_operator_that_there_is_not_is_named() -> None:
    rule = {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 1, "op": "SCMP_CMP_BAD"}]}
    with pytest.raises(InvalidArgumentError, match="string SCMP_CMP_BAD is not a valid operator for seccomp"):
        own_profile(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}), DEFAULT)


def test_a_directory_without_a_device_is_no_device(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match=f'adding custom device "{tmp_path}": not a device node'):
        oci_devices([Device(str(tmp_path), str(tmp_path), "rwm")], [], privileged=False)


def test_a_privileged_container_has_a_device_by_its_other_name_too() -> None:
    asked = [Device("/dev/null", "/dev/nothing", "rwm"), Device("/dev/nosuch", "/dev/nosuch", "rwm")]
    nodes, rules = oci_devices(asked, [], privileged=True)
    by_path = {node["path"]: node for node in nodes}
    assert by_path["/dev/nothing"] == by_path["/dev/null"] | {"path": "/dev/nothing"}
    assert "/dev/nosuch" not in by_path  # which Docker does not look for either
    assert [rule["allow"] for rule in rules] == [True]


def mounts_of(spec: ContainerSpec, *points: MountPoint, joins: Joins = NO_JOINS) -> dict[str, tuple[str, ...]]:
    table = (MountInfo("/", shared=False, slave=False), MountInfo("/shared", shared=True, slave=False))
    made = build_mounts(container(spec, *points), files=Path("/nosuch"), init_path=None, joins=joins, mount_table=table)
    return {mount.destination: mount.options for mount in made.mounts}


def test_the_default_mounts_are_dockers() -> None:
    mounts = mounts_of(ContainerSpec(process=RUN))
    assert list(mounts) == ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"]
    assert "ro" in mounts["/sys"]
    assert "ro" in mounts["/sys/fs/cgroup"]
    assert f"size={64 << 20}" in mounts["/dev/shm"]


def test_an_own_mount_takes_the_place_of_a_default_one_and_of_all_below_dev() -> None:
    over_dev = ContainerSpec(process=RUN, mounts=(Mount(MountType.TMPFS, "/dev/"),))
    assert list(mounts_of(over_dev)) == ["/proc", "/sys", "/sys/fs/cgroup", "/dev"]


def test_mounts_are_ordered_by_depth_whatever_order_they_were_given_in() -> None:
    points = (MountPoint(MountType.BIND, "/s", "/a/b/c"), MountPoint(MountType.BIND, "/s", "/a"))
    spec = ContainerSpec(process=RUN, mounts=(Mount(MountType.TMPFS, "/a/b"),))
    assert list(mounts_of(spec, *points))[-3:] == ["/a", "/a/b", "/a/b/c"]


def test_a_target_in_proc_is_refused_however_it_is_written() -> None:
    for target in ("/proc/sys", "//proc/sys", "/x/../proc/1"):
        with pytest.raises(StartError, match="inside /proc"):
            mounts_of(ContainerSpec(process=RUN), MountPoint(MountType.BIND, "/s", target))
    assert "/proc/cpuinfo" in mounts_of(ContainerSpec(process=RUN), MountPoint(MountType.BIND, "/s", "/proc/cpuinfo"))


def test_shared_propagation_needs_a_shared_source_and_a_shared_root() -> None:
    spec = ContainerSpec(process=RUN)
    with pytest.raises(StartError, match="path /etc is mounted on / but it is not a shared mount"):
        mounts_of(spec, MountPoint(MountType.BIND, "/etc", "/x", propagation="rshared"))
    table = (MountInfo("/", shared=True, slave=False),)
    point = MountPoint(MountType.BIND, "/etc", "/x", propagation="rslave")
    made = build_mounts(
        container(spec, point), files=Path("/nosuch"), init_path=None, joins=NO_JOINS, mount_table=table
    )
    assert made.root_propagation == "rslave"


def test_what_is_mounted_below_a_read_only_directory_is_read_only_too_and_a_file_has_nothing_there(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    for source, options in (
        (tmp_path, ["rbind", "rprivate", "ro", "rro"]),
        (tmp_path / "file", ["rbind", "rprivate", "ro"]),
    ):
        point = MountPoint(MountType.BIND, str(source), "/x", read_write=False)
        made = build_mounts(
            container(ContainerSpec(process=RUN), point),
            files=Path("/nosuch"), init_path=None, joins=NO_JOINS, recursive_read_only=True,
        )  # fmt: skip
        (mount,) = [each for each in made.mounts if each.destination == "/x"]
        assert list(mount.options) == options


def test_ipc_decides_about_dev_shm() -> None:
    assert "/dev/shm" not in mounts_of(ContainerSpec(process=RUN, namespaces=Namespaces(ipc="none")))
    host = mounts_of(ContainerSpec(process=RUN, namespaces=Namespaces(ipc="host")))
    assert host["/dev/shm"][0] == "rbind"
    shared = ContainerSpec(process=RUN, namespaces=Namespaces(ipc="shareable"))
    assert mounts_of(shared, joins=Joins(shm="/run/x"))["/dev/shm"][0] == "rbind"


def test_the_mount_table_is_read_with_its_escapes() -> None:
    text = b"1 0 8:1 / / rw shared:1 - ext4 /dev/sda rw\n2 1 8:1 /x /a\\040b rw master:1 shared:2 - ext4 /dev/sda rw\n"
    assert read_mounts(text) == (
        MountInfo("/", shared=True, slave=False),
        MountInfo("/a b", shared=True, slave=True),
    )


def test_the_mount_table_has_paths_with_whatever_ends_lines_elsewhere() -> None:
    names = ("/\r", "/\u2028\x85", "/\v\f\x1c", "/\udcff", "/\xe9")
    lines = [f"2 1 8:1 /x {name} rw - ext4 /dev/sda rw\n" for name in names]
    content = "".join(lines).encode(errors="surrogateescape")
    assert [mount.target for mount in read_mounts(content)] == list(names)
    assert not read_mounts(b"")


def test_an_update_says_how_many_processes_are_no_limit() -> None:
    """A new group has none; one that had a limit gets the most that there can be, for crun does not know "max"."""
    unlimited = Resources(pids_limit=-1, memory_bytes=64 << 20)
    assert "pids" not in oci_resources(unlimited, HOST, [])
    assert changed_resources(unlimited, HOST) == {"memory": ANY, "pids": {"limit": 1 << 22}}
    assert "pids" not in changed_resources(Resources(), HOST)
