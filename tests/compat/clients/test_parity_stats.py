"""What ``docker stats`` and ``sampan stats`` make of the same reading: on a real engine it is another one each time."""

import asyncio
import json
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from sampan.client.convert.stats import STATS
from sampan.resource.stats import BlockIoSample, ContainerStats, CpuSample, InterfaceSample, MemorySample
from sampan_cli.app.app import app
from sampan_cli.app.session import Session
from tests.support.docker_client import DockerClient
from tests.unit.dockerapi.support import Api, running_api

_DEADLINE_S = 60
_NOW = datetime(2024, 1, 2, tzinfo=UTC)
_NO_CPU, _NO_MEMORY = CpuSample(), MemorySample()


def sample(
    cpu: CpuSample = _NO_CPU,
    previous: CpuSample = _NO_CPU,
    memory: MemorySample = _NO_MEMORY,
    networks: dict[str, InterfaceSample] | None = None,
    block_io: tuple[BlockIoSample, ...] = (),
    pids: int = 0,
) -> ContainerStats:
    return ContainerStats("", "", _NOW, _NOW, cpu, previous, memory, networks or {}, pids, 0, block_io)


SAMPLES = {
    "stopped": sample(),
    "moving": sample(
        CpuSample(usage_ns=7_654_321_000, user_ns=5_000_000_000, system_ns=90_000_000_000, online_cpus=2),
        CpuSample(usage_ns=7_111_111_000, user_ns=4_600_000_000, system_ns=88_000_000_000, online_cpus=2),
        MemorySample(123_456_789, 200_000_000, 1 << 30, {"inactive_file": 23_456_789, "file": 50_000_000}),
        {"eth0": InterfaceSample(1_234_567, 1000, 0, 0, 7_654, 80), "eth1": InterfaceSample(10, 1, 0, 0, 2_000_000, 9)},
        (
            BlockIoSample(8, 0, "read", 4_100_000, 10),
            BlockIoSample(8, 0, "write", 999, 1),
            BlockIoSample(8, 16, "write", 1_000_000_000, 1),
        ),
        pids=17,
    ),
    "cgroup v1": sample(
        CpuSample(usage_ns=200, system_ns=2000, online_cpus=4),
        CpuSample(usage_ns=100, system_ns=1000, online_cpus=4),
        MemorySample(5000, 6000, 10_000, {"total_inactive_file": 1234, "inactive_file": 1}),
        pids=1,
    ),
    "cache larger than usage": sample(memory=MemorySample(5000, 6000, 10_000, {"inactive_file": 6000})),
    "clock turned back": sample(
        CpuSample(usage_ns=100, system_ns=1000, online_cpus=1), CpuSample(usage_ns=200, system_ns=900, online_cpus=1)
    ),
    "first reading": sample(CpuSample(usage_ns=1_000_000, system_ns=50_000_000, online_cpus=2)),
}


@dataclass(frozen=True)
class Both:
    """The two programs, and the engine that both ask."""

    api: Api
    docker: DockerClient

    def rows(self, *arguments: str) -> tuple[object, object]:
        command = ("stats", "--no-stream", *arguments, "--format", "{{json .}}")
        session = Session(self.api.fake.layout)
        ours = CliRunner().invoke(app, command, prog_name="sampan", obj=session)
        assert ours.exit_code == 0, ours.output
        return json.loads(self.docker(*command).stdout), json.loads(ours.stdout)


@pytest.fixture
def both(docker_config: Path) -> Iterator[Both]:
    running: Future[tuple[Api, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        with tempfile.TemporaryDirectory(prefix="api") as root:  # not tmp_path: that is too long for a socket
            async with running_api(Path(root)) as api:
                stop = asyncio.Event()
                running.set_result((api, asyncio.get_running_loop(), stop))
                await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    api, loop, stop = running.result(_DEADLINE_S)
    yield Both(api, DockerClient(f"unix://{api.socket}", docker_config))
    loop.call_soon_threadsafe(stop.set)
    thread.join(_DEADLINE_S)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_reading_is_shown_the_same(both: Both, name: str) -> None:
    container = both.api.fake.runtime.create("sleep", name="web")
    usage = STATS.encode(SAMPLES[name])
    usage.ClearField("id")
    usage.ClearField("name")
    both.api.fake.runtime.containers.usage = usage
    for flags in ((), ("--no-trunc",)):
        theirs, ours = both.rows("web", *flags)
        assert ours == theirs
    assert both.rows(container)[1] == both.rows(container)[0]
