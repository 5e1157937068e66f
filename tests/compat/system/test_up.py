"""``sampan up``, ``status`` and ``down``, as a user types them."""

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.layout import Layout
from sampan.services import STARTED, WHEN_ASKED
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine
from tests.support.footprint import NOTHING, footprint, remove_kernel_objects
from tests.support.tools import eventually, long_time, need_root, sleeping
from tests.support.trees import busybox_tar


@pytest.fixture
def stopped() -> Iterator[Engine]:
    """An engine that nobody has started; it is stopped in the end."""
    need_root()
    root = Path(tempfile.mkdtemp(prefix="sp", dir="/tmp"))
    engine = Engine(Layout(root / "d", root / "r"), root / "c", root / "log")
    engine.config.mkdir()
    yield engine
    engine.sampan_fails("down")
    eventually(lambda: footprint(engine.layout) == NOTHING, "nothing is left")
    remove_kernel_objects(engine.layout)
    shutil.rmtree(root)


def test_engine_answers_as_soon_as_up_returns(stopped: Engine) -> None:
    stopped.sampan("up", "--detach")
    docker = DockerClient(stopped.host, stopped.config)
    docker("version")
    assert docker("ps", "--all", "--quiet").stdout == ""


def test_status_lists_every_service(stopped: Engine) -> None:
    stopped.sampan("up", "--detach")
    rows = json.loads(stopped.sampan("status", "--format", "json").stdout)
    assert {row["service"] for row in rows} == set(STARTED)
    for row in rows:
        assert row["healthy"] is True
        assert row["waits"] is (row["service"] in WHEN_ASKED)
        assert row["waits"] or Path(f"/proc/{row['pid']}").exists()
        assert Path(row["socket"]).is_socket()
        assert row["metrics"].startswith("127.0.0.1:")
    stopped.sampan("down")
    assert stopped.sampan_fails("status").code == 1


def test_containers_outlive_the_engine_and_are_known_to_the_next(stopped: Engine) -> None:
    stopped.sampan("up", "--detach")
    docker = DockerClient(stopped.host, stopped.config)
    tar = stopped.layout.data_root.parent / "root.tar"
    tar.write_bytes(busybox_tar())
    docker("import", str(tar), "busybox")
    script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done"
    docker("run", "--detach", "--name", "counter", "busybox", "sh", "-c", script)
    pid = docker("inspect", "--format", "{{.State.Pid}}", "counter").line
    stopped.sampan("down")
    assert Path(f"/proc/{pid}").exists()
    stopped.sampan("up", "--detach")
    assert docker("inspect", "--format", "{{.State.Pid}} {{.State.Status}}", "counter").line == f"{pid} running"
    numbers = docker("logs", "counter").lines
    assert numbers == [str(number + 1) for number in range(len(numbers))]
    assert docker("exec", "counter", "echo", "still here").line == "still here"
    docker("rm", "--force", "counter")


def test_exit_that_nobody_saw_is_known_afterwards(stopped: Engine) -> None:
    seconds = long_time()
    stopped.sampan("up", "--detach")
    docker = DockerClient(stopped.host, stopped.config)
    tar = stopped.layout.data_root.parent / "root.tar"
    tar.write_bytes(busybox_tar())
    docker("import", str(tar), "busybox")
    docker("run", "--detach", "--name", "brief", "busybox", "sh", "-c", f"sleep {seconds}; exit 7")
    eventually(lambda: len(sleeping(seconds)) == 1, "it runs")
    stopped.sampan("down")
    (pid,) = sleeping(seconds)
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not sleeping(seconds), "it has ended")
    stopped.sampan("up", "--detach")
    assert docker("wait", "brief").line == "7"
    docker("rm", "brief")
