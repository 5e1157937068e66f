"""The LAMP example as its README has it: built and started by compose, changed, and run elsewhere from a registry."""

import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from bench.engines import Engine as Other
from tests.examples.kinds import EXAMPLES
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine
from tests.support.go_clients import GoClient
from tests.support.private_registry import private_registry
from tests.support.tools import eventually, free_port, need
from tests.support.uplink import Neighbour

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]

BUILD_S = 900  # packages are fetched and installed, perhaps on a busy machine
GREETINGS = ("Good morning", "Grüezi", "שלום")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the example, to be changed."""
    return Path(shutil.copytree(EXAMPLES / "lamp", tmp_path / "lamp"))


@pytest.fixture
def registry_address(engine: Engine, tmp_path: Path) -> Iterator[str]:
    """The engine's own registry, open on every address; its port is what the addresses have in common."""
    with private_registry(engine.layout, tmp_path, everywhere=True) as running:
        yield running.address


def test_the_example_is_built_changed_and_run_by_others_unchanged(
    project: Path,
    docker: DockerClient,
    bases: Mapping[str, Path],
    client: Callable[..., GoClient],
    registry_address: str,
    other_machine: Neighbour,
    dockerd: Other,
    podman: Other,
) -> None:
    need("curl")
    assert "debian:12" in bases
    compose = client("compose", "--progress", "plain")
    page = f"http://127.0.0.1:{free_port()}/"
    env = {"DOCKER_HOST": docker.host, "COMPOSE_BAKE": "false", "LISTEN": page[7:-1], "REGISTRY": registry_address}

    def up(**more: str) -> str:
        compose("up", "--build", "--detach", "--wait", cwd=project, env={**env, **more}, timeout=BUILD_S)
        return _fetched([], page)

    try:
        first = up()
        assert "Visit 1," in first
        index = project / "web/site/index.php"
        index.write_text(index.read_text().replace("From the database", "Read from the database"))
        second = up(TAG="2")
        assert "<h1>Read from the database</h1>" in second
        assert "Visit 2," in second, "the volume has what was written before the change"
        compose("push", "--quiet", cwd=project, env={**env, "TAG": "2"}, timeout=BUILD_S)
        for engine in (dockerd, podman):
            shown = _run_elsewhere(engine, other_machine, registry_address.rpartition(":")[2])
            assert "<h1>Read from the database</h1>" in shown
            assert "Visit 1," in shown
            assert all(words in shown for words in GREETINGS)
    finally:
        compose.fails("down", "--volumes", "--rmi", "all", cwd=project, env=env)
        compose.fails("down", "--rmi", "all", cwd=project, env={**env, "TAG": "2"})
    assert all(words in page for page in (first, second) for words in GREETINGS)


def _run_elsewhere(engine: Other, machine: Neighbour, port: str) -> str:
    """Pull both images and run them side by side; return the page."""
    db, web = (f"{machine.here}:{port}/lamp/{name}:2" for name in ("db", "web"))
    for image in (db, web):
        engine(*engine.over_http("pull", "--quiet", image))
    engine("run", "--detach", "--name", "db", "--publish", "127.0.0.1:8080:80", "--env", "DB_PASSWORD=else'where", db)
    try:
        engine(
            "run", "--detach", "--name", "web", "--network", "container:db", "--env", "DB_HOST=127.0.0.1",
            "--env", "DB_PASSWORD=else'where", web,
        )  # fmt: skip
        enter = machine.namespace.enter()
        found: list[str] = []

        def answers() -> bool:
            found[:] = [_fetched(enter, "http://127.0.0.1:8080/")]
            return "Visit" in found[0]

        eventually(answers, f"{engine.name} runs the example", 120)
        return found[0]
    finally:
        engine.remove("web", "db", check=False)


def _fetched(enter: list[str], url: str) -> str:
    """Return what is at ``url``, or nothing."""
    curl = ["curl", "--silent", "--noproxy", "*", "--max-time", "30", url]
    return subprocess.run([*enter, *curl], capture_output=True, text=True).stdout
