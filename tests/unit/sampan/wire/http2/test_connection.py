import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from hpack import Decoder, Encoder

from sampan.errors import NotFoundError, RemoteError, UnavailableError
from sampan.wire.http2 import connection as connection_module
from sampan.wire.http2 import frames
from sampan.wire.http2.call import Call, start, unary
from sampan.wire.http2.connection import Connection
from sampan.wire.http2.frames import ErrorCode, Frame, FrameParser, Kind, ProtocolError, Setting
from sampan.wire.http2.stream import WINDOW_BYTES
from tests.fakes.byte_stream import FakeByteStream

METHOD = "/a.B/C"
OK = [(":status", "200"), ("content-type", "application/grpc")]


def message(data: bytes) -> bytes:
    return b"\0" + len(data).to_bytes(4, "big") + data


async def read_to_end(call: Call) -> None:
    while await call.receive():
        pass


async def write_often(stream: FakeByteStream, data: bytes) -> None:
    for _ in range(100):
        await stream.write(data)


class Server:
    """The other side, frame by frame."""

    def __init__(self, stream: FakeByteStream) -> None:
        self.stream = stream
        self.encoder = Encoder()
        self.decoder = Decoder()
        self._parser = FrameParser(1 << 20)
        self._found: list[Frame] = []
        self._greeted = False

    async def next(self, kind: Kind) -> Frame:
        """Return the next frame of a kind; what comes before it is passed over."""
        async with asyncio.timeout(60):
            while True:
                while self._found:
                    frame = self._found.pop(0)
                    if frame[0] == kind:
                        return frame
                data = await self.stream.read()
                assert data, f"closed before a frame of {kind.name}"
                if not self._greeted:
                    assert data.startswith(frames.PREFACE)
                    data = data.removeprefix(frames.PREFACE)
                    self._greeted = True
                self._found += self._parser.feed(data)

    async def send(self, *sent: bytes) -> None:
        await self.stream.write(b"".join(sent))

    def headers(self, number: int, fields: list[tuple[str, str]], flags: int = 0) -> bytes:
        return frames.frame(Kind.HEADERS, flags | frames.END_HEADERS, number, self.encoder.encode(fields))

    async def answer(self, number: int, *messages: bytes, status: str = "0", said: str = "") -> None:
        data = b"".join(map(message, messages))
        await self.send(
            self.headers(number, OK),
            frames.frame(Kind.DATA, 0, number, data),
            self.headers(number, [("grpc-status", status), ("grpc-message", said)], frames.END_STREAM),
        )


@asynccontextmanager
async def connected(settings: dict[Setting, int] | None = None) -> AsyncIterator[tuple[Connection, Server]]:
    ours, theirs = FakeByteStream.pair()
    connection = Connection(ours, "it is over")
    running = asyncio.create_task(connection.run())
    server = Server(theirs)
    await server.send(frames.settings_frame(settings or {}))
    flags = 0
    while not flags & frames.ACK:
        _, flags, _, _ = await server.next(Kind.SETTINGS)
    try:
        yield connection, server
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError, ProtocolError):
            await running
        assert ours.closed
        assert {task for task in asyncio.all_tasks() if "http2" in task.get_name()} == set()


async def test_unary_call_is_one_message_each_way() -> None:
    async with connected() as (connection, server):
        calling = asyncio.create_task(unary(connection, METHOD, b"ask", [("key", "value")]))
        _, _, number, block = await server.next(Kind.HEADERS)
        fields = dict(server.decoder.decode(block, raw=True))
        assert fields[b":path"] == METHOD.encode()
        assert fields[b"te"] == b"trailers"
        assert fields[b"key"] == b"value"
        assert (await server.next(Kind.DATA))[1:] == (frames.END_STREAM, number, message(b"ask"))
        await server.answer(number, b"answer")
        assert await calling == b"answer"


async def test_status_and_percent_encoded_words_are_raised_as_our_kinds() -> None:
    async with connected() as (connection, server):
        for status, kind in (("5", NotFoundError), ("2", RemoteError), ("13", RemoteError), ("14", UnavailableError)):
            calling = asyncio.create_task(unary(connection, METHOD, b""))
            _, _, number, _ = await server.next(Kind.HEADERS)
            fields = [*OK, ("grpc-status", status), ("grpc-message", "no %22dir%22: 50%25 %C3%B6")]
            await server.send(server.headers(number, fields, frames.END_STREAM))
            with pytest.raises(kind, match='no "dir": 50% ö'):
                await calling


async def test_answer_without_a_status_is_told_by_its_http_status() -> None:
    async with connected() as (connection, server):
        calling = asyncio.create_task(unary(connection, METHOD, b""))
        _, _, number, _ = await server.next(Kind.HEADERS)
        await server.send(server.headers(number, [(":status", "503")], frames.END_STREAM))
        with pytest.raises(UnavailableError, match="503"):
            await calling


async def test_many_messages_in_one_read_are_one_batch_and_cut_ones_are_joined() -> None:
    async with connected() as (connection, server), await start(connection, METHOD) as call:
        data = message(b"one") + message(b"") + message(b"three")
        await server.send(server.headers(1, OK), frames.frame(Kind.DATA, 0, 1, data[:-2]))
        assert await call.receive() == [b"one", b""]
        await server.send(frames.frame(Kind.DATA, 0, 1, data[-2:]))
        assert await call.receive() == [b"three"]


async def test_calls_go_on_side_by_side() -> None:
    async with connected() as (connection, server):
        calls = [asyncio.create_task(unary(connection, METHOD, bytes([n]))) for n in range(20)]
        asked = {}
        for _ in calls:
            _, _, number, data = await server.next(Kind.DATA)
            asked[number] = data[5:]
        for number, data in reversed(asked.items()):
            await server.answer(number, data * 2)
        assert await asyncio.gather(*calls) == [bytes([n, n]) for n in range(20)]


async def test_no_more_streams_are_opened_than_the_other_side_takes() -> None:
    async with connected({Setting.MAX_CONCURRENT_STREAMS: 1}) as (connection, server):
        first, second = (asyncio.create_task(unary(connection, METHOD, each)) for each in (b"1", b"2"))
        await server.next(Kind.DATA)
        assert len(connection._streams) == 1
        await server.answer(1, b"a")
        assert await first == b"a"
        await server.answer((await server.next(Kind.DATA))[2], b"b")
        assert await second == b"b"


async def test_no_more_is_sent_than_both_windows_allow() -> None:
    settings = {Setting.INITIAL_WINDOW_SIZE: 10}
    async with connected(settings) as (connection, server), await start(connection, METHOD) as call:
        sending = asyncio.create_task(call.send(b"x" * 20))
        assert len((await server.next(Kind.DATA))[3]) == 10
        await server.send(frames.window_update(1, 5))
        assert len((await server.next(Kind.DATA))[3]) == 5
        assert not sending.done()
        await server.send(frames.settings_frame({Setting.INITIAL_WINDOW_SIZE: 1000}))
        assert len((await server.next(Kind.DATA))[3]) == 10
        await sending


async def test_the_connections_window_bounds_all_streams_together() -> None:
    settings = {Setting.INITIAL_WINDOW_SIZE: 1 << 20}
    async with connected(settings) as (connection, server), await start(connection, METHOD) as call:
        sending = asyncio.create_task(call.send(bytes(100_000)))
        got = 0
        while got < frames.DEFAULT_WINDOW_BYTES:
            got += len((await server.next(Kind.DATA))[3])
        assert got == frames.DEFAULT_WINDOW_BYTES
        assert not sending.done()
        await server.send(frames.window_update(0, 1 << 20))
        while got < 100_005:
            got += len((await server.next(Kind.DATA))[3])
        await sending


async def test_window_is_given_back_when_data_are_taken_and_not_before() -> None:
    async with connected() as (connection, server), await start(connection, METHOD) as call:
        piece = frames.frame(Kind.DATA, 0, 1, message(bytes(99_995)))
        count = WINDOW_BYTES // 2 // 100_000 + 1
        await server.send(server.headers(1, OK), *[piece] * count)
        await server.send(frames.frame(Kind.PING, 0, 0, b"12345678"))
        await server.next(Kind.PING)
        assert not [each for each in server._found if each[0] == Kind.WINDOW_UPDATE and each[2] == 1]
        assert len(await call.receive()) == count
        _, _, number, payload = await server.next(Kind.WINDOW_UPDATE)
        assert (number, int.from_bytes(payload, "big")) == (1, count * 100_000)


async def test_more_than_the_window_ends_the_connection() -> None:
    async with connected() as (connection, server), await start(connection, METHOD) as call:
        count = WINDOW_BYTES // 100_000 + 1
        await server.send(server.headers(1, OK), *[frames.frame(Kind.DATA, 0, 1, bytes(100_000))] * count)
        _, code, _ = frames.goaway((await server.next(Kind.GOAWAY))[3])
        assert code == ErrorCode.FLOW_CONTROL_ERROR
        with pytest.raises(UnavailableError, match="it is over"):
            await read_to_end(call)


async def test_ping_is_answered() -> None:
    async with connected() as (_, server):
        await server.send(frames.frame(Kind.PING, 0, 0, b"12345678"))
        assert await server.next(Kind.PING) == (Kind.PING, frames.ACK, 0, b"12345678")


async def test_reset_stream_fails_its_call_alone() -> None:
    async with connected() as (connection, server):
        one, other = (asyncio.create_task(unary(connection, METHOD, b"")) for _ in range(2))
        await server.next(Kind.DATA)
        await server.next(Kind.DATA)
        await server.send(frames.rst_stream(1, ErrorCode.CANCEL))
        with pytest.raises(UnavailableError, match="CANCEL"):
            await one
        await server.answer(3, b"fine")
        assert await other == b"fine"


async def test_reset_after_the_whole_answer_loses_nothing_of_it() -> None:
    async with connected() as (connection, server), await start(connection, METHOD) as call:
        await server.answer(1, b"last words", status="5", said="gone")
        await server.send(frames.rst_stream(1, ErrorCode.NO_ERROR))
        await server.send(frames.frame(Kind.PING, 0, 0, b"12345678"))
        await server.next(Kind.PING)
        assert await call.receive() == [b"last words"]
        with pytest.raises(NotFoundError, match="gone"):
            await call.send(b"more")


async def test_goaway_fails_what_will_not_be_answered_and_lets_the_rest_end() -> None:
    async with connected() as (connection, server):
        one, other = (asyncio.create_task(unary(connection, METHOD, b"")) for _ in range(2))
        await server.next(Kind.DATA)
        await server.next(Kind.DATA)
        await server.send(frames.frame(Kind.GOAWAY, 0, 0, (1).to_bytes(4, "big") + bytes(4)))
        with pytest.raises(UnavailableError, match="it is over"):
            await other
        with pytest.raises(UnavailableError, match="it is over"):
            await unary(connection, METHOD, b"")
        await server.answer(1, b"fine")
        assert await one == b"fine"


async def test_end_of_the_connection_fails_every_call() -> None:
    async with connected() as (connection, server):
        calling = asyncio.create_task(unary(connection, METHOD, b""))
        await server.next(Kind.DATA)
        await server.stream.close()
        with pytest.raises(UnavailableError, match="it is over"):
            await calling
        with pytest.raises(UnavailableError, match="it is over"):
            await start(connection, METHOD)


async def test_call_that_is_let_go_is_cancelled_there_and_forgotten_here() -> None:
    async with connected() as (connection, server):
        async with await start(connection, METHOD):
            pass
        _, _, number, payload = await server.next(Kind.RST_STREAM)
        assert (number, int.from_bytes(payload, "big")) == (1, ErrorCode.CANCEL)
        # What was under way for it disturbs nobody, and its headers are part of the compression's state.
        await server.answer(1, b"too late")
        calling = asyncio.create_task(unary(connection, METHOD, b""))
        await server.next(Kind.DATA)
        await server.answer(3, b"fine")
        assert await calling == b"fine"
        assert connection._streams == {}


async def test_cancelled_call_leaves_no_stream() -> None:
    async with connected() as (connection, server):
        calling = asyncio.create_task(unary(connection, METHOD, b""))
        await server.next(Kind.DATA)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await server.next(Kind.RST_STREAM)
        assert connection._streams == {}


async def test_call_without_an_answer_in_time_is_unavailable() -> None:
    async with connected() as (connection, server):
        with pytest.raises(UnavailableError, match="no answer within"):
            await unary(connection, METHOD, b"", timeout_s=0.01)
        await server.next(Kind.RST_STREAM)


@pytest.mark.parametrize(
    "sent",
    [
        frames.frame(Kind.CONTINUATION, 0, 1, b""),
        frames.frame(Kind.HEADERS, 0, 1, b"") + frames.frame(Kind.DATA, 0, 1, b""),
        frames.frame(Kind.HEADERS, 0, 1, b"") + frames.frame(Kind.CONTINUATION, 0, 3, b""),
        frames.frame(Kind.HEADERS, 0, 1, bytes(70_000)),
        frames.frame(Kind.HEADERS, frames.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
        frames.frame(Kind.PUSH_PROMISE, frames.END_HEADERS, 1, bytes(4)),
        frames.frame(Kind.DATA, 0, 0, b"x"),
        frames.frame(Kind.PING, 0, 0, b"short"),
        frames.window_update(0, 0),
        frames.window_update(0, frames.MAX_WINDOW_BYTES),
        frames.settings_frame({Setting.INITIAL_WINDOW_SIZE: 1 << 31}),
        frames.settings_frame({Setting.MAX_FRAME_SIZE: 1}),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
async def test_who_breaks_the_rules_is_told_and_left(sent: bytes) -> None:
    ours, theirs = FakeByteStream.pair()
    connection = Connection(ours)
    await theirs.write(frames.settings_frame({}) + sent)
    async with asyncio.timeout(60):
        with pytest.raises(ProtocolError):
            await connection.run()
    assert ours.closed


async def test_who_only_asks_and_never_reads_is_not_read_for_ever() -> None:
    ours, theirs = FakeByteStream.pair(capacity=1)
    connection = Connection(ours)
    running = asyncio.create_task(connection.run())
    flood = frames.frame(Kind.PING, 0, 0, b"12345678") * 20_000
    sending = asyncio.create_task(write_often(theirs, flood))
    _, waiting = await asyncio.wait((sending,), timeout=0.2)
    assert waiting
    sending.cancel()
    assert connection._outgoing_bytes < 3 << 20
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_message_that_never_ends_is_refused() -> None:
    async with connected() as (connection, server), await start(connection, METHOD) as call:
        await server.send(server.headers(1, OK), frames.frame(Kind.DATA, 0, 1, b"\0\xff\xff\xff\xff"))
        with pytest.raises(RemoteError, match="4294967295"):
            await call.receive()


async def test_call_that_ends_in_the_middle_of_a_message_has_failed() -> None:
    async with connected() as (connection, server):
        call: Call = await start(connection, METHOD)
        await server.send(
            server.headers(1, OK),
            frames.frame(Kind.DATA, 0, 1, message(b"abc")[:-1]),
            server.headers(1, [("grpc-status", "0")], frames.END_STREAM),
        )
        with pytest.raises(RemoteError, match="middle"):
            await call.receive()
        call.close()


async def test_silence_is_asked_for_a_sign_of_life_and_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_ALIVE_S", 0.01)
    monkeypatch.setattr(connection_module, "_DEAD_S", 0.05)
    ours, theirs = FakeByteStream.pair()
    async with asyncio.timeout(60):
        await Connection(ours).run()
    assert ours.closed
    server = Server(theirs)
    assert (await server.next(Kind.PING))[1] == 0
