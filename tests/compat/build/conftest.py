"""BuildKit's clients, and a builder that they drive."""

from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.go_clients import GoClient, go_program


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


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """An empty directory to build from."""
    made = tmp_path / "context"
    made.mkdir()
    return made
