"""The engine that the compatibility tests drive, and short ways to use it.

SAMPAN_TEST_TARGET=unix:///path/to/docker.sock points them at another engine, dockerd for instance, to see whether a
test asks for what Docker does. It has to share this network namespace.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import docker as sdk_package
import pytest

from tests.support.docker_client import DockerClient, Result
from tests.support.engine import Engine
from tests.support.footprint import NOTHING, Footprint, footprint
from tests.support.images import push
from tests.support.registry import Registry
from tests.support.tools import catches, eventually
from tests.support.trees import busybox_image, debian_image

TARGET = os.environ.get("SAMPAN_TEST_TARGET")


class Spawn(Protocol):
    """Start a container in the background and return its name; it is removed after the test."""

    def __call__(self, *arguments: str) -> str: ...


@pytest.fixture(scope="session")
def docker(request: pytest.FixtureRequest, docker_config: Path) -> DockerClient:
    """The docker client, talking to the target."""
    if TARGET:
        return DockerClient(TARGET, docker_config)
    engine: Engine = request.getfixturevalue("engine")
    return DockerClient(engine.host, docker_config)


@pytest.fixture(scope="session")
def image(docker: DockerClient, registry: Registry) -> str:
    """A small image, pulled and used: its layers stay mounted from the first use on, and are nothing left behind."""
    push(registry, "busybox", "1", busybox_image())
    reference = f"{registry.address}/busybox:1"
    docker("pull", "--quiet", reference)
    docker("run", "--rm", "--network", "none", reference, "true")
    return reference


@pytest.fixture(scope="session")
def debian(docker: DockerClient, registry: Registry) -> str:
    """A real distribution's image, pulled."""
    push(registry, "debian", "12", debian_image())
    reference = f"{registry.address}/debian:12"
    docker("pull", "--quiet", reference, timeout=120)
    return reference


@pytest.fixture
def run(docker: DockerClient, image: str) -> Callable[..., Result]:
    """Run a shell script in a new container with these flags; its exit code does not matter."""

    def run_script(script: str, *flags: str, input: str | None = None) -> Result:
        return docker.fails("run", "--rm", *flags, image, "sh", "-c", script, input=input)

    return run_script


@pytest.fixture
def container_name(docker: DockerClient, unique: Callable[[str], str]) -> Iterator[Callable[[], str]]:
    """Make names for containers, which are removed after the test."""
    names: list[str] = []

    def make() -> str:
        names.append(unique("c"))
        return names[-1]

    yield make
    for name in names:
        docker.fails("rm", "--force", "--volumes", name)


@pytest.fixture
def spawn(docker: DockerClient, container_name: Callable[[], str]) -> Spawn:
    """Start containers in the background."""

    def start(*arguments: str) -> str:
        name = container_name()
        docker("run", "--detach", "--name", name, *arguments)
        return name

    return start


def listens(docker: DockerClient, name: str, number: int = signal.SIGTERM) -> None:
    """Return when a container's first process has a handler for a signal: until then it would not hear of it."""
    pid = int(docker("inspect", "--format", "{{.State.Pid}}", name).line)
    eventually(lambda: catches(pid, number), f"{name} has a handler for signal {number}")


@pytest.fixture
def sleeper(docker: DockerClient, spawn: Spawn, image: str) -> str:
    """A container that runs until it is told to stop, and ends with 143 then."""
    name = spawn(image, "sh", "-c", "trap 'exit 143' TERM; while :; do sleep 3600 & wait $!; done")
    listens(docker, name)
    return name


def say_in_turn(docker: DockerClient, spawn: Spawn, image: str, *parts: str, flags: Sequence[str] = ()) -> str:
    """Run a container that says something in each part, and nothing before the last thing is in its log; it has ended.

    What comes on two streams at once is in the log as whoever reads them gets to it.
    """
    script = parts[0]
    for number, part in enumerate(parts[1:], 1):
        script += f"; until [ -e /go{number} ]; do sleep 0.02; done; {part}"
    name = spawn(*flags, image, "sh", "-c", script)

    def said() -> int:
        shown = docker("logs", name)
        return len(shown.lines) + len(shown.stderr.splitlines())

    for number in range(1, len(parts)):
        eventually(lambda number=number: said() >= number, "what it said is logged")  # type: ignore[misc]
        docker("exec", name, "touch", f"/go{number}")
    docker("wait", name)
    return name


@pytest.fixture
def sdk(docker: DockerClient) -> Iterator[sdk_package.DockerClient]:
    """The Docker SDK for Python."""
    client = sdk_package.DockerClient(base_url=docker.host, timeout=60)
    yield client
    client.close()


@pytest.fixture
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever the test did, afterwards the engine has in the kernel and on disk what it had before."""
    if TARGET:
        yield
        return
    engine: Engine = request.getfixturevalue("engine")
    before = footprint(engine.layout)
    yield

    def left() -> Footprint:
        return footprint(engine.layout).without(before)

    try:
        eventually(lambda: left() == NOTHING, "nothing is left")
    except AssertionError:
        pytest.fail(f"left behind: {left()}", pytrace=False)
