"""What a client's call has suspended or kept ends with whoever asked for it."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.conftest import Steady
from tests.support.docker_client import DockerClient, UnixConnection
from tests.support.engine import SAMPAN, Engine, run_engine
from tests.support.tools import eventually

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def large(docker: DockerClient, image: str) -> str:
    """A running container that takes seconds to commit."""
    docker("run", "--detach", "--name", "large", image, "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")
    docker("exec", "large", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do head -c 30000000 /dev/urandom > /$i; done")
    return "large"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine that waits a second for clients that it lost when it was killed itself."""
    with run_engine({"imaged": "lease_s = 1.0\n"}) as running:
        yield running


def _state(engine: Engine, name: str) -> str:
    """Ask by a request of our own: a client's start may take as long as what is looked for."""
    connection = UnixConnection(engine.layout.docker_socket)
    try:
        connection.request("GET", f"/containers/{name}/json")
        state: str = json.loads(connection.getresponse().read())["State"]["Status"]
        return state
    finally:
        connection.close()


def _kept(engine: Engine) -> set[str]:
    """Return what imaged has on disk."""
    root = engine.layout.data("imaged")
    return {path.name for directory in ("blobs/sha256", "ingests") for path in (root / directory).iterdir()}


@pytest.mark.parametrize("victim", ["docker", "dockerapi", "sampan", "runtimed", "snapshotter", "imaged"])
def test_a_container_goes_on_whoever_is_killed_in_its_commit(
    engine: Engine, docker: DockerClient, large: str, steady: Steady, victim: str
) -> None:
    before = _kept(engine)
    if victim == "sampan":
        client = subprocess.Popen([SAMPAN, "commit", large], env=engine.env(), stdout=subprocess.DEVNULL)
    else:
        client = docker.start("commit", large)
    eventually(lambda: _state(engine, large) == "paused", "it is held")
    if victim in ("docker", "sampan"):
        os.kill(client.pid, signal.SIGKILL)
    else:
        engine.kill(victim)
    client.wait(60)
    eventually(lambda: _state(engine, large) == "running", "it goes on")
    assert docker("exec", large, "echo", "inside").line == "inside"
    docker("rm", "--force", large)

    def collected() -> bool:
        docker("image", "prune", "--force")  # it may have been committed all the same
        engine.sampan("system", "gc")
        return _kept(engine) == before

    eventually(collected, "nothing of the commit is kept")


@pytest.mark.parametrize("victim", ["docker", "dockerapi", "snapshotter", "imaged"])
def test_nothing_is_kept_of_a_load_whose_parties_are_killed(
    engine: Engine, docker: DockerClient, image: str, steady: Steady, tmp_path: Path, victim: str
) -> None:
    docker("run", "--name", "made", image, "sh", "-c", "head -c 60000000 /dev/urandom > /file")
    docker("commit", "made", "made:1")
    docker("rm", "made")
    docker("save", "--output", str(tmp_path / "made.tar"), "made:1")
    docker("rmi", "made:1")
    engine.sampan("system", "gc")
    before = _kept(engine)
    client = docker.start("load", "--input", str(tmp_path / "made.tar"))
    eventually(lambda: _kept(engine) != before, "it has begun to arrive")
    if victim == "docker":
        client.kill()
    else:
        engine.kill(victim)
    client.communicate(timeout=60)

    def collected() -> bool:
        docker.fails("rmi", "made:1")  # it may have been loaded all the same
        engine.sampan("system", "gc")
        return _kept(engine) == before

    eventually(collected, "nothing of the load is kept")
