import asyncio
import base64

import pytest

from crid.streaming.upgrade import Head, NoCommonProtocolError
from crid.streaming.websocket import MAX_MESSAGE_BYTES, Channels, Tunnel, WebSocket, handshake
from sampan.errors import InvalidArgumentError
from tests.fakes.streaming import MemoryPipe, WebSocketClient

# What client-go 0.37 with gorilla/websocket sends for an exec with stdin and a terminal: two sizes, a line of input,
# its end as v5 tells it, and the close.
RECORDED = base64.b64decode(
    "gpoOeNeNCgP12mcco+UsQu+9Ilqf6Gcfv/ksQuW5c3KCmyx9T84oBm2ZRRk7pg5Hfv4cUW2GSRQoplhfdf0cAEWChm+IYIFv7RjoG4KCgil647nWeoiC"
    "PMDnXD8o"
)

FIELDS = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
)


def pair() -> tuple[WebSocket, WebSocketClient]:
    server, client = MemoryPipe.pair()
    return WebSocket(server), WebSocketClient(client)


def test_handshake_is_that_of_the_rfc() -> None:
    head = Head("GET", "/", (*FIELDS, ("Sec-WebSocket-Protocol", "v9, v5.channel.k8s.io, v4.channel.k8s.io")))
    protocol, fields = handshake(head, ("v4.channel.k8s.io", "v5.channel.k8s.io"))
    assert protocol == "v5.channel.k8s.io"
    assert fields == (
        ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),  # RFC 6455, section 1.3
        ("Sec-WebSocket-Protocol", "v5.channel.k8s.io"),
    )
    assert handshake(Head("GET", "/", FIELDS), ()) == ("", fields[:1])


def test_handshake_that_is_none_is_refused() -> None:
    for head in (Head("POST", "/", FIELDS), Head("GET", "/", FIELDS[:2]), Head("GET", "/", FIELDS[:3])):
        with pytest.raises(InvalidArgumentError, match="not a WebSocket handshake"):
            handshake(head, ())
    with pytest.raises(NoCommonProtocolError):
        handshake(Head("GET", "/", (*FIELDS, ("Sec-WebSocket-Protocol", "v9"))), ("v4",))


async def test_what_a_real_client_sends_is_read() -> None:
    server, pipe = MemoryPipe.pair()
    pipe.write(RECORDED)
    socket = WebSocket(server)
    assert [await socket.read() for _ in range(4)] == [
        b'\x04{"Width":80,"Height":24}\n',
        b'\x04{"Width":100,"Height":30}\n',
        b"\x00exit\n",
        b"\xff\x00",
    ]
    with pytest.raises(EOFError):
        await socket.read()
    assert await WebSocketClient(pipe).read() == (8, b"\x03\xe8")  # the close is answered


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 1 << 20])
async def test_messages_of_all_lengths_pass_both_ways(size: int) -> None:
    socket, client = pair()
    message = bytes(index % 251 for index in range(size))
    client.send(message)
    assert await socket.read() == message
    await socket.write(message)
    assert await client.read() == (2, message)


async def test_message_in_pieces_is_one_and_pings_between_are_answered() -> None:
    socket, client = pair()
    client.send(b"ab", fin=False)
    client.send(b"ping", 9)
    client.send(b"cd", 0, fin=False)
    client.send(b"ef", 0)
    assert await socket.read() == b"abcdef"
    assert await client.read() == (10, b"ping")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"\x82\x01a", 1002),  # a client's frames are masked
        (b"\xc2\x81" + bytes(5), 1002),  # no extension was agreed on
        (b"\x83\x80" + bytes(4), 1002),  # no such kind of frame
        (b"\x80\x80" + bytes(4), 1002),  # goes on with nothing
        (b"\x09\x80" + bytes(4), 1002),  # a ping comes in one frame
        (b"\x89\xfe\x01\x00" + bytes(260), 1002),  # of 125 bytes at most
        (b"\x82\xff" + (MAX_MESSAGE_BYTES + 1).to_bytes(8, "big") + bytes(4), 1009),
    ],
)
async def test_what_is_no_frame_of_a_client_ends_the_connection_with_its_code(raw: bytes, code: int) -> None:
    socket, client = pair()
    client.pipe.write(raw)
    with pytest.raises(InvalidArgumentError):
        await socket.read()
    assert await client.read() == (8, code.to_bytes(2, "big"))


async def test_message_may_not_grow_beyond_its_limit_in_pieces() -> None:
    socket, client = pair()
    client.send(bytes(MAX_MESSAGE_BYTES), fin=False)
    client.send(b"x", 0)
    with pytest.raises(InvalidArgumentError, match="more than 4194304 bytes"):
        await socket.read()


async def test_base64_that_is_none_ends_the_connection() -> None:
    socket, client = pair()
    client.send(b"0%%%", 1)
    with pytest.raises(InvalidArgumentError, match="not base64"):
        await Channels(socket, 5, is_base64=True, closes=False).run()
    assert await client.read() == (8, b"\x03\xea")


async def test_channels_that_there_are_not_and_empty_messages_mean_nothing() -> None:
    socket, client = pair()
    channels = Channels(socket, 1, is_base64=False, closes=False)
    for message in (b"\x07abc", b"", b"\x00yes"):
        client.send(message)
    client.pipe.leave()
    await channels.run()
    assert [data async for data in channels.all[0].inlet.chunks()] == [b"yes"]
    assert channels.all[0].inlet.broken


async def test_reader_that_is_slow_holds_the_client_up_and_one_that_leaves_lets_it_go() -> None:
    socket, client = pair()
    channels = Channels(socket, 1, is_base64=False, closes=False)
    for _ in range(3):
        client.send(b"\x00" + bytes(1 << 20))
    reading = asyncio.create_task(channels.run())
    inlet = channels.all[0].inlet
    await asyncio.sleep(0)
    taken = inlet.chunks()
    first = await anext(taken)
    assert len(first) == 1 << 20
    assert not reading.done()
    await taken.aclose()  # type: ignore[attr-defined]
    client.pipe.leave()
    async with asyncio.timeout(60):
        await reading


async def test_tunnel_is_a_stream_of_bytes_however_messages_cut_it() -> None:
    socket, client = pair()
    tunnel = Tunnel(socket)
    for message in (b"ab", b"cdef", b"", b"g"):
        client.send(message)
    assert [await tunnel.read_exactly(size) for size in (1, 4, 2)] == [b"a", b"bcde", b"fg"]
    tunnel.write(b"one")
    tunnel.write(b"two")
    await tunnel.drain()
    assert await client.read() == (2, b"onetwo")
    client.pipe.leave()
    with pytest.raises(EOFError):
        await tunnel.read_exactly(1)
