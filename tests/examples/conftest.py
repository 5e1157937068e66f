"""Builders, and the images that the examples begin with. What takes long is done once per run."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import engines
from tests.examples.builders import Builder, BuildKit, Dockerd, Podman, Sampan
from tests.support.docker_client import DockerClient
from tests.support.go_clients import GoClient, go_program
from tests.support.tools import eventually, need
from tests.support.trees import busybox_tar, debian_tar
from tests.support.uplink import Neighbour, neighbour


@pytest.fixture(scope="session")
def short() -> Iterator[Path]:
    """A directory with a short name, for sockets."""
    with tempfile.TemporaryDirectory(prefix="se", dir="/tmp") as made:
        yield Path(made)


@pytest.fixture(scope="session")
def other_machine() -> Iterator[Neighbour]:
    """Where dockerd and podman run."""
    with neighbour(0) as made:
        yield made


@pytest.fixture(scope="session")
def dockerd(short: Path, other_machine: Neighbour) -> Iterator[engines.Engine]:
    """Debian's dockerd, which takes images from a registry without TLS on this machine."""
    need("dockerd")
    root = short / "d"
    root.mkdir()
    with engines.dockerd(root, other_machine.namespace, [f"{other_machine.here}/32"]) as running:
        yield running


@pytest.fixture(scope="session")
def podman(short: Path, other_machine: Neighbour) -> Iterator[engines.Engine]:
    """Debian's podman."""
    need("podman")
    root = short / "p"
    root.mkdir()
    with engines.podman(root, other_machine.namespace) as usable:
        yield usable


@pytest.fixture(scope="session")
def buildkitd(short: Path, other_machine: Neighbour) -> Iterator[str]:
    """buildkitd of today, and the address where it listens."""
    address = f"unix://{short}/buildkitd.sock"
    command = other_machine.namespace.enter(
        str(go_program("buildkitd")), "--addr", address, "--root", str(short / "b"), "--oci-worker-net=host",
        "--oci-worker-snapshotter=overlayfs", "--containerd-worker=false", "--allow-insecure-entitlement=network.host",
    )  # fmt: skip
    with (short / "buildkitd.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        eventually((short / "buildkitd.sock").exists, "buildkitd listens", 60)
        yield address
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="session")
def client(short: Path) -> Callable[[str], GoClient]:
    """Make clients by the names of their programs, each with a home of its own."""

    def make(name: str, *before: str) -> GoClient:
        home = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=short))
        return GoClient(go_program(name), home, before)

    return make


@pytest.fixture(scope="session")
def bases(docker: DockerClient, short: Path) -> dict[str, Path]:
    """What the examples begin with, as archives, by name; Sampan has it loaded."""
    made = {}
    for name, tree in (("busybox:1", _busybox(short)), ("debian:12", debian_tar())):
        path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        docker("import", "--change", path, "--change", 'CMD ["sh"]', str(tree), name, timeout=120)
        made[name] = short / f"{name.replace(':', '-')}.tar"  # podman takes a colon for a separator
        docker("save", "--output", str(made[name]), name, timeout=120)
    return made


def _busybox(directory: Path) -> Path:
    tree = directory / "busybox-tree.tar"
    tree.write_bytes(busybox_tar())
    return tree


@pytest.fixture(scope="session")
def builders(
    request: pytest.FixtureRequest, docker: DockerClient, client: Callable[..., GoClient], short: Path,
    bases: dict[str, Path],
) -> Callable[[str], Builder]:  # fmt: skip
    """Return a builder by its name, which knows the bases."""
    made: dict[str, Builder] = {}

    def make(name: str) -> Builder:
        if name == "sampan":
            return Sampan(docker, client("buildx"))
        if name == "buildkit":
            buildx = client("buildx")
            buildx(
                "create", "--name", name, "--driver", "remote", "--use", request.getfixturevalue("buildkitd"),
                cwd=buildx.home,
            )  # fmt: skip
            return BuildKit(buildx, short / "layouts")
        other = request.getfixturevalue(name)
        return Dockerd(other) if name == "dockerd" else Podman(other)

    def get(name: str) -> Builder:
        if name not in made:
            builder = make(name)
            for base, archive in bases.items():
                builder.load(archive, base)
            made[name] = builder
        return made[name]

    return get
