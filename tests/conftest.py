"""What every test may ask for. Engines and registries are started once per run, and only if something asks."""

import itertools
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.docker_client import DockerClient
from tests.support.engine import RUNNING, Engine, run_engine
from tests.support.registry import Registry, run_registry
from tests.support.tools import need_root

_NUMBERS = itertools.count(1)

_LOG_CHARACTERS = 12_000

_SLOW_S = 900  # what a test may take that is marked as slow

# Where whoever runs the tests has an engine, a builder or a configuration of their own: no test may find it.
for _name in list(os.environ):
    if _name.startswith(("DOCKER_", "BUILDX_", "BUILDKIT_", "SAMPAN_")) and not _name.startswith("SAMPAN_TEST_"):
        del os.environ[_name]

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests that take some time by themselves more of it on a busy machine."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_SLOW_S))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a case that is bytes which nobody can read by its argument and number.

    Processes that share the tests must find them by the same names; such bytes may hold the time (gzip) or be random.
    """
    readable = not isinstance(val, bytes) or (val.isascii() and val.decode().isprintable())
    return None if readable else argname


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the engines had logged: most are gone before anybody can look."""
    report = yield
    if report.failed:
        for engine in RUNNING:
            if engine.log.exists():
                report.sections.append((f"log of the engine at {engine.log.parent}", engine.tail(_LOG_CHARACTERS)))
    return report


@pytest.fixture(autouse=True)
def _root_where_marked(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("root"):
        need_root()


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry without a login, on plain HTTP; empty at first."""
    with run_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """An engine with its defaults but for patience with registries, shared by all tests of a run."""
    with run_engine({"imaged": "retry_base_s = 0.05\n"}) as running:
        yield running


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Make names that no other test has used, so that tests may share an engine."""
    return lambda name: f"{name}-{os.getpid():x}-{next(_NUMBERS)}"


@pytest.fixture(scope="session")
def docker_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration directory for the docker client, not the user's own."""
    return tmp_path_factory.mktemp("docker-config")


@pytest.fixture(scope="session")
def docker(engine: Engine, docker_config: Path) -> DockerClient:
    """The docker client, talking to the shared engine."""
    return DockerClient(engine.host, docker_config)
