"""The examples that need nothing but busybox; ``make examples`` builds all of them, with other builders beside."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.examples.kinds import KINDS, TOKEN, Kind, copy_of, licences
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine
from tests.support.go_clients import GoClient, go_program
from tests.support.image_contents import differences, read_image

pytestmark = pytest.mark.root

Build = Callable[..., None]
KIND = {kind.name: kind for kind in KINDS}


@pytest.fixture
def build(engine: Engine, tmp_path: Path) -> Build:
    """Build a directory with buildx's docker driver."""
    home = tmp_path / "home"
    home.mkdir()
    buildx = GoClient(go_program("buildx"), home)

    def run(context: Path, name: str, *arguments: str) -> None:
        buildx("build", "--tag", name, *arguments, ".", cwd=context, env={"DOCKER_HOST": engine.host})

    return run


def says(docker: DockerClient, kind: Kind) -> bool:
    return docker("run", "--rm", "--network", "none", kind.name).stdout == kind.says


@pytest.mark.parametrize("kind", [KIND["heredocs"], KIND["copy-link"]], ids=lambda kind: kind.name)
def test_two_ways_to_say_it_lead_to_the_same_files(
    kind: Kind, build: Build, docker: DockerClient, image: str, tmp_path: Path
) -> None:
    context = copy_of(kind, tmp_path)
    read = []
    for file in ("Dockerfile", "Dockerfile.without"):
        build(context, kind.name, "--file", file, "--build-arg", f"BASE={image}")
        assert says(docker, kind)
        docker("save", "--output", str(tmp_path / file), kind.name)
        read.append(read_image(tmp_path / file))
    # A linked layer has its own directories, and they are what is seen: of /opt and /srv, too.
    assert differences(read[0], read[1], ("/opt", "/srv") if kind.name == "copy-link" else ()) == []
    docker("rmi", kind.name)


def test_triggers_of_one_image_work_in_the_next(build: Build, docker: DockerClient, image: str, tmp_path: Path) -> None:
    context = copy_of(KIND["onbuild"], tmp_path)
    build(context / "language", "language", "--build-arg", f"BASE={image}")
    build(context, "onbuild", "--build-arg", "VERSION=3")
    assert says(docker, KIND["onbuild"])
    assert docker("inspect", "--format", "{{.Config.Labels.version}} {{.Config.OnBuild}}", "onbuild").line == "3 []"
    docker("rmi", "onbuild", "language")


def test_a_token_opens_a_download_and_is_in_no_layer(
    build: Build, docker: DockerClient, image: str, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with licences("127.0.0.1") as server:
        build(
            copy_of(KIND["secret-token"], tmp_path), "secret-token", "--network", "host",
            "--secret", f"id=token,src={token}", "--build-arg", f"BASE={image}", "--build-arg", f"SERVER={server}",
        )  # fmt: skip
    assert says(docker, KIND["secret-token"])
    docker("save", "--output", str(tmp_path / "saved"), "secret-token")
    assert {"/run/secrets/token", "/etc/tokens/token"}.isdisjoint(read_image(tmp_path / "saved").files)
    docker("rmi", "secret-token")
