import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from runtimed.conmon.stdio import StdioConnection
from runtimed.streams.detach import DetachScanner
from runtimed.streams.sessions import Session
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.streams import Frame, Stream

OUT, ERR = b"\x02", b"\x03"


class ConmonEnd:
    """The other end of an attach socket."""

    def __init__(self) -> None:
        self.socket, self.clients_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.setblocking(False)
        self.clients_end.setblocking(False)

    async def write(self, *packets: bytes) -> None:
        loop = asyncio.get_running_loop()
        for packet in packets:
            await loop.sock_sendall(self.socket, packet)

    async def read(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.socket, 65536)


@pytest.fixture
def conmon() -> Iterator[ConmonEnd]:
    fake = ConmonEnd()
    yield fake
    fake.socket.close()


@pytest.fixture
async def connection(conmon: ConmonEnd) -> AsyncIterator[StdioConnection]:
    made = StdioConnection(conmon.clients_end)
    yield made
    made.close()


async def everything(connection: StdioConnection) -> list[Frame]:
    frames: list[Frame] = []
    while batch := await connection.read():
        frames += batch
    return frames


async def test_separate_writes_stay_separate_frames(conmon: ConmonEnd, connection: StdioConnection) -> None:
    await conmon.write(OUT + b"a", ERR + b"b", OUT + b"c")
    conmon.socket.close()
    frames = await everything(connection)
    assert frames == [Frame(Stream.STDOUT, b"a"), Frame(Stream.STDERR, b"b"), Frame(Stream.STDOUT, b"c")]


async def test_a_backlog_is_joined_by_stream_and_keeps_its_order(
    conmon: ConmonEnd, connection: StdioConnection
) -> None:
    await conmon.write(*[OUT + b"a"] * 10, *[ERR + b"b"] * 2, OUT + b"c")
    async with asyncio.timeout(60):
        while len(connection._packets) < 13:  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.01)
    assert await connection.read() == [
        Frame(Stream.STDOUT, b"a" * 10),
        Frame(Stream.STDERR, b"bb"),
        Frame(Stream.STDOUT, b"c"),
    ]


async def test_a_client_that_does_not_read_stops_the_writer_and_loses_nothing(
    conmon: ConmonEnd, connection: StdioConnection
) -> None:
    packets = 1000
    writing = asyncio.create_task(conmon.write(*[OUT + b"x" * 8192] * packets))
    await asyncio.sleep(0.1)
    assert not writing.done()  # 8 MB do not fit
    reading = asyncio.create_task(everything(connection))
    await writing
    conmon.socket.close()
    assert sum(len(frame.data) for frame in await reading) == packets * 8192


async def test_the_floodgate_lets_the_writer_finish_though_nobody_reads(
    conmon: ConmonEnd, connection: StdioConnection
) -> None:
    writing = asyncio.create_task(conmon.write(*[OUT + b"x" * 8192] * 1000))
    await asyncio.sleep(0.05)
    connection.open_floodgate()
    await asyncio.wait_for(writing, 60)
    conmon.socket.close()
    assert sum(len(frame.data) for frame in await everything(connection)) == 8192000


async def test_large_input_is_cut_into_packets_that_conmon_reads_whole(
    conmon: ConmonEnd, connection: StdioConnection
) -> None:
    writing = asyncio.create_task(connection.write(b"i" * 1_000_000))
    sizes: list[int] = []
    while sum(sizes) < 1_000_000:
        sizes.append(len(await conmon.read()))
    await writing
    assert max(sizes) <= 8192
    connection.close_stdin()
    assert await conmon.read() == b""


async def test_input_for_a_process_that_has_ended_is_dropped(conmon: ConmonEnd, connection: StdioConnection) -> None:
    conmon.socket.close()
    await connection.write(b"late")
    connection.close_stdin()
    assert await connection.read() == []


def make_session(
    connection: StdioConnection, sizes: list[ConsoleSize], *, stdin: bool = True, keys: bytes | None = None
) -> Session:
    return Session(
        connection,
        stdin=stdin,
        streams=frozenset((Stream.STDOUT,)),
        scanner=DetachScanner(keys) if keys else None,
        resize=sizes.append,
    )


async def typed(*items: bytes | ConsoleSize) -> AsyncIterator[bytes | ConsoleSize]:
    for item in items:
        yield item


async def test_a_session_passes_input_sizes_and_the_wanted_stream(
    conmon: ConmonEnd, connection: StdioConnection
) -> None:
    sizes: list[ConsoleSize] = []
    session = make_session(connection, sizes)
    output = session.run(typed(b"in", ConsoleSize(1, 2)), asyncio.Event())
    await conmon.write(ERR + b"unwanted", OUT + b"out")
    assert await anext(output) == [Frame(Stream.STDOUT, b"out")]
    assert await conmon.read() == b"in"
    assert await conmon.read() == b""  # the end of input
    assert sizes == [ConsoleSize(1, 2)]
    conmon.socket.close()
    assert [frames async for frames in output] == []
    assert not session.detached


async def test_the_detach_keys_end_a_session_and_not_the_process(
    conmon: ConmonEnd, connection: StdioConnection
) -> None:
    session = make_session(connection, [], keys=b"\x10\x11")
    assert [frames async for frames in session.run(typed(b"x\x10", b"\x11"), asyncio.Event())] == []
    assert session.detached
    assert await conmon.read() == b"x"


async def test_a_stopping_service_ends_a_session(conmon: ConmonEnd, connection: StdioConnection) -> None:
    stopping = asyncio.Event()

    async def silent() -> AsyncIterator[bytes | ConsoleSize]:
        await asyncio.Event().wait()
        yield b""

    session = make_session(connection, [])
    asyncio.get_running_loop().call_later(0.01, stopping.set)
    assert [frames async for frames in session.run(silent(), stopping)] == []
