"""The streaming server at a real port, with TLS and without."""

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from crid.streaming.requests import ExecRequest, StandardStreams
from crid.streaming.server import StreamingServer
from crid.streaming.tokens import Tokens
from sampan.errors import InvalidArgumentError, UnavailableError
from sampan.service.listening import Address, load_certificate
from tests.fakes.streaming import FakePorts, FakeProcesses, MemoryPipe, SpdyClient
from tests.support.registry import make_certificate

EXEC = ExecRequest("c", ("echo", "0"), StandardStreams(stdout=True))


@pytest.fixture
async def server() -> AsyncIterator[StreamingServer]:
    ports = FakePorts()
    made = StreamingServer(Tokens(time.monotonic), FakeProcesses(), ports, CollectorRegistry(), 60)
    yield made
    await made.close()
    await ports.close()


async def exec_at(url: str, tls: ssl.SSLContext | None) -> bytes:
    """Return what the command at ``url`` writes; its status must be success."""
    host, _, path = url.removeprefix("https://").removeprefix("http://").partition("/")
    address, _, port = host.partition(":")
    reader, writer = await asyncio.open_connection(address, int(port), ssl=tls)
    try:
        request = f"POST /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        writer.write(f"{request}X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        pipe = MemoryPipe()
        pipe.incoming, pipe.write = reader, writer.write  # type: ignore[method-assign]
        client = SpdyClient(pipe)
        error, out = (client.open(streamtype=name) for name in ("error", "stdout"))
        await client.until(error, out)
        assert json.loads(client.received[error])["status"] == "Success"
        return bytes(client.received[out])
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_session_is_served_at_the_url(server: StreamingServer) -> None:
    opened = await server.listen(Address("127.0.0.1", 0), None)
    url = server.url(EXEC)
    assert url.startswith(f"http://127.0.0.1:{opened.port}/exec/")
    assert await exec_at(url, None) == b"output"


async def test_session_is_served_over_tls(server: StreamingServer, tmp_path: Path) -> None:
    authority = make_certificate(tmp_path)
    await server.listen(
        Address("0.0.0.0", 0), load_certificate(str(tmp_path / "server.crt"), str(tmp_path / "server.key"))
    )
    url = server.url(EXEC)
    assert url.startswith("https://127.0.0.1:")  # kubelet is on this machine
    assert await exec_at(url, ssl.create_default_context(cafile=str(authority))) == b"output"
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        await exec_at(server.url(EXEC).replace("https", "http"), None)


async def test_address_that_cannot_be_is_refused(server: StreamingServer) -> None:
    opened = await server.listen(Address("127.0.0.1", 0), None)
    other = StreamingServer(Tokens(time.monotonic), FakeProcesses(), FakePorts(), CollectorRegistry(), 60)
    with pytest.raises(UnavailableError, match="is in use"):
        await other.listen(opened, None)
    with pytest.raises(InvalidArgumentError, match="streaming address"):
        await other.listen(Address("192.0.2.1", 0), None)
