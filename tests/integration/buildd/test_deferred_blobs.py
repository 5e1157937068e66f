"""Images whose layers have no blobs yet: they run, and go elsewhere whole, whoever is killed on the way."""

import json
import re
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docker_client import DockerClient
from tests.support.engine import Engine, run_engine
from tests.support.registry import Registry, run_registry
from tests.support.trees import busybox_tar

pytestmark = pytest.mark.root

DOCKERFILE = """FROM base
RUN mkdir /made && echo {mark} > /made/out && ln /made/out /made/linked && rm /bin/ash
RUN head -c 3000000 /dev/urandom > /x && ln /made/out /made/third
RUN rm -r /made && mkdir /made && echo {mark} > /made/again
CMD ["cat", "/made/again"]
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with tempfile.TemporaryDirectory(prefix="bd", dir="/tmp") as directory:
        (tar := Path(directory) / "root.tar").write_bytes(busybox_tar())
        with run_engine({"buildd": "defer_bytes = 1\n"}) as made:
            DockerClient(made.host, made.config)("import", "--change", "ENV PATH=/bin", str(tar), "base")
            yield made


@pytest.fixture(scope="module")
def docker(engine: Engine) -> DockerClient:
    return DockerClient(engine.host, engine.config)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with run_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
def built(docker: DockerClient, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """An image with three layers of which there are no blobs."""
    mark = re.sub("[^a-z]+", "-", request.node.name).strip("-")
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.format(mark=mark))
    docker("build", "--tag", mark, str(tmp_path))
    yield mark
    if left := docker("images", "--quiet", mark).lines:
        docker("rmi", "--force", *set(left))
    docker("builder", "prune", "--all", "--force")


def runs(docker: DockerClient, image: str, mark: str) -> None:
    assert docker("run", "--rm", "--network", "none", image).line == mark
    look = "ls -d /made/* /bin/ash /bin/sh; stat -c %s /x"
    found = docker.fails("run", "--rm", "--network", "none", image, "sh", "-c", look)
    assert found.lines == ["/bin/sh", "/made/again", "3000000"]


def id_of(docker: DockerClient, image: str) -> str:
    return docker("image", "inspect", "--format", "{{.Id}} {{json .RootFS.Layers}}", image).line


def is_whole(engine: Engine) -> None:
    checked = engine.sampan_fails("system", "check", timeout=120)
    assert (checked.code, "Everything is whole." in checked.stdout) == (0, True), checked.stdout + checked.stderr


def archived(docker: DockerClient, path: Path, *images: str) -> list[list[str]]:
    """Save images; return the types of the layers of each."""
    docker("save", "--output", str(path), *images)
    with tarfile.open(path) as archive:

        def read(name: str) -> dict[str, list[dict[str, str]]]:
            file = archive.extractfile(name)
            assert file is not None
            document: dict[str, list[dict[str, str]]] = json.load(file)
            return document

        manifests = [each["digest"] for each in read("index.json")["manifests"]]
        documents = [read(f"blobs/sha256/{digest.removeprefix('sha256:')}") for digest in manifests]
        return [[layer["mediaType"].rpartition(".")[2] for layer in each["layers"]] for each in documents]


def test_an_image_runs_and_is_pushed_and_pulled(
    engine: Engine, docker: DockerClient, registry: Registry, built: str
) -> None:
    runs(docker, built, built)
    is_whole(engine)
    engine.sampan("system", "gc")
    before = id_of(docker, built)
    remote = f"{registry.address}/{built}:1"
    docker("tag", built, remote)
    docker("push", remote)
    assert id_of(docker, remote) == id_of(docker, built) == before
    assert len(docker("image", "inspect", "--format", '{{join .RepoDigests " "}}', built).line.split()) == 1
    is_whole(engine)
    docker("rmi", remote, built)
    docker("builder", "prune", "--all", "--force")
    docker("pull", remote)
    assert id_of(docker, remote) == before
    runs(docker, remote, built)
    docker("rmi", remote)


def test_an_archive_has_all_of_it_and_another_build_takes_it_as_it_is(
    engine: Engine, docker: DockerClient, built: str, tmp_path: Path
) -> None:
    before = id_of(docker, built)
    docker("tag", built, f"{built}:second")
    path = tmp_path / "saved.tar"
    both = 2 * [["tar", *3 * ["tar+gzip"]]]  # a name without a tag stands for all tags; "tar" is what was imported
    assert archived(docker, path, built) == both
    docker("build", "--tag", built, str(tmp_path))  # finds all of it, and the blobs
    assert id_of(docker, built) == before
    assert archived(docker, tmp_path / "again.tar", built) == both
    is_whole(engine)
    docker("rmi", built, f"{built}:second")
    docker("builder", "prune", "--all", "--force")
    docker("load", "--input", str(path))
    assert id_of(docker, built) == before
    runs(docker, built, built)


def test_what_stands_on_it_has_its_layers(engine: Engine, docker: DockerClient, built: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {built}\nENV A=1\n")
    docker("build", "--tag", f"{built}:env", str(tmp_path))
    docker("run", "--name", built, "--network", "none", built, "sh", "-c", "echo committed > /committed")
    docker("commit", "--change", 'CMD ["cat", "/made/again"]', built, f"{built}:commit")
    docker("rm", built)
    docker("rmi", built)
    docker("builder", "prune", "--all", "--force")
    engine.sampan("system", "gc")
    for tag in ("env", "commit"):
        runs(docker, f"{built}:{tag}", built)
    saved = archived(docker, tmp_path / "both.tar", f"{built}:env", f"{built}:commit")
    assert saved == [["tar", *3 * ["tar+gzip"]], ["tar", *4 * ["tar+gzip"]]]
    is_whole(engine)
    docker("rmi", f"{built}:env", f"{built}:commit")


@pytest.mark.parametrize("service", ["imaged", "snapshotter"])
def test_a_service_that_is_killed_while_blobs_are_made_costs_nothing(
    engine: Engine, docker: DockerClient, built: str, tmp_path: Path, service: str
) -> None:
    before = id_of(docker, built)
    path = tmp_path / "saved.tar"
    codes: list[int] = []
    saving = threading.Thread(target=lambda: codes.append(docker.fails("save", "--output", str(path), built).code))
    saving.start()
    engine.kill(service)
    saving.join()
    assert id_of(docker, built) == before
    runs(docker, built, built)
    assert archived(docker, path, built) == [["tar", *3 * ["tar+gzip"]]]
    is_whole(engine)


def test_a_removal_and_a_prune_leave_nothing(engine: Engine, docker: DockerClient, built: str) -> None:
    docker("rmi", built)
    docker("builder", "prune", "--all", "--force")
    engine.sampan("system", "gc", "--leftovers")
    assert list((engine.layout.data("snapshotter") / "l").glob("*/x")) == []
    is_whole(engine)


def test_a_layer_that_is_lost_is_told_of_and_built_again(
    engine: Engine, docker: DockerClient, built: str, tmp_path: Path
) -> None:
    (stored,) = (engine.layout.data("snapshotter") / "l").glob("*/x")
    stored.unlink()
    checked = engine.sampan_fails("system", "check", "--repair", timeout=120)
    assert checked.code != 0
    assert "build the image again" in checked.stdout
    assert "not made yet" not in checked.stderr
    failed = docker.fails("save", "--output", str(tmp_path / "saved.tar"), built)
    assert (failed.code, "is not stored" in failed.stderr) == (1, True), failed.stderr
    lost = docker("images", "--quiet", "--no-trunc", built).line
    docker("build", "--tag", built, str(tmp_path))
    runs(docker, built, built)
    docker("rmi", lost)
    docker("builder", "prune", "--all", "--force")  # results that stood on it
    is_whole(engine)
