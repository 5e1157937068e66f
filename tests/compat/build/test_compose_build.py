"""Compose builds the images of services: through BuildKit's interface and, told so, through the classic one."""

from pathlib import Path

import pytest

from tests.support.docker_client import DockerClient
from tests.support.engine import Engine
from tests.support.go_clients import GoClient, go_program

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("nothing_left")]


@pytest.fixture
def compose(tmp_path: Path) -> GoClient:
    """``docker compose`` as a program of its own, with the project "built"."""
    home = tmp_path / "home"
    home.mkdir()
    return GoClient(go_program("compose"), home, ("--project-name", "built", "--progress", "plain"))


@pytest.mark.parametrize("buildkit", ["1", "0"])
def test_services_are_built_and_started(
    compose: GoClient, docker: DockerClient, engine: Engine, image: str, context: Path, buildkit: str
) -> None:
    env = {"DOCKER_HOST": engine.host, "DOCKER_BUILDKIT": buildkit, "COMPOSE_BAKE": "false"}
    for name in ("one", "two"):
        (context / name).mkdir()
        (context / name / "file").write_text(f"file of {name}\n")
        (context / name / "Dockerfile").write_text(
            f"FROM {image} AS base\nARG WHO\nRUN echo $WHO > /who\n"
            "FROM base AS app\nCOPY file /\nCMD cat /who /file\nFROM base AS unused\nRUN false\n"
        )
    (context / "compose.yaml").write_text(
        "services:\n"
        "  one:\n    build: {context: one, target: app, args: {WHO: first}}\n    network_mode: none\n"
        "  two:\n    build: {context: two, target: app, args: {WHO: second}}\n    network_mode: none\n"
        "    image: named-by-compose:1\n"
    )
    compose("build", cwd=context, env=env)
    shown = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").lines
    assert {"built-one:latest", "named-by-compose:1"} <= set(shown)
    (context / "two/file").write_text("changed\n")
    started = compose("up", "--build", cwd=context, env=env).stdout
    for line in ("first", "file of one", "second", "changed"):
        assert f"| {line}\n" in started
    compose("down", "--rmi", "all", cwd=context, env=env)
    assert "named-by-compose:1" not in docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").lines
