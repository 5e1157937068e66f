"""Builds on a disk that gets full: they say so, leave nothing, and go on when there is space."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docker_client import DockerClient, Result
from tests.support.engine import Engine, run_engine
from tests.support.footprint import NOTHING, footprint
from tests.support.small_disk import SmallDisk, small_disk
from tests.support.tools import eventually
from tests.support.trees import busybox_tar

pytestmark = pytest.mark.root

SIZE_MIB = 96
WORDS = "no space left on device"


@pytest.fixture(scope="module")
def small() -> Iterator[tuple[Engine, DockerClient, SmallDisk]]:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sf", dir="/tmp")))
        disk = stack.enter_context(small_disk(directory, "ext4", SIZE_MIB))
        engine = stack.enter_context(run_engine(data_root=disk.path / "d"))
        stack.callback(disk.free)
        docker = DockerClient(engine.host, engine.config)
        (tar := directory / "root.tar").write_bytes(busybox_tar())
        docker("import", str(tar), "busybox")
        assert build(docker, directory / "first", "FROM busybox\nRUN true\n").code == 0
        yield engine, docker, disk


@pytest.fixture
def docker(small: tuple[Engine, DockerClient, SmallDisk]) -> DockerClient:
    return small[1]


@pytest.fixture
def disk(small: tuple[Engine, DockerClient, SmallDisk], tmp_path: Path) -> Iterator[SmallDisk]:
    """The disk; after the test it is freed, nothing is left of what failed, and the engine builds."""
    engine, docker, disk = small
    before = footprint(engine.layout)
    yield disk
    disk.free()
    docker("builder", "prune", "--all", "--force")
    eventually(lambda: footprint(engine.layout).without(before) == NOTHING, "nothing is left of the builds")
    assert build(docker, tmp_path / "after", f"FROM busybox\nRUN echo {tmp_path.name}\n").code == 0
    engine.sampan("system", "check")


def build(docker: DockerClient, context: Path, dockerfile: str) -> Result:
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(dockerfile)
    return docker.fails("build", str(context), timeout=120)


def test_a_step_that_fills_the_disk_fails_in_its_own_words(
    docker: DockerClient, disk: SmallDisk, context: Path
) -> None:
    failed = build(docker, context, f"FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count={2 * SIZE_MIB}\n")
    assert failed.code == 1
    assert "No space left on device" in failed.stdout + failed.stderr
    assert "returned a non-zero code: 1" in failed.stderr


def test_a_context_that_has_no_room_is_refused(docker: DockerClient, disk: SmallDisk, context: Path) -> None:
    with (context / "big").open("wb") as file:
        file.truncate(2 * SIZE_MIB << 20)
    failed = build(docker, context, "FROM busybox\nCOPY big /\n")
    assert failed.code == 1
    assert WORDS in failed.stderr


def test_a_layer_whose_blob_has_no_room_runs_and_is_not_saved(
    docker: DockerClient, disk: SmallDisk, context: Path, tmp_path: Path
) -> None:
    """What the step has written fits, and its blob beside it does not."""
    some = SIZE_MIB * 2 // 5
    steps = f"RUN head -c {some}m /dev/urandom > /big && echo written\n"
    built = build(docker, context, f"FROM busybox\n{steps}")
    assert built.code == 0, built.stderr
    image = built.stdout.split("Successfully built ")[1].split()[0]
    for _ in range(2):
        failed = docker.fails("save", "--output", str(tmp_path / "archive"), image, timeout=120)
        assert failed.code == 1
        assert WORDS in failed.stderr
    size = docker("run", "--rm", "--network", "none", image, "stat", "-c", "%s", "/big").stdout
    assert int(size) == some << 20


def test_on_a_full_disk_builds_are_refused_and_the_cache_goes(
    docker: DockerClient, disk: SmallDisk, context: Path
) -> None:
    kept = build(docker, context, "FROM busybox\nRUN echo kept > /kept\n")
    assert kept.code == 0
    disk.fill()
    for dockerfile in ("FROM busybox\nRUN echo other > /other\n", "FROM busybox\nCOPY . /c\n"):
        failed = build(docker, context, dockerfile)
        assert failed.code == 1
        assert WORDS in failed.stderr.lower()
    docker("system", "df")
    assert "Total reclaimed space" in docker("builder", "prune", "--all", "--force").stdout
    docker("image", "prune", "--force")
