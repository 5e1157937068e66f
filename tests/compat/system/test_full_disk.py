"""An engine whose data root is on a disk without a byte left: everything can be removed, and it starts again."""

import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.conftest import listens
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine, run_engine
from tests.support.small_disk import SmallDisk, small_disk
from tests.support.tools import eventually
from tests.support.trees import busybox_tar


@pytest.fixture(scope="module", params=["ext4", "tmpfs"])
def full(request: pytest.FixtureRequest) -> Iterator[tuple[Engine, DockerClient, SmallDisk]]:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sd", dir="/tmp")))
        disk = stack.enter_context(small_disk(directory, request.param, 80))
        engine = stack.enter_context(run_engine(data_root=disk.path / "d"))
        stack.callback(disk.free)
        docker = DockerClient(engine.host, engine.config)
        tar = directory / "root.tar"
        tar.write_bytes(busybox_tar())
        docker("import", str(tar), "busybox")
        yield engine, docker, disk


@pytest.fixture
def disk(full: tuple[Engine, DockerClient, SmallDisk]) -> Iterator[SmallDisk]:
    """The disk, which is emptied after the test, and then the engine is as it should be."""
    engine, docker, disk = full
    yield disk
    disk.free()
    if ids := docker("ps", "--all", "--quiet").lines:
        docker("rm", "--force", "--volumes", *ids)
    docker("run", "--rm", "--network", "none", "busybox", "true")
    engine.sampan("system", "check")


@pytest.fixture
def engine(full: tuple[Engine, DockerClient, SmallDisk]) -> Engine:
    return full[0]


@pytest.fixture
def docker(full: tuple[Engine, DockerClient, SmallDisk]) -> DockerClient:
    return full[1]


def _status(docker: DockerClient, name: str) -> str:
    return docker("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", name).line


def _frozen(pid: str) -> bool:
    """Whether the kernel says that a process is frozen, by version 2 of control groups or 1."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "freezer":
            return Path(f"/sys/fs/cgroup/freezer{path}/freezer.state").read_text().strip() != "THAWED"
        for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
            events = Path(f"{root}{path}/cgroup.events")
            if not controllers and events.exists():
                return "frozen 1" in events.read_text()
    raise AssertionError(f"process {pid} is in no control group with a freezer")


def test_exits_are_known_and_containers_go(docker: DockerClient, disk: SmallDisk) -> None:
    docker("run", "--detach", "--name", "ends", "busybox", "sh", "-c", "sleep 1000 & wait")
    docker("run", "--detach", "--name", "killed", "busybox", "sleep", "1000")
    docker("run", "--detach", "--name", "stopped", "busybox", "sh", "-c", "trap 'exit 3' TERM; sleep 1000 & wait")
    docker("run", "--detach", "--rm", "--name", "auto", "busybox", "sleep", "1000")
    listens(docker, "stopped")
    disk.fill()
    docker("kill", "killed")
    assert docker("wait", "killed").line == "137"
    docker("stop", "stopped")
    assert _status(docker, "stopped") == "exited 3"
    docker("kill", "auto")
    eventually(lambda: docker.fails("inspect", "auto").code != 0, "a container with --rm is gone")
    docker("rm", "--force", "ends", "killed")
    docker("rm", "stopped")
    assert docker("ps", "--all", "--quiet").stdout == ""


def test_a_container_that_ends_by_itself_is_seen_to_end(docker: DockerClient, disk: SmallDisk) -> None:
    docker("run", "--detach", "--interactive", "--name", "reader", "busybox", "sh", "-c", "read line; exit 9")
    disk.fill()
    docker.fails("attach", "reader", input="go\n")
    assert docker("wait", "reader").line == "9"
    docker("rm", "reader")


def test_what_is_not_used_is_pruned(docker: DockerClient, disk: SmallDisk) -> None:
    docker("network", "create", "one")
    docker("network", "create", "two")
    docker("volume", "create", "vol")
    docker("volume", "create", "other")
    docker("run", "--name", "done", "--network", "one", "--volume", "vol:/v", "busybox", "cp", "/bin/busybox", "/v/b")
    docker("commit", "done", "committed")
    docker("tag", "committed", "again")
    disk.fill()
    docker("rm", "done")
    docker("rmi", "again")
    docker("rmi", "committed")
    docker("volume", "rm", "vol")
    docker("volume", "prune", "--force", "--all")
    docker("network", "rm", "one")
    docker("system", "prune", "--force")
    assert docker("volume", "ls", "--quiet").stdout == ""
    assert docker("network", "ls", "--quiet", "--filter", "type=custom").stdout == ""
    disk.free()
    docker("network", "create", "one")  # a name that was removed is free
    docker("network", "rm", "one")


def test_pause_and_commit_leave_no_container_frozen(engine: Engine, docker: DockerClient, disk: SmallDisk) -> None:
    docker("run", "--detach", "--name", "up", "busybox", "sleep", "1000")
    docker("exec", "up", "dd", "if=/dev/urandom", "of=/f", "bs=1M", "count=8")
    pid = docker("inspect", "--format", "{{.State.Pid}}", "up").line
    disk.fill()
    docker("pause", "up")
    assert (_frozen(pid), _status(docker, "up")) == (True, "paused 0")
    docker("unpause", "up")
    assert (_frozen(pid), _status(docker, "up")) == (False, "running 0")
    disk.fill()
    refused = docker.fails("commit", "up", "never")
    assert refused.code == 1
    assert "no space left on device" in refused.stderr.lower()
    assert (_frozen(pid), _status(docker, "up")) == (False, "running 0")
    committing = docker.start("commit", "up", "never")
    os.kill(engine.pid("snapshotter"), signal.SIGKILL)
    committing.communicate(timeout=60)
    eventually(lambda: not _frozen(pid), "the container goes on")
    eventually(lambda: docker.fails("ps").code == 0 and _status(docker, "up") == "running 0", "and the engine knows")


def test_engine_starts_again_and_finds_what_happened(engine: Engine, docker: DockerClient, disk: SmallDisk) -> None:
    docker("run", "--detach", "--name", "ends", "busybox", "sh", "-c", "sleep 1; exit 5")
    docker("run", "--detach", "--name", "stays", "busybox", "sleep", "1000")
    pid = docker("inspect", "--format", "{{.State.Pid}}", "stays").line
    disk.fill()
    engine.stop()
    disk.fill()
    engine.start()
    assert docker("wait", "ends").line == "5"
    assert _status(docker, "stays") == "running 0"
    disk.fill()
    for service in ("runtimed", "snapshotter", "imaged", "dockerapi"):
        engine.kill(service)
    assert docker("inspect", "--format", "{{.State.Pid}}", "stays").line == pid
    # A connection that a killed service had may break in the first call after it; a later one finds its successor.
    docker.fails("rm", "--force", "stays")
    eventually(lambda: docker.fails("ps").code == 0, "runtimed is back")
    docker("rm", "--force", "stays", "ends")


def test_what_cannot_be_made_is_refused_in_words_and_leaves_nothing(docker: DockerClient, disk: SmallDisk) -> None:
    disk.fill()
    for command in (
        ("run", "--name", "new", "busybox", "true"),
        ("volume", "create", "new"),
        ("create", "--name", "new", "busybox", "true"),
    ):
        refused = docker.fails(*command)
        if refused.code:
            assert "no space left on device" in refused.stderr.lower(), f"{command}: {refused.stderr}"
            assert "internal error" not in refused.stderr
        docker.fails("rm", "--force", "new")
        docker.fails("volume", "rm", "new")
    disk.free()
    docker("run", "--rm", "--name", "new", "--volume", "new:/v", "busybox", "true")
    docker("volume", "rm", "new")


def test_restart_policies_go_on(docker: DockerClient, disk: SmallDisk) -> None:
    docker("run", "--detach", "--restart", "always", "--name", "again", "busybox", "sleep", "1000")
    disk.fill()
    os.kill(int(docker("inspect", "--format", "{{.State.Pid}}", "again").line), signal.SIGKILL)

    def restarted() -> bool:
        (state,) = json.loads(docker("inspect", "again").stdout)
        return bool(state["RestartCount"] >= 1 and state["State"]["Running"])

    with contextlib.suppress(AssertionError):
        eventually(restarted, "started again though the disk is full", 5)
    disk.free()
    eventually(restarted, "started again")
