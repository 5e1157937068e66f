import asyncio
from collections.abc import AsyncIterator

import pytest

from crid.streaming import portforward
from crid.streaming.portforward import Forwarder, over_spdy, over_websocket
from crid.streaming.websocket import Tunnel, WebSocket
from tests.fakes.streaming import FakePorts, MemoryPipe, SpdyClient, WebSocketClient


class Line:
    """A client of SPDY, the ports behind it, and what serves it."""

    def __init__(self) -> None:
        server, client = MemoryPipe.pair()
        self.ports = FakePorts()
        self.client = SpdyClient(client)
        self.serving = asyncio.create_task(over_spdy(server, Forwarder(self.ports, "sandbox")))

    def connect(self, port: int, request: str = "0") -> tuple[int, int]:
        """Return the IDs of the error and the data stream."""
        error = self.client.open(streamtype="error", port=str(port), requestid=request)
        self.client.send(error, b"", fin=True)
        return error, self.client.open(streamtype="data", port=str(port), requestid=request)


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    line = Line()
    yield line
    line.client.pipe.leave()
    async with asyncio.timeout(60):
        await line.serving
    await line.ports.close()


async def test_bytes_pass_both_ways_and_each_direction_ends_by_itself(line: Line) -> None:
    error, data = line.connect(80)
    line.client.send(data, b"hello")
    line.client.send(data, b"", fin=True)
    await line.client.until(error, data)
    assert line.client.received == {error: b"", data: b"HELLO"}
    assert line.ports.connected == [("sandbox", 80)]


async def test_many_connections_share_one_line(line: Line) -> None:
    pairs = [line.connect(80, str(number)) for number in range(20)]
    for number, (_, data) in enumerate(pairs):
        line.client.send(data, b"n%d" % number, fin=True)
    await line.client.until(*(stream for pair in pairs for stream in pair))
    assert [line.client.received[data] for _, data in pairs] == [b"N%d" % number for number in range(20)]


async def test_pairs_of_clients_without_request_ids_are_found_by_their_order(line: Line) -> None:
    error = line.client.open(streamtype="error", port="80")
    data = line.client.open(streamtype="data", port="80")
    line.client.send(data, b"x", fin=True)
    await line.client.until(error, data)
    assert line.client.received[data] == b"X"


async def test_server_that_leaves_first_ends_the_output(line: Line) -> None:
    _, data = line.connect(81)
    await line.client.until(data)
    assert line.client.received[data] == b"bye"


async def test_port_at_which_nothing_listens_is_told_on_the_error_stream(line: Line) -> None:
    error, data = line.connect(7)
    await line.client.until(error, data)
    assert bytes(line.client.received[error]) == (
        b"error forwarding port 7 to pod sandbox: nothing accepts connections at port 7"
    )


async def test_connection_that_the_client_takes_back_is_closed_in_the_pod(line: Line) -> None:
    _, data = line.connect(80)
    line.client.send(data, b"x")
    while not line.client.received[data]:
        await line.client.read()
    line.client.pipe.write(bytes.fromhex("8003000300000008") + data.to_bytes(4, "big") + b"\0\0\0\5")
    async with asyncio.timeout(60):
        await line.ports.closed.wait()


@pytest.mark.parametrize(
    "headers",
    [
        {"streamtype": "data"},
        {"streamtype": "data", "port": "0"},
        {"streamtype": "data", "port": "65536"},
        {"streamtype": "data", "port": "-1"},
        {"streamtype": "data", "port": "http"},
        {"streamtype": "stdin", "port": "80"},
        {"port": "80"},
    ],
)
async def test_stream_of_no_port_is_refused(line: Line, headers: dict[str, str]) -> None:
    stream = line.client.open(**headers)
    while not line.client.reset:
        await line.client.read()
    assert line.client.reset == {stream: 3}


async def test_second_stream_of_a_kind_and_another_port_are_refused(line: Line) -> None:
    line.client.open(streamtype="data", port="80", requestid="0")
    twice = line.client.open(streamtype="data", port="80", requestid="0")
    other = line.client.open(streamtype="error", port="81", requestid="0")
    while len(line.client.reset) < 2:
        await line.client.read()
    assert line.client.reset == {twice: 3, other: 3}


async def test_half_a_pair_is_not_waited_for_for_ever(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portforward, "_PAIR_S", 0.02)
    error = line.client.open(streamtype="error", port="80", requestid="0")
    while not line.client.reset:
        await line.client.read()
    assert line.client.received[error] == b"timed out waiting for the other stream of the connection"


async def test_spdy_passes_through_a_tunnel_of_websocket() -> None:
    server, middle = MemoryPipe.pair()
    ports = FakePorts()
    serving = asyncio.create_task(over_spdy(Tunnel(WebSocket(server)), Forwarder(ports, "sandbox")))
    outer, (inner, far) = WebSocketClient(middle), MemoryPipe.pair()
    client = SpdyClient(far)
    error = client.open(streamtype="error", port="80", requestid="0")
    data = client.open(streamtype="data", port="80", requestid="0")
    client.send(data, b"tunnelled", fin=True)
    inner.incoming.feed_eof()
    outer.send(await inner.incoming.read())
    while not client.finished.issuperset((error, data)):
        opcode, payload = await outer.read()
        assert opcode == 2
        inner.write(payload)
        while far.incoming._buffer:  # type: ignore[attr-defined]
            await client.read()
    assert client.received[data] == b"TUNNELLED"
    middle.leave()
    async with asyncio.timeout(60):
        await serving
    await ports.close()


async def test_websocket_has_two_channels_for_each_port_that_it_begins_with() -> None:
    server, pipe = MemoryPipe.pair()
    client, ports = WebSocketClient(pipe), FakePorts()
    work = over_websocket(WebSocket(server), "v4.channel.k8s.io", (81, 7), Forwarder(ports, "sandbox"))
    serving = asyncio.create_task(work)
    received, _ = await client.channels()
    assert received[0] == b"\x51\x00bye"  # the port first, lowest byte first
    assert (received[1], received[2]) == (b"\x51\x00", b"\x07\x00")
    assert received[3].endswith(b"nothing accepts connections at port 7")
    async with asyncio.timeout(60):
        await serving
    await ports.close()
