import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from hpack import Encoder

from sampan.errors import UnavailableError
from sampan.wire.http2 import frames
from sampan.wire.http2.call import Call, ServedCall, start
from sampan.wire.http2.connection import Connection
from sampan.wire.http2.frames import ErrorCode, Kind, ProtocolError
from sampan.wire.http2.protocol import ByteStream, SocketStream
from sampan.wire.http2.relay import HEAD, ending
from sampan.wire.http2.served import ServedConnection, listening
from sampan.wire.http2.stream import Headers, Stream
from tests.fakes.byte_stream import FakeByteStream

_GET = b"\x82\x84\x86"  # of the static table: GET, /, http


class Requests:
    """Requests that have come."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[Stream, dict[str, str]]] = asyncio.Queue()

    def accept(self, stream: Stream, headers: Headers) -> None:
        self._queue.put_nowait((stream, dict(headers)))

    async def next(self) -> tuple[Stream, dict[str, str]]:
        async with asyncio.timeout(60):
            return await self._queue.get()


@pytest.fixture
def requests() -> Requests:
    return Requests()


@pytest.fixture
async def client(requests: Requests) -> AsyncIterator[Connection]:
    """Our own client, connected to our own server."""
    ours, theirs = FakeByteStream.pair()
    connection = Connection(ours)
    tasks = [asyncio.create_task(side.run()) for side in (connection, ServedConnection(theirs, requests.accept))]
    yield connection
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _begun(client: Connection, requests: Requests) -> tuple[Call, Stream]:
    call = await start(client, "/a.B/C", [("key", "välue")])
    stream, headers = await requests.next()
    assert headers[":path"] == "/a.B/C"
    assert headers["key"] == "välue"
    return call, stream


async def test_messages_go_both_ways_and_the_answer_may_follow_the_end_of_the_request(
    client: Connection, requests: Requests
) -> None:
    call, stream = await _begun(client, requests)
    served = ServedCall(stream)
    await call.send(b"ask", end=True)
    assert await served.receive() == [b"ask"]
    assert await served.receive() == []
    stream.send_headers(HEAD)
    await served.send(b"x" * 100_000)
    stream.send_headers(ending(None), end=True)
    stream.close(ErrorCode.NO_ERROR)
    assert await call.receive() == [b"x" * 100_000]
    assert await call.receive() == []


async def test_failure_is_told_in_words(client: Connection, requests: Requests) -> None:
    call, stream = await _begun(client, requests)
    stream.send_headers((*HEAD, *ending(UnavailableError("100 % «gone»"))), end=True)
    with pytest.raises(UnavailableError, match="100 % «gone»"):
        await call.receive()


async def test_request_that_is_broken_off_is_told_even_if_it_was_whole(client: Connection, requests: Requests) -> None:
    call, stream = await _begun(client, requests)
    await call.send(b"ask", end=True)
    broken = asyncio.Event()
    stream.when_broken = broken.set
    call.close()
    async with asyncio.timeout(60):
        await broken.wait()


async def test_what_is_not_wanted_any_more_is_dropped(client: Connection, requests: Requests) -> None:
    call, stream = await _begun(client, requests)
    await call.send(b"1")
    reading = asyncio.create_task(ServedCall(stream).receive())
    assert await reading == [b"1"]
    reading = asyncio.create_task(ServedCall(stream).receive())
    await asyncio.sleep(0)
    stream.take_no_more()
    assert await reading == []
    await call.send(b"2")
    stream.send_headers((*HEAD, *ending(None)), end=True)
    assert await call.receive() == []


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        frames.PREFACE[:-1] + b"x",
        frames.PREFACE + frames.frame(Kind.HEADERS, frames.END_HEADERS, 2, _GET),
    ],
)
async def test_who_breaks_the_rules_is_left(sent: bytes, requests: Requests) -> None:
    ours, theirs = FakeByteStream.pair()
    for at in range(0, len(sent), 5):
        await ours.write(sent[at : at + 5])
    async with asyncio.timeout(60):
        with pytest.raises(ProtocolError):
            await ServedConnection(theirs, requests.accept).run()


async def test_trailers_of_a_request_that_is_over_are_no_request(requests: Requests) -> None:
    ours, theirs = FakeByteStream.pair()
    running = asyncio.create_task(ServedConnection(theirs, requests.accept).run())
    headers = frames.frame(Kind.HEADERS, frames.END_HEADERS, 1, _GET)
    await ours.write(frames.PREFACE + frames.settings_frame({}) + headers)
    stream, _ = await requests.next()
    stream.close()
    await ours.write(headers + frames.frame(Kind.HEADERS, frames.END_HEADERS, 3, _GET))
    assert (await requests.next())[0].number == 3
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


_ASKED = [(":method", "POST"), (":scheme", "http"), (":path", "/a.B/Look")]


@pytest.mark.parametrize(
    "headers",
    [
        [*_ASKED, (":path", "/a.B/Change")],
        [*_ASKED, ("te", "trailers"), (":path", "/a.B/Change")],
        [*_ASKED, ("te", "trailers"), (":authority", "x")],
        [*_ASKED, (":authority", "x"), (":authority", "y")],
        [*_ASKED, (":status", "200")],
        [*_ASKED, ("Path", "/a.B/Change")],
        [*_ASKED, ("", "x")],
        _ASKED[:2],
        _ASKED[1:],
        [],
    ],
)
async def test_request_that_could_be_read_in_two_ways_reaches_nobody(headers: Headers, requests: Requests) -> None:
    ours, theirs = FakeByteStream.pair()
    running = asyncio.create_task(ServedConnection(theirs, requests.accept).run())
    await ours.write(frames.PREFACE + frames.settings_frame({}))
    encode = Encoder().encode
    for number, each in ((1, headers), (3, _ASKED)):
        await ours.write(frames.header_frames(number, encode(each), 16384) + frames.frame(Kind.DATA, 1, number))
    stream, asked = await requests.next()
    assert (stream.number, asked) == (3, dict(_ASKED))
    parser = frames.FrameParser(1 << 20)
    async with asyncio.timeout(60):
        while not (broken := [each for each in parser.feed(await ours.read()) if each[0] == Kind.RST_STREAM]):
            pass
    assert broken == [(Kind.RST_STREAM, 0, 1, ErrorCode.PROTOCOL_ERROR.to_bytes(4))]
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_connections_end_with_the_listening(tmp_path: Path) -> None:
    path = tmp_path / "s"
    ended = asyncio.Event()

    async def serve(stream: ByteStream) -> None:
        try:
            await stream.write(b"hello")
            await asyncio.Event().wait()
        finally:
            await stream.close()
            ended.set()

    async with listening(path, serve):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
        stream = await SocketStream.connect(path)
        assert await stream.read() == b"hello"
    assert ended.is_set()
    assert not path.exists()
    assert await stream.read() == b""
    await stream.close()
