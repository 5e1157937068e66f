"""Every flag of ``docker run``, seen from inside the container."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.compat.conftest import TARGET, Spawn
from tests.support.docker_client import DockerClient, Result
from tests.support.tools import need_root, unmount

Run = Callable[..., Result]

_MEMORY = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
_PIDS = "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max"
_CPU = "cd /sys/fs/cgroup; (cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us 2>/dev/null || cat cpu.max) | xargs"
_CAPABILITIES = "grep CapEff /proc/self/status | cut -f 2"


@pytest.mark.parametrize(
    ("flags", "script", "shown"),
    [
        (["-e", "A=1 2", "-e", "B="], 'echo "$A|$B|${B+set}"', "1 2||set"),
        (["-w", "/var/www"], "pwd", "/var/www"),
        (["-w", "/made/on/demand"], "pwd", "/made/on/demand"),
        (["-u", "daemon"], "id -u; id -g", "1\n1"),
        (["-u", "1234:567"], "id -u; id -g", "1234\n567"),
        (["-u", "nobody:daemon"], "id -u; id -g", "65534\n1"),
        (["--hostname", "ship"], "hostname; grep -c ship /etc/hosts", "ship\n1"),
        (["--memory", "64m"], _MEMORY, str(64 << 20)),
        (["--cpus", "0.5"], _CPU, "50000 100000"),
        (["--pids-limit", "77"], _PIDS, "77"),
        (["--cap-drop", "ALL"], _CAPABILITIES, "0000000000000000"),
        (["--cap-drop", "ALL", "--cap-add", "NET_RAW"], _CAPABILITIES, "0000000000002000"),
        (["--cap-add", "SYS_ADMIN"], _CAPABILITIES, "00000000a82425fb"),
        ([], _CAPABILITIES, "00000000a80425fb"),
        (["--read-only"], "touch /file 2>&1 | grep -o 'Read-only file system'", "Read-only file system"),
        (["--read-only", "--tmpfs", "/scratch"], "touch /scratch/file && echo written", "written"),
        (["--network", "none"], "ls /sys/class/net", "lo"),
        (["--network", "bridge"], "ls /sys/class/net | grep -v lo", "eth0"),
        (["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status | cut -f 2", "1"),
        (["--ulimit", "nofile=123:456"], "ulimit -n; ulimit -Hn", "123\n456"),
        (["--shm-size", "8m"], "df -k /dev/shm | tail -n 1 | awk '{print $2}'", "8192"),
        (["--add-host", "friend:10.9.8.7"], "grep friend /etc/hosts | cut -f 1", "10.9.8.7"),
        (["--dns", "10.1.1.1"], "grep nameserver /etc/resolv.conf", "nameserver 10.1.1.1"),
        (["--label", "x=y"], "echo runs", "runs"),
        (["--init"], "ps -o comm= -p 1 2>/dev/null || cat /proc/1/comm", None),
    ],
)
def test_flag_has_its_effect(run: Run, flags: list[str], script: str, shown: str | None) -> None:
    result = run(script, *flags)
    assert result.code == 0, result.stderr
    if shown is None:
        assert result.line not in ("sh", "")
    else:
        assert result.line == shown


def test_env_file_is_read_and_flags_win(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\nA=from file\nB=from file\n")
    assert run('echo "$A,$B"', "--env-file", str(file), "-e", "B=flag").line == "from file,flag"


def test_entrypoint_replaces_the_image_s(docker: DockerClient, image: str) -> None:
    assert docker("run", "--rm", "--entrypoint", "/bin/echo", image, "one", "two").line == "one two"


def test_image_s_command_runs_if_none_is_given(docker: DockerClient, image: str) -> None:
    assert docker("run", "--rm", "-i", image, input="echo from the shell").line == "from the shell"


def test_bind_mount_shows_both_sides_the_same_file(run: Run, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "in").write_text("from the host")
    assert run("cat /m/in; echo back > /m/out", "-v", f"{tmp_path}:/m").stdout == "from the host"
    assert (tmp_path / "out").read_text() == "back\n"


def test_read_only_bind_mount_cannot_be_written(run: Run, tmp_path: Path) -> None:
    result = run("touch /m/file", "-v", f"{tmp_path}:/m:ro")
    assert result.code == 1
    assert "Read-only file system" in result.stderr
    assert not (tmp_path / "file").exists()


def test_a_file_is_mounted_read_only_where_there_is_none(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host\n")
    result = run("cat /new/file && touch /new/file", "-v", f"{tmp_path}/file:/new/file:ro")
    assert (result.code, result.stdout) == (1, "from the host\n")
    assert "Read-only file system" in result.stderr


def test_missing_source_of_v_is_made_and_of_mount_refused(run: Run, tmp_path: Path) -> None:
    assert run("ls /m", "-v", f"{tmp_path}/made:/m").code == 0
    assert (tmp_path / "made").is_dir()
    refused = run("true", "--mount", f"type=bind,src={tmp_path}/none,dst=/m")
    assert refused.code == 125
    assert "bind source path does not exist" in refused.stderr


def test_privileged_has_every_capability_and_the_host_s_devices(run: Run) -> None:
    bounding = next(
        line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd")
    )
    lines = run(f"{_CAPABILITIES}; ls /dev | wc -l; grep Seccomp: /proc/self/status | cut -f 2", "--privileged").lines
    assert lines[0] == bounding
    assert int(lines[1]) > 30
    assert lines[2] == "0"


def test_host_network_is_the_host_s(run: Run) -> None:
    assert run("readlink /proc/self/ns/net", "--network", "host").line == os.readlink("/proc/self/ns/net")


def test_security_defaults_hold(run: Run) -> None:
    script = """
        grep Seccomp: /proc/self/status | cut -f 2
        ls -1 /proc/self/fd | wc -l
        cat /proc/kcore 2>/dev/null | wc -c
        echo x 2>/dev/null > /proc/sys/kernel/hostname && echo writable || echo refused
        mount -t tmpfs none /mnt 2>/dev/null && echo mounted || echo refused
        cat /proc/1/comm
    """
    lines = run(script).lines
    assert lines[0] == "2"
    assert int(lines[1]) <= 4, "a file descriptor of the engine's is open inside"
    assert lines[2] == "0"
    assert lines[3:5] == ["refused", "refused"]


def test_default_hostname_is_the_short_id(docker: DockerClient, image: str, container_name: Callable[[], str]) -> None:
    name = container_name()
    shown = docker("run", "--name", name, image, "hostname").line
    assert docker("inspect", "--format", "{{.Id}}", name).line.startswith(shown)
    assert len(shown) == 12


def test_environment_has_what_docker_sets(run: Run) -> None:
    environment = dict(line.split("=", 1) for line in run("env").lines if "=" in line)
    assert {"PATH", "HOSTNAME", "HOME"} <= set(environment)
    assert environment["HOME"] == "/root"
    assert set(environment) <= {"PATH", "HOSTNAME", "HOME", "SHLVL", "PWD", "_", "TERM", "OLDPWD"}


def test_cidfile_holds_the_id(
    docker: DockerClient, image: str, container_name: Callable[[], str], tmp_path: Path
) -> None:
    name, file = container_name(), tmp_path / "id"
    docker("run", "--cidfile", str(file), "--name", name, image, "true")
    assert file.read_text() == docker("inspect", "--format", "{{.Id}}", name).line


def test_requested_limits_are_shown_by_inspect(
    docker: DockerClient, image: str, container_name: Callable[[], str]
) -> None:
    name = container_name()
    flags = ["--memory=32m", "--cpus=1.5", "--pids-limit=50", "--cap-add=NET_ADMIN", "--read-only", "--label=a=b"]
    docker("create", "--name", name, *flags, "-e", "A=1", image, "echo", "hi")
    shown = json.loads(docker("inspect", name).stdout)[0]
    host = shown["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (32 << 20, 1_500_000_000, 50)
    assert (host["CapAdd"], host["ReadonlyRootfs"]) == (["NET_ADMIN"], True) or host["CapAdd"] == ["CAP_NET_ADMIN"]
    assert shown["Config"]["Labels"] == {"a": "b"}
    assert "A=1" in shown["Config"]["Env"]
    assert (shown["Path"], shown["Args"], shown["State"]["Status"]) == ("echo", ["hi"], "created")
    assert re.fullmatch(r"[0-9a-f]{64}", shown["Id"])


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A mount of the host's that propagates, with a directory for each side to mount something at."""
    need_root()
    there = tmp_path / "shared"
    there.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "shared", there], check=True)
    try:
        subprocess.run(["mount", "--make-shared", there], check=True)
        for name in ("host", "container"):
            (there / name).mkdir()
        yield there
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", there], check=True)


@pytest.mark.parametrize(("mode", "back"), [("rshared", True), ("rslave", False), ("rprivate", None)])
def test_mounts_propagate_as_asked(
    docker: DockerClient, spawn: Spawn, image: str, shared: Path, mode: str, back: bool | None
) -> None:
    name = spawn("--cap-add", "SYS_ADMIN", "--network", "none", "-v", f"{shared}:/s:{mode}", image, "sleep", "1000")
    subprocess.run(["mount", "-t", "tmpfs", "host", shared / "host"], check=True)
    count = ("exec", name, "sh", "-c", "grep -c ' /s/host ' /proc/mounts || true")
    assert docker(*count).line == ("0" if back is None else "1")
    docker("exec", name, "mount", "-t", "tmpfs", "container", "/s/container")
    assert (shared / "container").is_mount() == bool(back)
    unmount(shared / "host")
    assert docker(*count).line == "0"


@pytest.mark.skipif(TARGET is not None, reason="the engine's processes have to be seen")
def test_nothing_holds_copies_of_the_host_s_mounts(docker: DockerClient, spawn: Spawn, image: str) -> None:
    """Which would go on when the host's are unmounted."""
    name = spawn("--network", "none", image, "sleep", "1000")
    docker("exec", name, "true")
    pid = docker("inspect", "--format", "{{.State.Pid}}", name).line
    stat = Path(f"/proc/{pid}/stat").read_text()
    monitor = stat.rpartition(")")[2].split()[1]
    assert Path(f"/proc/{monitor}/comm").read_text() == "conmon\n"
    assert os.readlink(f"/proc/{monitor}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    points = [line.split()[1] for line in Path(f"/proc/{pid}/mounts").read_text().splitlines()]
    assert all(point == "/" or point.startswith(("/proc", "/dev", "/sys", "/etc/")) for point in points)
