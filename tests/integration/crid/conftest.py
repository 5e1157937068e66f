"""crid beside an engine, asked as kubelet asks."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.docker_client import DockerClient
from tests.support.engine import Engine
from tests.support.images import push
from tests.support.pods import Crid, network, run_crid
from tests.support.registry import Registry
from tests.support.trees import busybox_image


@pytest.fixture(scope="package")
def net_d() -> Iterator[Path]:
    """The directory of the pods' network."""
    directory = Path(tempfile.mkdtemp(prefix="cri"))
    yield network(directory, "10.124.0.0/16")
    shutil.rmtree(directory)


@pytest.fixture(scope="package")
def cri(engine: Engine, net_d: Path) -> Iterator[Crid]:
    """A crid of the engine."""
    with run_crid(engine.layout, net_d, "--cni-conf-dir", str(net_d)) as running:
        yield running


@pytest.fixture(scope="package")
def image(docker: DockerClient, registry: Registry) -> str:
    """A small image, pulled and used: its layers stay mounted from the first use on, and are nothing left behind."""
    reference = f"{registry.address}/pods:1"
    push(registry, "pods", "1", busybox_image())
    docker("pull", "--quiet", reference)
    docker("run", "--rm", "--network", "none", reference, "true")
    return reference


@pytest.fixture
def name(unique: Callable[[str], str]) -> str:
    """A pod's name of the test's own."""
    return unique("pod")
