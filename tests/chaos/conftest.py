"""An engine to be hurt, and what must be true of it whatever happened."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from tests.support.docker_client import DockerClient
from tests.support.engine import Engine, run_engine
from tests.support.footprint import NOTHING, Footprint, footprint
from tests.support.images import push
from tests.support.registry import Registry
from tests.support.tools import eventually
from tests.support.trees import busybox_image

# Counts, and says so, ten times a second: a gap in its log is a moment in which it did not run or was not recorded.
_COUNT = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done"


# What is said of a container that is gone, or going, since it was listed.
_GONE = re.compile(r"No such (container|object)|is already in progress|is marked for removal", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Steady:
    """A container that was running before anything was killed."""

    name: str
    pid: str


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine of the module's own."""
    with run_engine({"imaged": "retry_base_s = 0.05\n"}) as running:
        yield running


@pytest.fixture(scope="module")
def docker(engine: Engine) -> DockerClient:
    return DockerClient(engine.host, engine.config)


@pytest.fixture(scope="module")
def image(docker: DockerClient, registry: Registry) -> str:
    push(registry, "busybox", "1", busybox_image())
    reference = f"{registry.address}/busybox:1"
    docker("pull", "--quiet", reference)
    return reference


@pytest.fixture(scope="module")
def steady(docker: DockerClient, image: str) -> Iterator[Steady]:
    """A container that nothing may disturb."""
    docker("run", "--detach", "--interactive", "--name", "steady", image, "sh", "-c", _COUNT)
    yield Steady("steady", docker("inspect", "--format", "{{.State.Pid}}", "steady").line)
    docker("rm", "--force", "steady")


@pytest.fixture(autouse=True)
def _consistent(engine: Engine, docker: DockerClient, image: str, steady: Steady) -> Iterator[None]:
    """After every test: nothing half done, nothing leaked, and the container that was running never noticed."""
    before = footprint(engine.layout)
    yield
    _every_listed_container_can_be_used(docker)
    _undisturbed(docker, steady)
    assert docker("run", "--rm", image, "echo", "works").line == "works"
    # Last, since it waits until all of that is over: the next test begins with what stays.
    _nothing_leaked(engine, docker, before)


def _every_listed_container_can_be_used(docker: DockerClient) -> None:
    """Look at all that tests have left, start it, and remove it.

    What a client asked for whose service was killed may still be made, or go, in the meantime.
    """
    for identity in docker("ps", "--all", "--quiet", "--no-trunc").lines:
        shown = docker.fails("inspect", identity)
        if shown.code == 0 and (container := json.loads(shown.stdout)[0])["Name"] != "/steady":
            if container["State"]["Status"] == "created":
                docker.fails("start", identity)
            shown = docker.fails("logs", identity)
            if shown.code == 0:
                shown = docker.fails("rm", "--force", identity)
        assert shown.code == 0 or _GONE.search(shown.stderr), f"{identity}: {shown}"


def _nothing_leaked(engine: Engine, docker: DockerClient, before: Footprint) -> None:
    def same() -> bool:
        _every_listed_container_can_be_used(docker)
        now = footprint(engine.layout)
        # Files that were there before may have been those of something that was just going.
        return now.without(before) == replace(before.without(now), files=()) == NOTHING

    try:
        eventually(same, "the engine has what it had before")
    except AssertionError as error:
        now = footprint(engine.layout)
        leaked = f"leaked: {now.without(before)}\nlost: {before.without(now)}"
        pytest.fail(f"{leaked}\n{error}\n{engine.tail()}", pytrace=False)


def _undisturbed(docker: DockerClient, steady: Steady) -> None:
    state = docker("inspect", "--format", "{{.State.Pid}} {{.State.Status}} {{.RestartCount}}", steady.name).line
    assert state == f"{steady.pid} running 0"
    numbers = docker("logs", steady.name).lines
    assert numbers == [str(number + 1) for number in range(len(numbers))]
    assert docker("exec", steady.name, "echo", "inside").line == "inside"
    watcher = docker.start("attach", "--no-stdin", "--sig-proxy=false", steady.name)
    assert watcher.stdout is not None
    first, second = int(watcher.stdout.readline()), int(watcher.stdout.readline())
    assert second == first + 1
    watcher.kill()
    watcher.communicate()
