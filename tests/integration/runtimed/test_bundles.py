"""Bundles, run by a real runtime: what a process inside sees."""

import dataclasses
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtimed.cgroups.naming import CgroupNames
from runtimed.host.facts import CgroupLayout, cgroup_trees, read_host
from runtimed.host.info import find_init
from runtimed.oci.builder import OciBundles
from runtimed.protocol import ExecProcess
from sampan.errors import ConflictError, StartError
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
from tests.support.tools import remove_group, unmount

pytestmark = pytest.mark.root

HOST = read_host()
PARENT = f"sampan-test-{os.getpid()}"  # others may run the same tests


def busybox_root(root: Path) -> None:
    for name in ("bin", "etc", "tmp", "root", "proc", "sys", "dev", "usr/share"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copy("/usr/bin/busybox", root / "bin/busybox")
    for applet in subprocess.run(["/usr/bin/busybox", "--list"], capture_output=True, text=True).stdout.split():
        link = root / "bin" / applet
        if not link.exists():
            link.symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nweb:x:1000:\nlogs:x:1500:web,other\n")


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Host:
    """Runs specs in a busybox root with runc."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "rootfs"
        self.files = directory / "files"
        self.files.mkdir()
        busybox_root(self.root)
        self.bundles = OciBundles(HOST, cgroups=CgroupNames(PARENT), runtimes=["runc"])

    def container(self, spec: ContainerSpec, mounts: tuple[MountPoint, ...] = ()) -> Container:
        return Container(uuid.uuid4().hex * 2, spec, datetime.now(UTC), mounts=mounts)

    def config(self, container: Container) -> dict[str, object]:
        self.bundles.check(container.spec)
        return self.bundles.config(container, self.root, files=self.files, init_path=find_init())

    def run(self, spec: ContainerSpec, mounts: tuple[MountPoint, ...] = ()) -> Result:
        container = self.container(spec, mounts)
        (self.directory / "config.json").write_text(json.dumps(self.config(container)))
        done = subprocess.run(
            ["runc", "--root", str(self.directory / "state"), "run", "--bundle", str(self.directory), container.id],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def sh(self, script: str, spec: ContainerSpec | None = None, mounts: tuple[MountPoint, ...] = ()) -> Result:
        spec = spec or ContainerSpec()
        process = dataclasses.replace(spec.process, cmd=("/bin/sh", "-c", script))
        namespaces = spec.namespaces
        if not namespaces.network:
            namespaces = dataclasses.replace(namespaces, network="none")
        return self.run(dataclasses.replace(spec, process=process, namespaces=namespaces), mounts)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    yield Host(tmp_path)
    for tree in cgroup_trees():
        parent = tree.path / PARENT
        if parent.is_dir() and not any(entry.is_dir() for entry in parent.iterdir()):
            remove_group(parent)


def spec_with(**process: object) -> ContainerSpec:
    return ContainerSpec(process=dataclasses.replace(Process(), **process))  # type: ignore[arg-type]


def test_a_plain_container_runs_as_root_with_dockers_environment(host: Host) -> None:
    result = host.sh("id -u; pwd; env | sort; hostname; cat /proc/self/status | grep -E 'CapEff|Seccomp:|NoNewPrivs'")
    assert result.code == 0, result.err
    assert result.lines[:2] == ["0", "/"]
    assert "HOME=/root" in result.lines
    assert "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" in result.lines
    assert any(line.startswith("HOSTNAME=") for line in result.lines)
    assert "CapEff:\t00000000a80425fb" in result.lines
    assert "Seccomp:\t2" in result.lines
    assert "NoNewPrivs:\t0" in result.lines


def test_a_named_user_gets_uid_gid_groups_and_home_from_the_image(host: Host) -> None:
    result = host.sh("id -u; id -g; id -G; echo $HOME; grep CapEff /proc/self/status", spec_with(user="web"))
    assert result.lines == ["1000", "1000", "1000 1500", "/home/web", "CapEff:\t0000000000000000"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/proc/self/fd/8", "is invalid"), ("/proc/1/cwd", "is invalid"), ("/etc/passwd", "not a directory")],
)
def test_a_working_directory_that_leads_out_or_is_none_is_refused(host: Host, path: str, reason: str) -> None:
    with pytest.raises(StartError, match=reason):
        host.sh("pwd", spec_with(working_dir=path))


def test_a_link_to_a_descriptor_is_refused_as_working_directory(host: Host) -> None:
    (host.root / "srv").symlink_to("/proc/self/fd")
    with pytest.raises(StartError, match="is invalid"):
        host.sh("pwd", spec_with(working_dir="/srv/8"))


def test_a_missing_working_directory_is_made_inside_the_root_whatever_links_say(host: Host) -> None:
    (host.root / "out").symlink_to("../../../../../../../../made-by-the-image")
    result = host.sh("pwd; stat -c %a:%u .", spec_with(working_dir="/out/deep"))
    assert result.lines == ["/made-by-the-image/deep", "755:0"]
    assert not Path("/made-by-the-image").exists()


def test_kernel_files_are_hidden_and_the_rest_of_sys_is_read_only(host: Host) -> None:
    result = host.sh("cat /proc/kcore | wc -c; ls /sys/firmware | wc -l; echo 1 >/proc/sys/kernel/panic; touch /sys/x")
    assert result.lines == ["0", "0"]
    assert "Read-only file system" in result.err


def test_privileged_gets_every_device_and_capability_the_host_has(host: Host) -> None:
    spec = ContainerSpec(security=Security(privileged=True))
    result = host.sh(
        "grep -E 'CapEff|Seccomp:' /proc/self/status; ls /dev/kmsg; mount -t tmpfs x /tmp && echo ok", spec
    )
    mine = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd"))
    assert result.lines == [mine.replace("CapBnd", "CapEff"), "Seccomp:\t0", "/dev/kmsg", "ok"]


def test_the_seccomp_profile_keeps_namespaces_and_mounts_out_of_reach(host: Host) -> None:
    result = host.sh("unshare -U true; echo $?; mount -t tmpfs x /tmp; echo $?")
    assert "0" not in result.lines
    assert "Operation not permitted" in result.err or "denied" in result.err


def test_no_new_privileges_is_set(host: Host) -> None:
    result = host.sh(
        "grep NoNewPrivs /proc/self/status", ContainerSpec(security=Security(options=("no-new-privileges",)))
    )
    assert result.lines == ["NoNewPrivs:\t1"]


def test_nested_mounts_are_made_from_the_outside_in(host: Host, tmp_path: Path) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "inner"
    (outer / "deep").mkdir(parents=True)
    inner.mkdir()
    (inner / "file").write_text("inner")
    spec = ContainerSpec(
        mounts=(
            Mount(MountType.BIND, "/data/deep", str(inner), read_only=True),
            Mount(MountType.BIND, "/data", str(outer)),
            Mount(MountType.TMPFS, "/data/tmp", options=("size=1m,mode=700",)),
        )
    )
    points = (
        MountPoint(MountType.BIND, str(inner), "/data/deep", read_write=False),
        MountPoint(MountType.BIND, str(outer), "/data"),
    )
    result = host.sh(
        "cat /data/deep/file; echo; touch /data/ok; touch /data/deep/x; stat -c %a /data/tmp; df /data/tmp | tail -1",
        spec,
        points,
    )
    assert result.lines[:2] == ["inner", "700"], result.err
    assert "1024" in result.lines[2]
    assert (outer / "ok").exists()
    assert not (inner / "x").exists()


def test_a_read_only_bind_is_read_only_all_the_way_down(host: Host, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    (outer / "deep").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "deep", outer / "deep"], check=True)
    try:
        point = MountPoint(MountType.BIND, str(outer), "/data", read_write=False)
        spec = ContainerSpec(mounts=(Mount(MountType.BIND, "/data", str(outer), read_only=True),))
        result = host.sh("touch /data/x; touch /data/deep/x; ls -d /data/deep", spec, (point,))
        assert result.lines == ["/data/deep"]
        assert result.err.count("Read-only file system") == 2
    finally:
        unmount(outer / "deep")


def test_mount_targets_that_are_links_resolve_inside_the_root(host: Host, tmp_path: Path) -> None:
    (host.root / "link").symlink_to("/../../../../../../../etc")
    source = tmp_path / "source"
    source.write_text("mine")
    host.files.joinpath("hosts").write_text("127.0.0.1 here\n")
    result = host.sh(
        "cat /link/made; echo; cat /etc/made; echo; cat /etc/hosts",
        ContainerSpec(mounts=(Mount(MountType.BIND, "/link/made", str(source)),)),
        (MountPoint(MountType.BIND, str(source), "/link/made"),),
    )
    assert result.lines == ["mine", "mine", "127.0.0.1 here"], result.err
    assert not Path("/etc/made").exists()


def test_a_mount_over_dev_shm_replaces_the_default_one(host: Host) -> None:
    spec = ContainerSpec(mounts=(Mount(MountType.TMPFS, "/dev/shm", options=("size=3m",)),))
    assert host.sh("grep -c ' /dev/shm ' /proc/mounts; grep ' /dev/shm ' /proc/mounts", spec).lines[0] == "1"
    sized = ContainerSpec(resources=Resources(shm_size_bytes=5 << 20))
    assert "size=5120k" in host.sh("grep ' /dev/shm ' /proc/mounts", sized).out


def test_targets_in_proc_are_refused(host: Host, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="inside /proc"):
        host.sh(
            "true",
            ContainerSpec(mounts=(Mount(MountType.BIND, "/proc/sys", str(tmp_path)),)),
            (MountPoint(MountType.BIND, str(tmp_path), "/proc/sys"),),
        )


def test_a_read_only_root_is_read_only_but_for_its_tmpfs(host: Host) -> None:
    spec = ContainerSpec(security=Security(read_only_root=True), mounts=(Mount(MountType.TMPFS, "/tmp"),))
    result = host.sh("touch /x; echo $?; touch /tmp/x; echo $?; touch /dev/shm/x; echo $?", spec)
    assert result.lines == ["1", "0", "0"], result.err


def test_limits_reach_the_cgroup(host: Host) -> None:
    resources = Resources(
        memory_bytes=64 << 20,
        nano_cpus=500_000_000,
        pids_limit=50,
        cpu_shares=512,
        cpuset_cpus="0",
        ulimits=(Ulimit("nofile", 64, 128), Ulimit("memlock", -1, -1)),
        oom_score_adj=500,
    )
    paths = {
        CgroupLayout.UNIFIED: ("memory.max", "cpu.max", "pids.max"),
    }.get(
        HOST.layout,
        ("memory/memory.limit_in_bytes", "cpu/cpu.cfs_quota_us", "pids/pids.max"),
    )
    script = "; ".join(f"cat /sys/fs/cgroup/{path}" for path in paths)
    result = host.sh(f"{script}; ulimit -n; cat /proc/self/oom_score_adj", ContainerSpec(resources=resources))
    assert result.code == 0, result.err
    memory, cpu, pids, nofile, score = result.lines
    assert (memory, cpu.split()[0], pids, nofile, score) == (str(64 << 20), "50000", "50", "64", "500")


def test_sysctls_and_the_domain_name_are_set(host: Host) -> None:
    spec = ContainerSpec(domainname="example.test", hostname="web", sysctls={"net.core.somaxconn": "99"})
    result = host.sh("hostname; cat /proc/sys/kernel/domainname /proc/sys/net/core/somaxconn", spec)
    assert result.lines == ["web", "example.test", "99"], result.err


def test_a_device_of_the_host_is_there_and_can_be_used(host: Host) -> None:
    spec = ContainerSpec(resources=Resources(devices=(Device("/dev/full", "/dev/mine", "r"),)))
    result = host.sh("head -c 3 /dev/mine | wc -c; echo x >/dev/mine", spec)
    assert result.lines == ["3"]
    missing = ContainerSpec(resources=Resources(devices=(Device("/dev/nosuch", "/dev/nosuch", "rwm"),)))
    with pytest.raises(StartError, match='adding custom device "/dev/nosuch": no such file or directory'):
        host.sh("true", missing)


def test_host_namespaces_are_the_hosts(host: Host) -> None:
    spec = ContainerSpec(namespaces=Namespaces(network="host", pid="host", ipc="host", uts="host"))
    result = host.sh("for n in net pid ipc uts mnt; do readlink /proc/self/ns/$n; done", spec)
    mine = [str(Path(f"/proc/self/ns/{name}").readlink()) for name in ("net", "pid", "ipc", "uts")]
    assert result.lines[:4] == mine, result.err
    assert result.lines[4] != str(Path("/proc/self/ns/mnt").readlink())


@pytest.mark.skipif(find_init() is None, reason="no init program is installed")
def test_init_runs_the_command_as_its_child(host: Host) -> None:
    result = host.sh("echo $$; cat /proc/1/cmdline | tr '\\0' ' '", ContainerSpec(init=True))
    assert result.lines[0] != "1"
    assert result.lines[1].startswith("/sbin/docker-init --")


def test_an_exec_gets_the_containers_user_and_environment_and_its_own(host: Host) -> None:
    spec = ContainerSpec(process=Process(cmd=("x",), env=("A=1", "B=2"), user="web", working_dir="/tmp"))
    container = host.container(spec)
    asked = ExecProcess(Process(cmd=("id",), env=("B=3",), tty=True))
    process = host.bundles.exec_process(container, host.root, asked)
    assert process["user"] == {"uid": 1000, "gid": 1000, "additionalGids": [1000, 1500]}
    env = process["env"]
    assert isinstance(env, list)
    assert {"A=1", "B=3", "TERM=xterm", "HOME=/home/web"} <= set(env)
    assert process["cwd"] == "/tmp"
    assert process["terminal"] is True


Configure = Callable[[ContainerSpec], ContainerSpec]


def test_an_exec_in_a_container_that_has_ended_is_a_conflict(host: Host) -> None:
    container = host.container(ContainerSpec(process=Process(cmd=("x",))))
    with pytest.raises(ConflictError, match=f"container {container.id} is not running"):
        host.bundles.exec_process(container, Path("/proc/999999999/root"), ExecProcess(Process(cmd=("id",))))


@pytest.mark.skipif(shutil.which("crun") is None, reason="crun is not installed")
def test_crun_accepts_the_same_document(host: Host) -> None:
    config = host.config(host.container(ContainerSpec(process=Process(cmd=("true",)))))
    (host.directory / "config.json").write_text(json.dumps(config))
    done = subprocess.run(
        ["crun", "--root", str(host.directory / "crun"), "run", "--bundle", str(host.directory), uuid.uuid4().hex],
        capture_output=True,
        text=True,
        check=False,
    )
    refused_for_the_host = "cgroups in hybrid mode not supported" in done.stderr
    assert done.returncode == 0 or refused_for_the_host, done.stderr
