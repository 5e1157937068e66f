"""BuildKit's clients, and a builder that they drive."""

from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.go_clients import GoClient, go_program
from tests.support.images import Entry, Image, layer, push, tar
from tests.support.registry import Registry


@pytest.fixture(scope="session")
def buildctl(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> GoClient:
    """``buildctl`` of moby/buildkit."""
    address = f"unix://{engine.layout.socket('buildd')}"
    return GoClient(go_program("buildctl"), tmp_path_factory.mktemp("buildctl"), ("--addr", address))


@pytest.fixture(scope="session")
def buildx(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> GoClient:
    """``buildx`` of docker/buildx, with the builder ``sampan``."""
    client = GoClient(go_program("buildx"), tmp_path_factory.mktemp("buildx"))
    client(
        "create", "--name", "sampan", "--driver", "remote", "--use", f"unix://{engine.layout.socket('buildd')}",
        cwd=client.home,
    )  # fmt: skip
    return client


@pytest.fixture(scope="session")
def frontend(registry: Registry) -> str:
    """The image of a frontend whose files are lines: see tests/support/go/frontend."""
    program = tar(Entry("frontend", go_program("frontend").read_bytes(), mode=0o755))
    labels = {"moby.buildkit.frontend.caps": "moby.buildkit.frontend.inputs,moby.buildkit.frontend.contexts"}
    config = {"Entrypoint": ["/frontend"], "Env": ["OF_THE_IMAGE=yes"], "Labels": labels}
    push(registry, "lines", "1", Image([layer(program)], config))
    return f"{registry.address}/lines:1"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """An empty directory to build from."""
    made = tmp_path / "context"
    made.mkdir()
    return made
