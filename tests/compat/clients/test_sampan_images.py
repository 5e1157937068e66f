"""``sampan push``, ``save``, ``load``, ``commit``, ``export`` and ``cp``."""

import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.docker_client import DockerClient
from tests.support.engine import SAMPAN, Engine
from tests.support.registry import Registry, run_registry
from tests.support.tools import unmount
from tests.support.trees import busybox_image

Unique = Callable[[str], str]


@pytest.fixture
def container(engine: Engine, docker: DockerClient, image: str, container_name: Callable[[], str]) -> str:
    """A container that has run."""
    docker("run", "--name", (name := container_name()), image, "sh", "-c", "echo new > /new")
    return name


@pytest.fixture
def fresh_registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry with nothing in it."""
    with run_registry(tmp_path / "registry") as running:
        yield running


def test_push_says_how_it_goes(engine: Engine, image: str, fresh_registry: Registry) -> None:
    name = f"{fresh_registry.address}/app:1"
    engine.sampan("tag", image, name)
    lines = engine.sampan("push", name).lines
    assert lines[0] == f"The push refers to repository [{name.removesuffix(':1')}]"
    assert f"{busybox_image().layers[0].diff_id[7:19]}: Pushed" in lines
    assert lines[-1].startswith("1: digest: sha256:")
    assert any(line.endswith(": Layer already exists") for line in engine.sampan("push", name).lines)
    other = f"{fresh_registry.address}/team/other:1"
    engine.sampan("tag", image, other)
    assert any(line.endswith(": Mounted from app") for line in engine.sampan("push", other).lines)
    engine.sampan("rmi", other)
    assert engine.sampan("push", "--quiet", "--all-tags", name.removesuffix(":1")).line == name.removesuffix(":1")
    engine.sampan("rmi", name)
    failed = engine.sampan_fails("push", "nonesuch")
    assert failed.code != 0
    assert "An image does not exist locally with the tag: nonesuch" in failed.stderr


def test_save_and_load(engine: Engine, image: str, tmp_path: Path, unique: Unique) -> None:
    name, archive = f"{unique('saved')}:1", str(tmp_path / "image.tar")
    engine.sampan("tag", image, name)
    engine.sampan("save", "--output", archive, name)
    engine.sampan("rmi", name)
    assert engine.sampan("load", "--input", archive).line == f"Loaded image: {name}"
    engine.sampan("rmi", name)
    failed = engine.sampan_fails("load", input="no archive" * 100)
    assert (failed.code != 0, "not an archive of images" in failed.stderr) == (True, True)


def test_what_there_is_no_room_for_is_said(engine: Engine, image: str, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], check=True)
    try:
        (tmp_path / "image.tar").write_text("kept")
        failed = engine.sampan_fails("save", "--output", str(tmp_path / "image.tar"), image)
        assert (failed.code, failed.stderr) == (1, f"sampan: write {tmp_path}/image.tar: no space left on device\n")
        assert [path.read_text() for path in tmp_path.iterdir()] == ["kept"]
    finally:
        unmount(tmp_path)
    with Path("/dev/full").open("wb") as full:
        for command in (["save", image], ["images"]):
            done = subprocess.run([SAMPAN, *command], stdout=full, stderr=subprocess.PIPE, env=engine.env())
            assert (done.returncode, done.stderr) == (1, b"sampan: write: no space left on device\n")


def test_commit_and_export(engine: Engine, container: str, tmp_path: Path, unique: Unique) -> None:
    name = f"{unique('committed')}:1"
    assert engine.sampan("commit", "--change", 'CMD ["cat", "/new"]', container, name).line.startswith("sha256:")
    assert engine.sampan("run", "--rm", name).line == "new"
    engine.sampan("rmi", name)
    engine.sampan("export", "--output", str(tmp_path / "root.tar"), container)
    with tarfile.open(tmp_path / "root.tar") as archive:
        assert {"new", "bin/sh"} <= set(archive.getnames())


def test_cp(engine: Engine, container: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/file").write_text("1\n")
    engine.sampan("cp", f"{tmp_path}/in", f"{container}:/tmp/renamed")
    engine.sampan("cp", f"{container}:/tmp/renamed/.", f"{tmp_path}/out")
    assert (tmp_path / "out/file").read_text() == "1\n"
    engine.sampan("cp", f"{container}:/new", str(tmp_path))
    assert (tmp_path / "new").read_text() == "new\n"
    failed = engine.sampan_fails("cp", f"{container}:/nope", str(tmp_path))
    assert (failed.code != 0, "Could not find the file /nope" in failed.stderr) == (True, True)
