"""SIGKILL at many moments of bringing images: what is left is whole, and the same again works."""

import itertools
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.docker_client import DockerClient
from tests.support.engine import Engine, run_engine
from tests.support.images import Entry, Image, layer, push, tar
from tests.support.registry import Registry
from tests.support.trees import BUSYBOX_CONFIG, busybox_image, busybox_tar
from tests.unit.imaged.archives import archive, docker_archive

pytestmark = [pytest.mark.root, pytest.mark.slow]

# Seconds after the client's start: from the request on its way in to the name being given, on a quiet machine and on a
# busy one.
MOMENTS_S: Final = (0.03, 0.08, 0.15, 0.25)

both = pytest.mark.parametrize("service", ["imaged", "snapshotter"])


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine of the module's own: a lease of who was killed holds what it brought for an hour."""
    with run_engine({"imaged": "retry_base_s = 0.05\n"}) as running:
        yield running


@pytest.fixture(scope="module")
def docker(engine: Engine, docker_config: Path) -> DockerClient:
    return DockerClient(engine.host, docker_config)


@pytest.fixture(scope="module")
def image(docker: DockerClient, registry: Registry) -> str:
    push(registry, "busybox", "1", busybox_image())
    reference = f"{registry.address}/busybox:1"
    docker("pull", "--quiet", reference)
    return reference


@pytest.fixture
def fresh() -> Callable[[str], Image]:
    """Make images of which nothing is here yet, but the first layer."""
    numbers = itertools.count()

    def make(name: str) -> Image:
        noise = random.Random(f"{name}{next(numbers)}").randbytes(3 << 20)
        return Image([layer(busybox_tar()), layer(tar(Entry("noise", noise)), "none")], BUSYBOX_CONFIG)

    return make


def damage(engine: Engine) -> list[dict[str, Any]]:
    """What a check finds."""
    answer = json.loads(engine.sampan_fails("system", "check", "--format", "json").stdout)
    findings: list[dict[str, Any]] = [*answer["findings"], *answer["skipped"]]
    return findings


def nothing_is_left(engine: Engine, docker: DockerClient) -> None:
    """Let go of what those that were killed held, and look once more."""
    docker("image", "prune", "--force")  # a commit that had its name before the kill has lost it to the next
    engine.sampan("system", "gc")  # layers may have been unpacked for an image that was never made
    assert damage(engine) == []


def killed(engine: Engine, docker: DockerClient, service: str, *command: str) -> Iterator[None]:
    """Run a command again and again, killing the service a little later each time; yield after each check."""
    for moment_s in MOMENTS_S:
        killed_once(engine, docker, service, moment_s, *command)
        yield


def killed_once(engine: Engine, docker: DockerClient, service: str, moment_s: float, *command: str) -> None:
    """Run a command, kill the service a moment later, look what that has left, and run it to its end."""
    client = docker.start(*command)
    time.sleep(moment_s)
    engine.kill(service)
    client.communicate(timeout=60)
    assert damage(engine) == [], f"{service} was killed {moment_s} s after the start of {command[0]}"
    docker(*command)


@both
def test_a_pull(
    engine: Engine, docker: DockerClient, registry: Registry, service: str, fresh: Callable[[str], Image],
    unique: Callable[[str], str],
) -> None:  # fmt: skip
    name = unique("pulled")
    push(registry, name, "1", fresh(name))
    reference = f"{registry.address}/{name}:1"
    for _ in killed(engine, docker, service, "pull", "--quiet", reference):
        docker("run", "--rm", "--network", "none", reference, "true")
        docker("rmi", reference)
        push(registry, name, "1", fresh(name))
    nothing_is_left(engine, docker)


@both
def test_a_load(
    engine: Engine, docker: DockerClient, service: str, fresh: Callable[[str], Image], unique: Callable[[str], str],
    tmp_path: Path,
) -> None:  # fmt: skip
    name, path = unique("loaded"), tmp_path / "image.tar"
    path.write_bytes(archive(docker_archive(fresh(name), [f"{name}:1"])))
    for _ in killed(engine, docker, service, "load", "--quiet", "--input", str(path)):
        docker("run", "--rm", "--network", "none", f"{name}:1", "true")
        docker("rmi", f"{name}:1")
        path.write_bytes(archive(docker_archive(fresh(name), [f"{name}:1"])))
    nothing_is_left(engine, docker)


def test_a_push(
    engine: Engine, docker: DockerClient, registry: Registry, fresh: Callable[[str], Image],
    unique: Callable[[str], str], tmp_path: Path,
) -> None:  # fmt: skip
    name, path = unique("sent"), tmp_path / "image.tar"
    for number, moment_s in enumerate(MOMENTS_S):
        path.write_bytes(archive(docker_archive(fresh(name), [local := f"{name}:{number}"])))
        docker("load", "--quiet", "--input", str(path))
        docker("tag", local, target := f"{registry.address}/{name}:{number}")
        killed_once(engine, docker, "imaged", moment_s, "push", "--quiet", target)
        docker("rmi", local, target)
        docker("pull", "--quiet", target)
        docker("run", "--rm", "--network", "none", target, "true")
        docker("rmi", target)
    nothing_is_left(engine, docker)


@both
def test_a_commit(
    engine: Engine, docker: DockerClient, service: str, image: str,
    unique: Callable[[str], str],
) -> None:  # fmt: skip
    name = unique("committed")
    container = unique("changed")
    docker("run", "--network", "none", "--name", container, image, "sh", "-c", "head -c 9000000 /dev/urandom > /big")
    for _ in killed(engine, docker, service, "commit", container, f"{name}:1"):
        assert docker("run", "--rm", "--network", "none", f"{name}:1", "wc", "-c", "/big").line == "9000000 /big"
        docker("rmi", f"{name}:1")
    docker("rm", container)
    nothing_is_left(engine, docker)
