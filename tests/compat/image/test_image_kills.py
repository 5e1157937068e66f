"""A service is killed in the middle of a push, a load or a commit: nothing half-made stays, and the next one works."""

import random
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.docker_client import DockerClient
from tests.support.engine import Engine
from tests.support.images import Entry, Image, layer, tar
from tests.support.registry import Registry, run_registry
from tests.unit.imaged.archives import archive, docker_archive

BIG = Image([layer(tar(Entry(f"noise{n}", random.Random(n).randbytes(24 << 20))), "none") for n in range(3)], {})
NAME = "killed:1"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive that takes a moment to load."""
    path = tmp_path_factory.mktemp("saved") / "image.tar"
    path.write_bytes(archive(docker_archive(BIG, [NAME])))
    return path


@pytest.fixture
def fresh_registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry with nothing in it."""
    with run_registry(tmp_path / "registry") as running:
        yield running


def killed_during(engine: Engine, process: "subprocess.Popen[bytes]", service: str, after_s: float) -> None:
    """Kill a service while ``docker`` is at work; how that ends does not matter."""
    time.sleep(after_s)
    engine.kill(service)
    process.communicate(timeout=60)


@pytest.mark.parametrize("service", ["imaged", "snapshotter"])
@pytest.mark.parametrize("after_s", [0.05, 0.4])
def test_a_load_whose_service_is_killed_is_all_or_nothing(
    engine: Engine, docker: DockerClient, saved: Path, service: str, after_s: float, nothing_left: None
) -> None:
    killed_during(engine, docker.start("load", "--input", str(saved)), service, after_s)
    if docker.fails("image", "inspect", NAME).code == 0:
        docker("save", "--output", str(saved.with_name("again.tar")), NAME)
    docker("load", "--input", str(saved))
    assert docker("image", "inspect", "--format", "{{.Id}}", NAME).line == BIG.id
    docker("rmi", NAME)


@pytest.mark.parametrize("after_s", [0.05, 0.3])
def test_a_push_whose_service_is_killed_is_done_again(
    engine: Engine, docker: DockerClient, saved: Path, fresh_registry: Registry, after_s: float
) -> None:
    docker("load", "--input", str(saved))
    docker("tag", NAME, name := f"{fresh_registry.address}/killed:1")
    killed_during(engine, docker.start("push", name), "imaged", after_s)
    docker("push", "--quiet", name)
    docker("rmi", NAME, name)
    docker("pull", "--quiet", name)
    assert docker("image", "inspect", "--format", "{{.Id}}", name).line == BIG.id
    docker("rmi", name)


@pytest.mark.parametrize("service", ["imaged", "snapshotter"])
def test_a_commit_whose_service_is_killed_is_all_or_nothing(
    engine: Engine, docker: DockerClient, image: str, container_name: Callable[[], str], service: str, tmp_path: Path
) -> None:
    docker("run", "--name", (container := container_name()), image, "sh", "-c", "head -c 60000000 /dev/urandom > /big")
    killed_during(engine, docker.start("commit", container, NAME), service, 0.3)
    docker("commit", container, NAME)
    assert docker("run", "--rm", NAME, "wc", "-c", "/big").line.split() == ["60000000", "/big"]
    docker("save", "--output", str(tmp_path / "saved.tar"), NAME)
    assert tarfile.is_tarfile(tmp_path / "saved.tar")
    docker("rmi", NAME)
