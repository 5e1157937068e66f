import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from crid.streaming.requests import AttachRequest, ExecRequest, PortForwardRequest, Request, StandardStreams
from crid.streaming.server import StreamingServer
from crid.streaming.tokens import Tokens
from tests.fakes.streaming import FakePorts, FakeProcesses, MemoryPipe, SpdyClient

OUTPUT = StandardStreams(stdout=True, stderr=True)
EXEC = ExecRequest("c", ("echo", "0"), OUTPUT)

UPGRADE = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
WEBSOCKET = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Server:
    """A server without a port: clients are connected by socket pairs."""

    def __init__(self, idle_s: float = 60) -> None:
        self.processes, self.ports, self.registry = FakeProcesses(), FakePorts(), CollectorRegistry()
        tokens = Tokens(time.monotonic)
        self.streaming = StreamingServer(tokens, self.processes, self.ports, self.registry, idle_s)
        self.tasks: list[asyncio.Task[None]] = []
        self._clients: list[asyncio.StreamWriter] = []

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        mine, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=theirs)
        self.tasks.append(asyncio.create_task(self.streaming._connected(reader, writer)))
        reader, writer = await asyncio.open_connection(sock=mine)
        self._clients.append(writer)
        return reader, writer

    async def close(self) -> None:
        async with asyncio.timeout(60):
            for task in self.tasks:
                task.cancel()  # asyncio's server, which is not there, would own them
            await self.streaming.close()
            await asyncio.gather(*self.tasks, return_exceptions=True)
            await self.ports.close()
            for writer in self._clients:
                writer.transport.abort()
            await asyncio.sleep(0)

    async def ask(self, request: Request | str, fields: str, method: str = "POST") -> tuple[str, "SpdyClient"]:
        """Return the answer's head, and a client that goes on with the connection."""
        path = request if isinstance(request, str) else self.streaming.url(request)
        reader, writer = await self.dial()
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())
        async with asyncio.timeout(60):
            head = await reader.readuntil(b"\r\n\r\n")
        pipe = MemoryPipe()
        pipe.incoming, pipe.write, pipe.drain = reader, writer.write, writer.drain  # type: ignore[method-assign]
        pipe.leave = writer.close  # type: ignore[method-assign]
        return head.decode(), SpdyClient(pipe)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    yield server
    await server.close()


async def test_exec_is_served_over_spdy_and_counted(server: Server) -> None:
    head, client = await server.ask(EXEC, UPGRADE)
    assert head.startswith("HTTP/1.1 101 Switching Protocols\r\n")
    assert "X-Stream-Protocol-Version: v4.channel.k8s.io\r\n" in head
    error, out, err = (client.open(streamtype=name) for name in ("error", "stdout", "stderr"))
    await client.until(error, out, err)
    assert client.received[out] == b"output"
    assert json.loads(client.received[error])["status"] == "Success"
    assert server.value("sampan_cri_streaming_sessions", action="exec") == 1
    client.pipe.leave()
    await server.tasks[0]
    assert server.value("sampan_cri_streaming_sessions", action="exec") == 0
    assert server.value("sampan_cri_streaming_requests_total", action="exec", transport="spdy") == 1


async def test_attach_asks_for_the_containers_own_process(server: Server) -> None:
    request = AttachRequest("c", OUTPUT)
    _, client = await server.ask(request, UPGRADE)
    error, *_ = (client.open(streamtype=name) for name in ("error", "stdout", "stderr"))
    await client.until(error)
    assert server.processes.attached == [request]
    client.pipe.leave()


async def test_port_is_forwarded(server: Server) -> None:
    fields = UPGRADE.replace("v4.channel.k8s.io", "portforward.k8s.io")
    _, client = await server.ask(PortForwardRequest("s"), fields)
    error = client.open(streamtype="error", port="81", requestid="0")
    data = client.open(streamtype="data", port="81", requestid="0")
    await client.until(data)
    assert client.received == {error: b"", data: b"bye"}
    client.pipe.leave()


@pytest.mark.parametrize(
    ("request_", "fields", "method", "answer", "words"),
    [
        ("/exec/guess", UPGRADE, "POST", "404 Not Found", "serves once"),
        ("/", UPGRADE, "GET", "404 Not Found", "serves once"),
        (EXEC, "", "GET", "400 Bad Request", "neither SPDY/3.1 nor WebSocket"),
        (EXEC, "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n", "POST", "400 Bad Request", "names no protocol"),
        (EXEC, UPGRADE.replace("v4", "v9"), "POST", "403 Forbidden", "server accepts v5.channel.k8s.io"),
        (EXEC, UPGRADE, "PUT", "400 Bad Request", "PUT is not served"),
        (EXEC, WEBSOCKET, "POST", "400 Bad Request", "not a WebSocket handshake"),
        (PortForwardRequest("s"), WEBSOCKET, "GET", "400 Bad Request", "names no ports"),
        (PortForwardRequest("s"), UPGRADE, "POST", "403 Forbidden", "server accepts portforward.k8s.io"),
    ],
)
async def test_request_that_cannot_be_served_is_refused(
    server: Server, request_: Request | str, fields: str, method: str, answer: str, words: str
) -> None:
    head, client = await server.ask(request_, fields, method)
    assert head.startswith(f"HTTP/1.1 {answer}\r\n")
    assert words in (await client.pipe.incoming.read()).decode()


async def test_url_serves_one_client(server: Server) -> None:
    path = server.streaming.url(EXEC)
    _, first = await server.ask(path, UPGRADE)
    head, _ = await server.ask(path, UPGRADE)
    assert head.startswith("HTTP/1.1 404 Not Found\r\n")
    first.pipe.leave()


async def test_client_that_does_not_speak_spdy_after_all_is_told_and_left(server: Server) -> None:
    _, client = await server.ask(EXEC, UPGRADE)
    client.pipe.write(b"\x80\x02" + bytes(14))
    await client.until_gone_away()
    async with asyncio.timeout(60):
        await server.tasks[0]


async def test_silent_session_ends() -> None:
    server = Server(idle_s=0.05)
    _, client = await server.ask(ExecRequest("c", ("hang",), OUTPUT), UPGRADE)
    for name in ("error", "stdout", "stderr"):
        client.open(streamtype=name)
    async with asyncio.timeout(60):
        await server.tasks[0]
    assert server.processes.left.is_set()
    await server.close()


async def test_client_that_never_reads_holds_only_its_own_process_up(server: Server) -> None:
    _, client = await server.ask(ExecRequest("c", ("flood", "400"), OUTPUT), UPGRADE)
    for name in ("error", "stdout", "stderr"):
        client.open(streamtype=name)
    _, other = await server.ask(EXEC, UPGRADE)
    error, *_ = (other.open(streamtype=name) for name in ("error", "stdout", "stderr"))
    await other.until(error)
    assert not server.tasks[0].done()
    other.pipe.leave()
    await server.streaming.close()
    assert server.processes.left.is_set()
