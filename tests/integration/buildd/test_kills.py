"""A builder, and those that it works with, killed in the middle of a build: nothing half done stays."""

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sampan.client.services import Services
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine, run_engine
from tests.support.tools import eventually, long_time, sleeping
from tests.support.trees import busybox_tar

pytestmark = pytest.mark.root

SECONDS = long_time()
DOCKERFILE = f"""FROM base
RUN echo first > /first
RUN --mount=type=cache,target=/c touch /c/kept && exec sleep {SECONDS}
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with tempfile.TemporaryDirectory(prefix="bk", dir="/tmp") as directory:
        (tar := Path(directory) / "root.tar").write_bytes(busybox_tar())
        with run_engine() as made:
            DockerClient(made.host, made.config)("import", str(tar), "base")
            yield made


@contextmanager
def building(engine: Engine, context: Path) -> Iterator[subprocess.Popen[str]]:
    """A build whose last step runs."""
    (context / "Dockerfile").write_text(DOCKERFILE)
    env = dict(os.environ, DOCKER_HOST=engine.host, DOCKER_CONFIG=str(engine.config), DOCKER_BUILDKIT="0")
    with subprocess.Popen(
        ["docker", "build", "."], cwd=context, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            eventually(lambda: bool(sleeping(SECONDS)), "the step runs")
            yield process
        finally:
            process.kill()


async def _snapshots(engine: Engine) -> list[str]:
    async with Services.connect(engine.layout) as services:
        return [each.key for each in await services.snapshots.list(['labels."sampan.build"'])]


async def _leases_without_layers(engine: Engine) -> list[str]:
    async with Services.connect(engine.layout) as services:
        return [lease.id for lease in await services.leases.list("buildd") if not lease.diff_ids]


def build(engine: Engine, context: Path) -> str:
    """Build what can be built, and return what was said."""
    # Another step in each test, which is no hit then.
    ends = f"ls /c > /seen && cat /first /seen # {context.name}"
    (context / "Dockerfile").write_text(DOCKERFILE.replace(f"exec sleep {SECONDS}", ends))
    env = dict(os.environ, DOCKER_HOST=engine.host, DOCKER_CONFIG=str(engine.config), DOCKER_BUILDKIT="0")
    done = subprocess.run(["docker", "build", "."], cwd=context, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{engine.tail()}"
    return done.stdout


def _gone(engine: Engine) -> None:
    eventually(lambda: not sleeping(SECONDS), "the step's process is gone")
    eventually(lambda: asyncio.run(_snapshots(engine)) == [], "the builder's snapshots are gone")
    # A snapshot goes before the lease of its freeze does.
    eventually(lambda: asyncio.run(_leases_without_layers(engine)) == [], "the builder's leases are gone")
    mounts = engine.layout.data("buildd") / "cache-mounts"
    eventually(lambda: all(entry.name.isalnum() for entry in mounts.iterdir()), "no cache mount is half made")


@pytest.mark.parametrize("service", ["buildd", "runtimed"])
def test_a_step_whose_builder_or_runtime_is_killed_leaves_nothing(engine: Engine, tmp_path: Path, service: str) -> None:
    with building(engine, tmp_path) as process:
        engine.kill(service)
        out, _ = process.communicate(timeout=60)
        assert process.returncode != 0, out
    _gone(engine)
    said = build(engine, tmp_path)
    # What was recorded before is a hit, and what was in the cache mount is still there.
    assert said.count("Using cache") >= 1
    assert "first\nkept\n" in said


def test_a_client_that_leaves_ends_its_build(engine: Engine, tmp_path: Path) -> None:
    with building(engine, tmp_path) as process:
        process.kill()
    _gone(engine)


def test_an_engine_that_is_stopped_ends_its_builds(engine: Engine, tmp_path: Path) -> None:
    with building(engine, tmp_path) as process:
        engine.stop()
        process.communicate(timeout=60)
        assert process.returncode != 0
    eventually(lambda: not sleeping(SECONDS), "the step's process is gone")
    engine.start()
    _gone(engine)
    assert "first\n" in build(engine, tmp_path)
