"""What a client's call has suspended or kept ends with whoever asked for it."""

import os
import signal
import subprocess

import pytest

from tests.chaos.conftest import Steady
from tests.support.docker_client import DockerClient
from tests.support.engine import SAMPAN, Engine
from tests.support.tools import eventually

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def large(docker: DockerClient, image: str) -> str:
    """A running container that takes seconds to commit."""
    docker("run", "--detach", "--name", "large", image, "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")
    docker("exec", "large", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do head -c 30000000 /dev/urandom > /$i; done")
    return "large"


def _state(docker: DockerClient, name: str) -> str:
    return docker("inspect", "--format", "{{.State.Status}}", name).line


@pytest.mark.parametrize("victim", ["docker", "dockerapi", "sampan", "runtimed", "snapshotter", "imaged"])
def test_a_container_goes_on_whoever_is_killed_in_its_commit(
    engine: Engine, docker: DockerClient, large: str, steady: Steady, victim: str
) -> None:
    if victim == "sampan":
        client = subprocess.Popen([SAMPAN, "commit", large], env=engine.env(), stdout=subprocess.DEVNULL)
    else:
        client = docker.start("commit", large)
    eventually(lambda: _state(docker, large) == "paused", "it is held")
    if victim in ("docker", "sampan"):
        os.kill(client.pid, signal.SIGKILL)
    else:
        engine.kill(victim)
    client.wait(60)
    eventually(lambda: _state(docker, large) == "running", "it goes on")
    assert docker("exec", large, "echo", "inside").line == "inside"
    docker("rm", "--force", large)
