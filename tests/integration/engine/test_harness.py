"""The life of a daemon, seen from outside: a real process, real sockets, real signals."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sampan.api.runtime.v1 import events_pb2
from sampan.api.runtime.v1.events_pb2_grpc import EventsStub
from sampan.errors import InternalError, NotFoundError
from sampan.wire.channel import open_channel, rpc_errors
from tests.support.tools import eventually

SERVICE = """
import asyncio, sys
from pathlib import Path
from sampan.api.runtime.v1 import events_pb2, events_pb2_grpc
from sampan.errors import NotFoundError
from sampan.service.config import ServiceConfig
from sampan.service.harness import run

class Events(events_pb2_grpc.EventsServicer):
    async def Publish(self, request, context):
        if request.event.action == "slow":
            Path(sys.argv[sys.argv.index("--run-root") + 1], "begun").touch()
            await asyncio.sleep(0.5)
            return events_pb2.PublishResponse()
        if request.event.action == "bug":
            raise KeyError("a secret of the code")
        raise NotFoundError(f"no action {request.event.action!r}")

    async def Subscribe(self, request, context):
        while True:
            yield events_pb2.Event(action="tick")
            await asyncio.sleep(0.01)

async def build(service):
    service.serve(Events())

sys.exit(run("testd", ServiceConfig, build))
"""


@dataclass
class Daemon:
    """A running service."""

    process: asyncio.subprocess.Process
    root: Path
    channel: grpc.aio.Channel

    @property
    def socket(self) -> Path:
        return self.root / "r/testd.sock"

    @property
    def facts(self) -> dict[str, str]:
        facts: dict[str, str] = json.loads((self.root / "r/testd.json").read_text())
        return facts

    async def publish(self, action: str) -> None:
        request = events_pb2.PublishRequest(event=events_pb2.Event(action=action))
        with rpc_errors():
            await EventsStub(self.channel).Publish(request)


async def spawn(root: Path, *flags: str, notify: str = "") -> asyncio.subprocess.Process:
    roots = ("--data-root", str(root / "d"), "--run-root", str(root / "r"))
    environ = {**os.environ, "NOTIFY_SOCKET": notify}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVICE, *roots, *flags, env=environ, stderr=asyncio.subprocess.PIPE
    )


@contextlib.asynccontextmanager
async def started(root: Path, *flags: str) -> AsyncIterator[Daemon]:
    """Start the service and wait until it says that it is ready."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.setblocking(False)
        ready.bind(str(root / "notify"))
        process = await spawn(root, *flags, notify=str(root / "notify"))
        try:
            async with asyncio.timeout(60):
                assert await asyncio.get_running_loop().sock_recv(ready, 100) == b"READY=1"
            async with open_channel(root / "r/testd.sock") as channel:
                yield Daemon(process, root, channel)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()
            (root / "notify").unlink()


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    async with started(tmp_path) as running:
        yield running


async def test_what_stands_where_the_socket_should_is_named(tmp_path: Path) -> None:
    (tmp_path / "r/testd.sock").mkdir(parents=True)
    process = await spawn(tmp_path)
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert f"Is a directory: '{tmp_path}/r/testd.sock'" in errors.decode()
    assert "Traceback" not in errors.decode()


async def test_health_is_told_for_each_service(daemon: Daemon) -> None:
    health = health_pb2_grpc.HealthStub(daemon.channel)
    for name in ("", "sampan.runtime.v1.Events"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_an_expected_error_arrives_as_what_it_is(daemon: Daemon) -> None:
    with pytest.raises(NotFoundError, match="no action 'jump'"):
        await daemon.publish("jump")


async def test_a_bug_is_answered_without_its_details_and_logged_with_them(daemon: Daemon) -> None:
    with pytest.raises(InternalError, match=r"^internal error \(request \w+\)$"):
        await daemon.publish("bug")
    daemon.process.terminate()
    _, stderr = await daemon.process.communicate()
    assert b"a secret of the code" in stderr


async def test_calls_are_counted_by_code(daemon: Daemon) -> None:
    with contextlib.suppress(NotFoundError):
        await daemon.publish("jump")
    address = daemon.facts["metrics"]

    def counted() -> bool:
        text = urllib.request.urlopen(f"http://{address}/metrics").read().decode()
        return 'grpc_server_handled_total{grpc_code="NotFound",grpc_method="Publish"' in text

    # It is counted when it is over for the service, which is a moment after its client knows.
    await asyncio.to_thread(eventually, counted, "the call is counted")


async def test_sigterm_lets_a_call_in_flight_finish(daemon: Daemon) -> None:
    call = asyncio.create_task(daemon.publish("slow"))
    await asyncio.to_thread(eventually, (daemon.root / "r/begun").exists, "the call has begun")
    daemon.process.send_signal(signal.SIGTERM)
    await call
    assert await daemon.process.wait() == 0
    assert not daemon.socket.with_suffix(".json").exists()


async def test_sigterm_ends_a_stream_that_would_never_end(tmp_path: Path) -> None:
    async with started(tmp_path, "--grace-s", "0.3") as daemon:
        stream = EventsStub(daemon.channel).Subscribe(events_pb2.SubscribeRequest())
        await stream.read()
        daemon.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await daemon.process.wait() == 0


async def test_a_second_one_on_the_same_root_is_refused_and_told_who_is_there(daemon: Daemon) -> None:
    second = await spawn(daemon.root)
    _, stderr = await second.communicate()
    assert second.returncode == 1
    assert f"in use by another engine (pid {daemon.process.pid})".encode() in stderr
    with pytest.raises(NotFoundError):
        await daemon.publish("still there")


async def test_after_sigkill_the_next_one_starts_over_the_stale_socket(tmp_path: Path) -> None:
    async with started(tmp_path) as first:
        first.process.kill()
        await first.process.wait()
        assert first.socket.exists()
    async with started(tmp_path) as second:
        with pytest.raises(NotFoundError):
            await second.publish("jump")


async def test_a_wrong_key_in_the_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "testd.toml").write_text("gracs_s = 3")
    process = await spawn(tmp_path, "--config", str(tmp_path / "testd.toml"))
    _, stderr = await process.communicate()
    assert process.returncode == 2
    assert b"unknown key 'gracs_s': did you mean 'grace_s'?" in stderr
