"""dockerapi as a process: its socket, its health, its metrics and its end, with a fake engine behind it.

The real docker client and Docker's SDK for Python talk to it, so that what they take for granted is there.
"""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sampan.layout import Layout
from sampan.wire.channel import open_channel
from tests.fakes.engine import FakeEngine, fake_engine, image
from tests.support.tools import need

# dockerd and containerd take 191 MB together; this is one of four daemons.
MOST_RSS_KB = 70_000


@dataclass
class Running:
    """The process, and what is behind it."""

    fake: FakeEngine
    process: asyncio.subprocess.Process

    @property
    def layout(self) -> Layout:
        return self.fake.layout

    @property
    def facts(self) -> dict[str, Any]:
        return dict(json.loads(self.layout.state_file("dockerapi").read_text()))

    async def docker(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run the docker client; what it says goes to the result."""
        need("docker")
        env = dict(os.environ, DOCKER_HOST=f"unix://{self.layout.docker_socket}")
        return await asyncio.to_thread(
            subprocess.run, ["docker", *arguments], input=stdin, capture_output=True, env=env, timeout=240
        )

    async def scraped(self, line: str) -> str:
        """Return what is scraped once ``line`` is in it: what a client has the answer of is counted a moment later."""
        async with asyncio.timeout(60):
            while line not in (text := await self.scrape()):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return text

    async def scrape(self) -> str:
        def get() -> str:
            with urllib.request.urlopen(f"http://{self.facts['metrics']}/metrics", timeout=60) as answer:
                return str(answer.read().decode())

        return await asyncio.to_thread(get)


@pytest_asyncio.fixture
async def running() -> AsyncIterator[Running]:
    with tempfile.TemporaryDirectory(prefix="api") as root:
        layout = Layout(Path(root) / "d", Path(root) / "r")
        async with fake_engine(layout) as fake:
            fake.images.add(image("busybox:latest"))
            roots = ["--data-root", str(layout.data_root), "--run-root", str(layout.run_root)]
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "dockerapi", *roots, stderr=asyncio.subprocess.PIPE
            )
            try:
                assert process.stderr is not None
                async with asyncio.timeout(60):
                    while b'"serving"' not in (line := await process.stderr.readline()):
                        assert line, "dockerapi ended"
                yield Running(fake, process)
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()


async def test_it_is_healthy_and_its_socket_is_nobody_else_s(running: Running) -> None:
    async with open_channel(running.layout.socket("dockerapi")) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    mode = running.layout.docker_socket.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660


async def test_metrics_have_dockerd_s_names(running: Running) -> None:
    await running.docker("ps")
    text = await running.scraped('sampan_http_requests_total{code="200",method="GET",route="/containers/json"} 1.0')
    assert 'engine_daemon_container_states_containers{state="running"} 1.0' in text
    assert "engine_daemon_engine_cpus_cpus " in text
    assert 'engine_daemon_engine_info{architecture="' in text
    assert 'graphdriver="overlayfs"' in text
    assert 'engine_daemon_container_actions_seconds_count{action="start"} 0.0' in text


async def test_metrics_are_there_without_the_services(running: Running) -> None:
    for name in ("imaged", "snapshotter", "runtimed"):
        running.layout.socket(name).unlink()
    text = await running.scrape()
    assert "engine_daemon_engine_memory_bytes " in text


async def test_events_are_counted(running: Running) -> None:
    await running.docker("tag", "busybox", "other:1")
    assert await running.scraped("engine_daemon_events_total 1.0")


async def test_it_is_small_at_rest(running: Running) -> None:
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    (rss_kb,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert rss_kb < MOST_RSS_KB


async def test_sigterm_ends_followers_and_leaves_no_socket(running: Running) -> None:
    container = running.fake.runtime.create("sleep")
    await running.docker("start", container)
    following = asyncio.create_task(running.docker("attach", container))
    async with asyncio.timeout(60):
        await running.fake.runtime.containers.somebody_attached.wait()
    running.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(running.process.wait(), 60) == 0
    await asyncio.wait_for(following, 60)
    assert not running.layout.docker_socket.exists()


async def test_the_docker_client_runs_pipes_and_execs(running: Running) -> None:
    done = await running.docker("run", "--rm", "busybox", "echo", "hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"")
    done = await running.docker("run", "--rm", "-i", "busybox", "cat", stdin=b"x" * 3_000_000)
    assert (done.returncode, len(done.stdout)) == (0, 3_000_000)
    assert (await running.docker("run", "--rm", "busybox", "exit", "5")).returncode == 5
    done = await running.docker("run", "busybox", "missing")
    assert done.returncode == 127
    assert b"executable file not found in $PATH" in done.stderr
    await running.docker("run", "-d", "--name", "up", "busybox", "sleep")
    done = await running.docker("exec", "-i", "up", "cat", stdin=b"through")
    assert (done.returncode, done.stdout) == (0, b"through")
    assert (await running.docker("exec", "up", "missing")).returncode == 127


async def test_a_hundred_megabytes_reach_the_docker_client(running: Running) -> None:
    size = 100 << 20
    done = await running.docker("run", "--rm", "busybox", "flood", str(size))
    assert len(done.stdout) == size


async def test_docker_s_sdk_for_python_finds_what_it_looks_for(running: Running) -> None:
    def use() -> None:
        client = docker.DockerClient(base_url=f"unix://{running.layout.docker_socket}")
        try:
            assert client.ping()
            assert client.info()["OSType"] == "linux"
            assert client.images.get("busybox").tags == ["busybox:latest"]
            assert client.containers.run("busybox", ["true"]) == b"one\nthree\n"  # the fake's only log
            container = client.containers.run("busybox", ["sleep"], name="web", detach=True, labels={"a": "b"})
            assert container.status in ("created", "running")
            assert [one.name for one in client.containers.list()] == ["web"]
            assert container.exec_run(["echo", "in"]).output == b"in\n"
            assert container.logs(tail=1) == b"three\n"
            assert container.stats(stream=False)["memory_stats"]["usage"] == 4096
            container.kill()
            assert container.wait()["StatusCode"] == 137
            container.remove()
            with pytest.raises(docker.errors.NotFound):
                client.containers.get("web")
            with pytest.raises(docker.errors.ImageNotFound):
                client.images.get("nope")
        finally:
            client.close()

    await asyncio.to_thread(use)
