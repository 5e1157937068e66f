"""A registry over a real content store."""

from collections.abc import Iterator

import pytest
import requests

from tests.support.private_registry import PrivateRegistry, content_store, private_registry


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRegistry]:
    directory = tmp_path_factory.mktemp("registryd")
    with content_store(directory) as layout, private_registry(layout, directory) as running:
        yield running


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A repository of the test's own."""
    return f"tests/{request.node.name.split('[')[0].removeprefix('test_').lower()}"
