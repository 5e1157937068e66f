"""Every field that kubelet can set reaches runtimed, or is refused by name."""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from crid.containers.model import Image
from crid.containers.security import security_of
from crid.containers.spec import check_container, container_spec
from crid.model import config as c
from crid.model.security import (
    Capability,
    ContainerSecurity,
    IDMapping,
    NamespaceMode,
    NamespaceOption,
    Number,
    ProfileType,
    SecurityProfile,
    SELinuxOption,
    SupplementalGroupsPolicy,
    UserNamespace,
)
from crid.sandboxes.host import Places
from crid.sandboxes.model import Sandbox
from sampan.errors import InvalidArgumentError, UnimplementedError
from sampan.resource import container_spec as spec
from tests.unit.crid.world import PRIVATE, container, pod, secured

PLACES = Places(Path("/run/crid/one"))
IMAGE = Image("sha256:1", "busybox:latest", "sha256:1")


def sandbox(options: NamespaceOption = PRIVATE, *, privileged: bool = True) -> Sandbox:
    made = pod(options=options)
    linux = replace(
        made.linux,
        cgroup_parent="/kubepods/pod1",
        security_context=replace(made.linux.security_context, privileged=privileged),
    )
    return Sandbox("a" * 64, replace(made, linux=linux), b"", 1, infra="h" * 64)


def built(config: c.ContainerConfig, inside: Sandbox | None = None, log_path: str = "") -> spec.ContainerSpec:
    check_container(config)
    return container_spec(inside or sandbox(), PLACES, config, IMAGE, log_path)


def limited(**limits: object) -> c.ContainerConfig:
    return container(linux=c.LinuxContainer(c.Resources(**limits)))  # type: ignore[arg-type]


def mounted_image(*, readonly: bool = True, image_sub_path: str = "") -> c.ContainerConfig:
    mount = c.Mount("/i", readonly=readonly, image=c.ImageSpec("a"), image_sub_path=image_sub_path)
    return container(mounts=(mount,))


def mounted(**mount: object) -> c.ContainerConfig:
    return container(mounts=(c.Mount("/data", "/srv", **mount),))  # type: ignore[arg-type]


Table = dict[str, tuple[c.ContainerConfig, Callable[[spec.ContainerSpec], object], object] | str]

# By the field: a config that has it, and what is another thing then. Fields that need no test are named with why.
CONFIG: Table = {
    "metadata": (container("x", 2), lambda s: s.name, "k8s_x_web_default_uid-web_2"),
    "image": (container(), lambda s: s.image, "sha256:1"),
    "command": (container(command=("a",)), lambda s: s.process.entrypoint, ("a",)),
    "args": (container(args=("b",)), lambda s: s.process.cmd, ("b",)),
    "working_dir": (container(working_dir="/w"), lambda s: s.process.working_dir, "/w"),
    "envs": (container(envs=(c.KeyValue("A", b"1=2"),)), lambda s: s.process.env, ("HOSTNAME=web", "A=1=2")),
    "mounts": (mounted(), lambda s: s.mounts[-1].target, "/data"),
    "devices": (
        container(devices=(c.Device("/dev/x", "/dev/null", "r"),)),
        lambda s: s.resources.devices,
        (spec.Device("/dev/null", "/dev/x", "r"),),
    ),
    "labels": (container(labels={"a": "1"}), lambda s: s.labels["a"], "1"),
    "annotations": (container(annotations={"a": "1"}), lambda s: s.annotations, {"a": "1"}),
    "log_path": "where a log is takes its pod's directory: test_containers",
    "stdin": (container(stdin=True), lambda s: s.process.open_stdin, True),
    "stdin_once": (container(stdin=True, stdin_once=True), lambda s: s.process.stdin_once, True),
    "tty": (container(tty=True), lambda s: s.process.tty, True),
    "linux": "its fields are below",
    "windows": "refused: test_what_cannot_be_meant_is_refused_by_name",
    "cdi_devices": (
        container(cdi_devices=(c.CDIDevice("v/c=1"),)),
        lambda s: s.resources.device_requests,
        (spec.DeviceRequest(driver="cdi", device_ids=("v/c=1",)),),
    ),
    "stop_signal": (container(stop_signal="SIGUSR1"), lambda s: s.stop_signal, "SIGUSR1"),
}
RESOURCES: Table = {
    "cpu_period": (limited(cpu_period=1), lambda s: s.resources.cpu_period_us, 1),
    "cpu_quota": (limited(cpu_quota=2), lambda s: s.resources.cpu_quota_us, 2),
    "cpu_shares": (limited(cpu_shares=3), lambda s: s.resources.cpu_shares, 3),
    "memory_limit_in_bytes": (limited(memory_limit_in_bytes=4), lambda s: s.resources.memory_swap_bytes, 4),
    "oom_score_adj": (limited(oom_score_adj=5), lambda s: s.resources.oom_score_adj, 5),
    "cpuset_cpus": (limited(cpuset_cpus="0"), lambda s: s.resources.cpuset_cpus, "0"),
    "cpuset_mems": (limited(cpuset_mems="0"), lambda s: s.resources.cpuset_mems, "0"),
    "hugepage_limits": (
        limited(hugepage_limits=(c.HugepageLimit("2MB", 6),)),
        lambda s: s.resources.hugepage_limits,
        (spec.HugepageLimit("2MB", 6),),
    ),
    "unified": (limited(unified={"memory.max": "7"}), lambda s: s.resources.unified, {"memory.max": "7"}),
    "memory_swap_limit_in_bytes": (
        limited(memory_limit_in_bytes=8, memory_swap_limit_in_bytes=9),
        lambda s: (s.resources.memory_bytes, s.resources.memory_swap_bytes),
        (8, 9),
    ),
}
LABEL = SELinuxOption(type="spc_t")
SECURITY: Table = {
    "capabilities": (
        secured(capabilities=Capability(("NET_ADMIN",), ("ALL",), ("CHOWN",))),
        lambda s: (s.security.cap_add, s.security.cap_drop, s.security.cap_add_ambient),
        (("NET_ADMIN",), ("ALL",), ("CHOWN",)),
    ),
    "privileged": (secured(privileged=True), lambda s: s.security.privileged, True),
    "namespace_options": (
        secured(namespace_options=NamespaceOption(pid=NamespaceMode.NODE)),
        lambda s: s.namespaces.pid,
        "host",
    ),
    "selinux_options": "a label says nothing where there is no SELinux: test_labels",
    "run_as_user": (secured(run_as_user=Number(5)), lambda s: s.process.user, "5"),
    "run_as_group": (secured(run_as_user=Number(5), run_as_group=Number(0)), lambda s: s.process.user, "5:0"),
    "run_as_username": (secured(run_as_username="www"), lambda s: s.process.user, "www"),
    "readonly_rootfs": (secured(readonly_rootfs=True), lambda s: s.security.read_only_root, True),
    "supplemental_groups": (secured(supplemental_groups=(7,)), lambda s: s.process.additional_groups, ("7",)),
    "supplemental_groups_policy": (
        secured(supplemental_groups_policy=SupplementalGroupsPolicy.Strict),
        lambda s: s.process.strict_groups,
        True,
    ),
    "no_new_privs": (secured(no_new_privs=True), lambda s: "no-new-privileges" in s.security.options, True),
    "masked_paths": (
        secured(masked_paths=("/proc/x",)),
        lambda s: (s.security.own_paths, s.security.masked_paths),
        (True, ("/proc/x",)),
    ),
    "readonly_paths": (secured(readonly_paths=("/proc/y",)), lambda s: s.security.readonly_paths, ("/proc/y",)),
    "seccomp": (secured(seccomp=SecurityProfile()), lambda s: s.security.options, ()),
    "apparmor": (
        secured(apparmor=SecurityProfile(ProfileType.Localhost, "localhost/mine"), seccomp=SecurityProfile()),
        lambda s: s.security.options,
        ("apparmor=mine",),
    ),
    "apparmor_profile": (
        secured(apparmor_profile="unconfined", seccomp=SecurityProfile()),
        lambda s: s.security.options,
        ("apparmor=unconfined",),
    ),
    "seccomp_profile_path": (secured(seccomp_profile_path="runtime/default"), lambda s: s.security.options, ()),
}
MOUNT: Table = {
    "container_path": (mounted(), lambda s: s.mounts[-1].target, "/data"),
    "host_path": (mounted(), lambda s: (s.mounts[-1].source, s.mounts[-1].create_source), ("/srv", True)),
    "readonly": (mounted(readonly=True), lambda s: s.mounts[-1].read_only_non_recursive, True),
    "selinux_relabel": "says nothing where there is no SELinux",
    "propagation": (
        mounted(propagation=c.Propagation.PROPAGATION_BIDIRECTIONAL),
        lambda s: s.mounts[-1].propagation,
        "rshared",
    ),
    "uid_mappings": (
        mounted(uid_mappings=(IDMapping(100, 0, 10),)),
        lambda s: s.mounts[-1].uid_mappings,
        (spec.IdMapping(0, 100, 10),),
    ),
    "gid_mappings": (
        mounted(gid_mappings=(IDMapping(100, 0, 10),)),
        lambda s: s.mounts[-1].gid_mappings,
        (spec.IdMapping(0, 100, 10),),
    ),
    "recursive_read_only": (
        mounted(readonly=True, recursive_read_only=True),
        lambda s: (s.mounts[-1].read_only_force_recursive, s.mounts[-1].read_only_non_recursive),
        (True, False),
    ),
    "image": (
        container(mounts=(c.Mount("/i", readonly=True, image=c.ImageSpec("alpine")),)),
        lambda s: (s.mounts[-1].type, s.mounts[-1].source, s.mounts[-1].subpath),
        (spec.MountType.IMAGE, "alpine", ""),
    ),
    "image_sub_path": (
        container(mounts=(c.Mount("/i", readonly=True, image=c.ImageSpec("alpine"), image_sub_path="etc"),)),
        lambda s: s.mounts[-1].subpath,
        "etc",
    ),
    "mount_options": (mounted(mount_options=("noexec",)), lambda s: s.mounts[-1].options, ("noexec",)),
}
TABLES: dict[type, Table] = {
    c.ContainerConfig: CONFIG,
    c.Resources: RESOURCES,
    ContainerSecurity: SECURITY,
    c.Mount: MOUNT,
}


def test_every_field_is_in_a_table() -> None:
    for kind, table in TABLES.items():
        assert {field.name for field in dataclasses.fields(kind)} == set(table), kind


CASES = [
    pytest.param(*case, id=f"{kind.__name__}.{name}")
    for kind, table in TABLES.items()
    for name, case in table.items()
    if not isinstance(case, str)
]


@pytest.mark.parametrize(("config", "look", "expected"), CASES)
def test_a_field_reaches_runtimed(
    config: c.ContainerConfig, look: Callable[[spec.ContainerSpec], object], expected: object
) -> None:
    assert look(built(config)) == expected
    if config != container():
        assert built(config) != built(container())


def test_a_container_has_its_pod_s_namespaces_files_and_cgroup() -> None:
    made = built(container())
    assert made.namespaces.network == "ns:/run/crid/one/ns/net"
    assert made.namespaces.uts == "ns:/run/crid/one/ns/uts"
    assert made.namespaces.ipc == "ns:/run/crid/one/ns/ipc"
    assert made.namespaces.pid == ""
    assert {mount.target for mount in made.mounts} == {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/shm"}
    assert made.resources.cgroup_parent == "/kubepods/pod1"
    assert made.process.env == ("HOSTNAME=web",)
    assert made.log == spec.LogConfig("none")


def test_with_the_host_s_namespaces_none_is_joined() -> None:
    made = built(container(), sandbox(NamespaceOption(NamespaceMode.NODE, NamespaceMode.NODE, NamespaceMode.NODE)))
    names = made.namespaces
    assert (names.network, names.uts, names.ipc, names.pid) == ("host", "host", "host", "host")
    assert made.process.env == ()
    assert "/dev/shm" not in {mount.target for mount in made.mounts}


def test_a_pod_s_user_namespace_is_every_container_s() -> None:
    users = UserNamespace(uids=(IDMapping(100_000, 0, 65536),), gids=(IDMapping(100_000, 0, 65536),))
    inside = sandbox(NamespaceOption(pid=NamespaceMode.CONTAINER, userns_options=users))
    made = built(container(), inside).namespaces
    assert (made.user, made.uid_mappings) == ("ns:/run/crid/one/ns/user", (spec.IdMapping(0, 100_000, 65536),))


def test_a_sub_path_of_what_is_no_image_is_kubelet_s_own_affair() -> None:
    assert built(mounted(image_sub_path="x")).mounts == built(mounted()).mounts


def test_what_kubelet_mounts_stands_in_the_place_of_the_pod_s_own() -> None:
    config = container(mounts=(c.Mount("/etc/hosts", "/var/lib/kubelet/hosts"), c.Mount("/dev/shm/", "/srv/shm")))
    sources = {mount.target.rstrip("/"): mount.source for mount in built(config).mounts}
    assert sources["/etc/hosts"] == "/var/lib/kubelet/hosts"
    assert sources["/dev/shm"] == "/srv/shm"


def test_with_a_read_only_root_the_pod_s_files_are_read_only_and_shared_memory_is_not() -> None:
    mounts = {mount.target: mount.read_only for mount in built(secured(readonly_rootfs=True)).mounts}
    assert mounts == {"/etc/hosts": True, "/etc/hostname": True, "/etc/resolv.conf": True, "/dev/shm": False}


def test_a_link_of_the_host_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    config = container(mounts=(c.Mount("/data", str(tmp_path / "link")),))
    assert built(config).mounts[-1].source == str(tmp_path / "there")


def test_without_a_word_on_seccomp_there_is_no_filter_and_privileged_containers_have_none() -> None:
    assert built(container()).security.options == ("seccomp=unconfined",)
    everything = SecurityProfile(ProfileType.Localhost, "/nowhere")
    assert built(secured(privileged=True, seccomp=everything)).security.options == ()


def test_a_profile_of_the_node_is_read(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    for config in (
        secured(seccomp=SecurityProfile(ProfileType.Localhost, str(tmp_path / "p.json"))),
        secured(seccomp_profile_path=f"localhost/{tmp_path}/p.json"),
    ):
        assert built(config).security.options == ('seccomp={"defaultAction": "SCMP_ACT_ALLOW"}',)


def test_labels_have_no_effect_where_there_is_no_selinux_and_are_passed_on_where_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enforce = tmp_path / "enforce"
    monkeypatch.setattr("crid.containers.security._SELINUX", enforce)
    config = secured(selinux_options=LABEL, seccomp=SecurityProfile())
    assert built(config).security.options == ()
    enforce.touch()
    assert built(config).security.options == ("label=type:spc_t",)


GOOD = SecurityProfile(ProfileType.Localhost, "relative")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (container(""), "metadata.name is empty"),
        (replace(container(), image=c.ImageSpec()), "image.image is empty"),
        (container(windows=c.Windows()), "windows: containers of Windows"),
        (container(stdin_once=True, tty=True), "stdin_once needs stdin"),
        (container(envs=(c.KeyValue("A=B", b""),)), "envs has 'A=B'"),
        (container(envs=(c.KeyValue("A", b"\xff"),)), "value of A is not UTF-8"),
        (container(envs=(c.KeyValue("A", b"\0"),)), "NUL byte"),
        (container(devices=(c.Device("x", "/dev/null"),)), "two absolute paths"),
        (container(devices=(c.Device("/x", "/dev/null", "rx"),)), "permissions are 'rx'"),
        (container(mounts=(c.Mount("data", "/srv"),)), "container_path is 'data'"),
        (container(mounts=(c.Mount("/data", "srv"),)), "host_path of /data is 'srv'"),
        (container(mounts=(c.Mount("/data", "/s\0rv"),)), "host_path of /data is"),
        (mounted(recursive_read_only=True), "recursive_read_only of /data needs readonly"),
        (mounted(image=c.ImageSpec("a")), "a host_path and an image"),
        (mounted(mount_options=("suid",)), "mount_options 'suid'"),
        (mounted_image(image_sub_path="../x"), "a path within the image"),
        (mounted_image(readonly=False), "is an image, which cannot be written"),
        (
            container(mounts=(c.Mount("/i", readonly=True, image=c.ImageSpec("a"), mount_options=("noexec",)),)),
            "go with a host_path",
        ),
        (limited(cpu_shares=-1), "resources.cpu_shares is -1"),
        (secured(run_as_user=Number(1), run_as_username="a"), "run_as_user and run_as_username"),
        (secured(run_as_group=Number(1)), "run_as_group needs a user"),
        (secured(run_as_user=Number(1 << 32)), "the ID 4294967296"),
        (secured(supplemental_groups=(-1,)), "the ID -1"),
        (secured(seccomp=SecurityProfile(ProfileType.Localhost)), "localhost_ref goes with Localhost"),
        (secured(seccomp=SecurityProfile(ProfileType.Localhost, "/a\0b")), "localhost_ref is '/a"),
        (secured(seccomp=SecurityProfile(ProfileType.Localhost, "/nowhere")), "/nowhere cannot be read"),
        (secured(seccomp=SecurityProfile(ProfileType.Localhost, "/dev/zero")), "/dev/zero is not a regular file"),
        (secured(seccomp=GOOD), "expected an absolute path"),
        (secured(seccomp_profile_path="nonsense"), "seccomp_profile_path is 'nonsense'"),
        (secured(namespace_options=NamespaceOption(NamespaceMode.NODE)), "namespace_options.network is not that"),
        (secured(namespace_options=NamespaceOption(pid=NamespaceMode.TARGET)), "target_id goes with pid TARGET"),
        (
            secured(namespace_options=NamespaceOption(pid=NamespaceMode.CONTAINER, userns_options=UserNamespace())),
            "userns_options are not those of the pod",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(config: c.ContainerConfig, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        built(config)


def test_options_of_a_writable_mount_are_refused_where_runtimes_forget_them() -> None:
    ids = (IDMapping(100_000, 0, 65536),)
    inside = sandbox(NamespaceOption(pid=NamespaceMode.CONTAINER, userns_options=UserNamespace(uids=ids, gids=ids)))
    with pytest.raises(UnimplementedError, match="mount_options of /data cannot be given"):
        built(mounted(mount_options=("noexec",)), inside)
    assert built(mounted(mount_options=("noexec",), readonly=True), inside).mounts[-1].options == ("noexec",)


def test_a_privileged_container_needs_a_sandbox_for_it() -> None:
    with pytest.raises(InvalidArgumentError, match="was not made for privileged containers"):
        built(secured(privileged=True), sandbox(privileged=False))


def test_a_pid_namespace_of_the_pod_s_needs_one() -> None:
    shared = secured(namespace_options=NamespaceOption())
    assert built(shared).namespaces.pid == f"container:{'h' * 64}"
    with pytest.raises(InvalidArgumentError, match="no pid namespace of its own"):
        built(shared, replace(sandbox(), infra=""))


def test_a_seccomp_profile_that_is_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "profile")
    profile = SecurityProfile(ProfileType.Localhost, str(tmp_path / "profile"))
    with pytest.raises(InvalidArgumentError, match="is not a regular file"):
        security_of(secured(seccomp=profile))
