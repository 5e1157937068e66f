"""Builds that end otherwise than they were meant to: interrupted, or without their builder. Nothing of them is left."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sampan.client.services import Services
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine
from tests.support.go_clients import GoClient
from tests.support.tools import eventually, long_time, sleeping

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("nothing_left")]

# How long the steps that are to be interrupted sleep, which is how they are known from other processes.
SECONDS = long_time()


def write(context: Path, dockerfile: str) -> None:
    (context / "Dockerfile").write_text(dockerfile)


def sleepers() -> list[int]:
    return sleeping(SECONDS)


def snapshots(engine: Engine) -> list[str]:
    """Keys of what builds work in."""

    async def keys() -> list[str]:
        async with Services.connect(engine.layout) as services:
            return [each.key for each in await services.snapshots.list(['labels."sampan.build"'])]

    return asyncio.run(keys())


@pytest.fixture
def base(docker: DockerClient, engine: Engine, image: str, context: Path) -> Iterator[str]:
    """An image that a build has used: its layers stay mounted, and are nothing left behind."""
    write(context, f"FROM {image}\nRUN true\n")
    docker("build", "-q", str(context))
    before = set(snapshots(engine))
    yield image
    eventually(lambda: not sleepers(), "no process of a step is left")
    eventually(lambda: set(snapshots(engine)) <= before, "no snapshot of a step is left")


def start(docker: DockerClient, context: Path) -> subprocess.Popen[bytes]:
    building = docker.start("build", str(context))
    eventually(lambda: bool(sleepers()), "the step runs")
    return building


def test_an_interrupted_client_ends_its_steps(docker: DockerClient, base: str, context: Path) -> None:
    write(context, f"FROM {base}\nRUN trap '' TERM INT; sleep {SECONDS}\n")
    building = start(docker, context)
    building.send_signal(signal.SIGINT)
    assert building.wait(60) != 0
    eventually(lambda: not sleepers(), "the step is gone")


def test_a_client_that_is_killed_ends_its_steps(docker: DockerClient, base: str, context: Path) -> None:
    write(context, f"FROM {base}\nRUN sleep {SECONDS} & sleep {SECONDS}\n")
    building = start(docker, context)
    building.kill()
    building.wait(60)
    eventually(lambda: not sleepers(), "the steps are gone")


def test_a_builder_that_is_killed_leaves_nothing_and_keeps_what_is_done(
    docker: DockerClient, engine: Engine, base: str, context: Path
) -> None:
    done = f"FROM {base}\nRUN cat /proc/sys/kernel/random/uuid > /unique\n"
    write(context, done)
    first = docker("run", "--rm", "--network", "none", docker("build", "-q", str(context)).line, "cat", "/unique")
    write(context, f"{done}RUN echo also > /done\nRUN sleep {SECONDS}\n")
    building = start(docker, context)
    engine.kill("buildd")
    assert building.wait(60) != 0
    eventually(lambda: not sleepers(), "the step is gone")
    eventually(lambda: engine.sampan_fails("status").code == 0, "the engine is healthy")
    write(context, f"{done}RUN echo also > /done\nRUN echo short\n")
    again = docker("build", "-t", "after-kill:1", str(context)).stdout
    assert again.count(" ---> Using cache") == 2
    assert docker("run", "--rm", "--network", "none", "after-kill:1", "cat", "/unique").stdout == first.stdout
    docker("rmi", "after-kill:1")


def test_two_builds_at_once_share_their_steps(docker: DockerClient, base: str, context: Path) -> None:
    write(context, f"FROM {base}\nRUN cat /proc/sys/kernel/random/uuid > /unique; sleep 2\n")
    with ThreadPoolExecutor(3) as threads:
        results = list(threads.map(lambda _: docker("build", "-q", "--force-rm", str(context)).line, range(3)))
    shown = {docker("run", "--rm", "--network", "none", each, "cat", "/unique").stdout for each in results}
    assert len(shown) == 1


def test_one_of_two_builds_is_interrupted_and_the_other_goes_on(docker: DockerClient, base: str, context: Path) -> None:
    write(
        context,
        f"FROM {base}\nRUN for i in 1 2 3; do sleep 1; done; echo whole > /file\nRUN cat /file; sleep {SECONDS}\n",
    )
    one, two = docker.start("build", str(context)), docker.start("build", str(context))
    for each in (one, two):
        assert each.stdout is not None
        while not each.stdout.readline().startswith(b"Step 3/3"):
            assert each.poll() is None, "it waits for that step, as the other one does"
    eventually(lambda: bool(sleepers()), "the step runs")
    one.send_signal(signal.SIGINT)
    assert one.wait(60) != 0
    assert two.poll() is None
    assert sleepers()
    two.send_signal(signal.SIGINT)
    assert two.wait(60) != 0


def test_a_builder_that_is_killed_in_a_push_leaves_no_name(
    docker: DockerClient, engine: Engine, buildx: GoClient, base: str, context: Path
) -> None:
    write(context, f"FROM {base}\nRUN echo pushed > /file\n")
    with socket.create_server(("127.0.0.1", 0)) as listening:  # a registry that never answers
        listening.settimeout(60)
        repository = f"127.0.0.1:{listening.getsockname()[1]}/passing"
        output = f"type=image,name={repository}:1,push=true,store=false"
        with subprocess.Popen(
            [buildx.program, "build", "--progress", "plain", "-o", output, str(context)],
            env={**os.environ, "HOME": str(buildx.home), "BUILDX_CONFIG": str(buildx.home / "buildx")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as building:
            try:
                asking, _ = listening.accept()
                with asking:
                    assert not docker("images", "-q", repository).lines
                    engine.kill("buildd")
                    assert building.wait(60) != 0
            finally:
                building.kill()
    eventually(lambda: engine.sampan_fails("status").code == 0, "the engine is healthy")
    assert not docker("images", "-q", repository).lines


def test_the_cache_outlives_the_engine(docker: DockerClient, engine: Engine, base: str, context: Path) -> None:
    write(context, f"FROM {base}\nRUN cat /proc/sys/kernel/random/uuid > /unique\n")
    first = docker("build", "-q", str(context)).line
    engine.stop()
    engine.start()
    assert docker("build", "-q", str(context)).line == first
