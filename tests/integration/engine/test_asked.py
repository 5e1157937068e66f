"""Services that run while they are asked for something, under a real supervisor: fake ones, and the builder."""

import asyncio
import os
import signal
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sampan.services import WHEN_ASKED
from sampan.wire.channel import open_channel, reach
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine, run_engine
from tests.support.fake_services import Roots
from tests.support.tools import eventually

(SERVICE,) = WHEN_ASKED


def ask(roots: Roots, end: bool = False) -> int:
    """Return the pid of who answers, and have it end."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(60)
        asking.connect(str(roots.layout.socket(SERVICE)))
        answer = b""
        while piece := asking.recv(100):
            answer += piece
        if end:
            asking.sendall(b"x")
    return int(answer)


def test_it_starts_with_the_first_who_asks_ends_and_starts_for_the_next(roots: Roots) -> None:
    roots.sampan("up", "--detach")
    assert not roots.runs(SERVICE)
    assert "when asked" in roots.sampan("status").stdout
    first = ask(roots)
    assert roots.how(SERVICE) == "forked"
    assert ask(roots) == first
    assert ask(roots, end=True) == first
    eventually(lambda: not roots.runs(SERVICE), "it has ended")
    assert ask(roots) != first
    assert roots.sampan("down").returncode == 0
    assert not roots.layout.socket(SERVICE).exists()
    assert not roots.layout.state_file(SERVICE).exists()


def test_who_asks_at_the_moment_of_its_end_is_answered(roots: Roots) -> None:
    roots.sampan("up", "--detach")
    answers = [ask(roots, end=True) for _ in range(5)]
    assert len(set(answers)) == 5


def test_one_that_is_killed_is_started_again_without_being_asked(roots: Roots) -> None:
    roots.sampan("up", "--detach")
    first = ask(roots)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: roots.runs(SERVICE) and roots.pid(SERVICE) not in (0, first), "it is back")


def test_one_that_was_killed_with_the_engine_is_started_with_the_next(roots: Roots) -> None:
    roots.sampan("up", "--detach")
    first = ask(roots)
    os.kill(roots.supervisor_pid(), signal.SIGKILL)
    os.kill(first, signal.SIGKILL)
    assert roots.sampan("up", "--detach").returncode == 0
    assert roots.runs(SERVICE)
    assert ask(roots, end=True) != first
    eventually(lambda: not roots.runs(SERVICE), "it has ended")
    roots.sampan("down")
    assert roots.sampan("up", "--detach").returncode == 0
    assert not roots.runs(SERVICE)


def test_it_outlives_a_supervisor_and_is_stopped_by_the_next_one_which_listens_then(roots: Roots) -> None:
    roots.sampan("up", "--detach")
    first = ask(roots)
    os.kill(roots.supervisor_pid(), signal.SIGKILL)
    assert ask(roots) == first
    assert roots.sampan("up", "--detach").returncode == 0
    assert ask(roots) != first


def test_a_mistake_in_its_configuration_is_told_when_the_engine_starts(roots: Roots, tmp_path: Path) -> None:
    (tmp_path / f"{SERVICE}.toml").write_text("log_levle = 'debug'\n")
    up = roots.sampan("up", "--detach", "--config-dir", str(tmp_path))
    assert up.returncode == 1
    assert up.stderr.startswith(
        f"sampan: {SERVICE} cannot be started: {tmp_path}/{SERVICE}.toml: unknown key 'log_levle'"
    )


IDLE = f"""
from sampan.service.config import ServiceConfig
from sampan.service.harness import run

async def build(service):
    service.end_when_idle(0.2, lambda: False)

def main():
    return run({SERVICE!r}, ServiceConfig, build)
"""


async def test_a_service_of_the_harness_ends_when_nobody_is_connected_any_more(roots: Roots) -> None:
    (roots.modules / SERVICE / "main.py").write_text(IDLE)
    assert roots.sampan("up", "--detach").returncode == 0
    for _ in range(2):
        async with open_channel(roots.layout.socket(SERVICE)) as channel:
            await reach(channel, SERVICE, 60)
            await asyncio.sleep(1)  # five times as long as it would stay for nobody
            assert roots.runs(SERVICE)
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        eventually(lambda: not roots.runs(SERVICE), "it has ended")
        assert not roots.layout.unfinished(SERVICE).exists()
        assert "was killed" not in (roots.layout.run_root / "logs" / "sampan.log").read_text()


@pytest.fixture(scope="module")
def builder() -> Iterator[Engine]:
    with run_engine() as running:
        yield running


def waits(engine: Engine) -> bool:
    try:
        return bool(engine.facts(SERVICE).get("waits"))
    except FileNotFoundError:  # it ends just now
        return False


def end(engine: Engine) -> None:
    """Have it end as it does after a while with nothing to do."""
    os.kill(engine.pid(SERVICE), signal.SIGTERM)
    eventually(lambda: waits(engine), "the builder has ended")


def test_a_builder_that_has_nothing_is_not_started_to_say_so(builder: Engine, tmp_path: Path) -> None:
    docker, marker = DockerClient(builder.host, builder.config), builder.layout.empty(SERVICE)
    docker("system", "df")
    assert waits(builder)
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    docker("build", "--quiet", str(tmp_path))
    end(builder)
    assert not marker.exists()
    assert "Build Cache" in docker("system", "df").stdout
    assert not waits(builder)  # as it had to be asked
    docker("builder", "prune", "--all", "--force")
    end(builder)
    assert marker.exists()
    docker("system", "df")
    assert waits(builder)
    builder.sampan("builder", "prune", "--all", "--force")
    assert not marker.exists()
    end(builder)


def test_the_builder_starts_with_a_build_and_finds_what_it_has_left(builder: Engine, tmp_path: Path) -> None:
    docker = DockerClient(builder.host, builder.config)
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    assert waits(builder)
    first = docker("build", "--quiet", str(tmp_path)).line
    assert not waits(builder)
    end(builder)
    assert docker("build", "--quiet", str(tmp_path)).line == first
    builder.kill(SERVICE)
    assert not waits(builder)


def test_a_scrape_is_answered_and_the_engine_s_own_page_starts_nothing(builder: Engine) -> None:
    end(builder)
    page = builder.metrics_url("dockerapi").replace("/metrics", "/engine/metrics")
    with urllib.request.urlopen(page, timeout=60) as answer:
        assert f'sampan_service_up{{service="{SERVICE}"}} 1' in answer.read().decode()
    assert waits(builder)
    with urllib.request.urlopen(builder.metrics_url(SERVICE), timeout=60) as answer:
        assert b"sampan_" in answer.read()
    eventually(lambda: not waits(builder), "the builder says that it runs")


def test_each_service_is_well_while_the_builder_waits(builder: Engine) -> None:
    end(builder)
    shown = builder.sampan("status", "--format", "{{.Service}} {{.Pid}} {{.Healthy}}").stdout.splitlines()
    assert f"{SERVICE} - when asked" in shown
    assert waits(builder)
