"""A client that is sent a lot of output reads it where runtimed would: with real sockets and no conmon."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

import runtimed.conmon.stdio
import runtimed.wire.handing
from runtimed.conmon.stdio import StdioConnection
from runtimed.streams.detach import DetachScanner
from runtimed.streams.sessions import HAND_OVER_BYTES, Session
from runtimed.wire.containers_servicer import ContainersServicer
from runtimed.wire.handing import Handing
from sampan.api.runtime.v1.containers_pb2_grpc import add_ContainersServicer_to_server
from sampan.client.runtime.containers import ContainersClient
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.protocols import Containers
from sampan.resource.streams import Attached, AttachOptions, Detached, Frame, Input, Output, Stream
from tests.contract.served import served

_GONE = r"Broken pipe|Connection reset"

PIECE = 8192
OUT, ERR = b"\x02", b"\x03"
# More than is handed over, and than all that may wait between a process and its client.
PIECES = 800


@dataclass
class World:
    """A process's streams, as a conmon keeps them, and a service that attaches to them."""

    conmon: socket.socket
    connection: StdioConnection
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    sent_bytes: int = 0  # by messages
    process: int = -1
    handed: list[int] = field(default_factory=list)  # how many descriptors, each time
    over: list[bool] = field(default_factory=list)  # what came of it

    async def write(self, *packets: bytes) -> None:
        for packet in packets:
            await asyncio.get_running_loop().sock_sendall(self.conmon, packet)

    async def attach(self, _: str, options: AttachOptions, input: Input) -> AsyncGenerator[Output, None]:
        given = options.hand_over

        async def hand_over(fds: Sequence[int]) -> bool:
            assert given is not None
            self.handed.append(len(fds))
            self.over.append(await given(fds))
            return self.over[-1]

        session = Session(
            self.connection,
            stdin=True,
            streams=options.streams,
            scanner=DetachScanner(b"\x10\x11"),
            resize=lambda _: None,
            hand_over=hand_over if given is not None else None,
            process=(lambda: self.process) if self.process >= 0 else None,
        )
        yield Attached()
        run = cast("AsyncGenerator[list[Frame], None]", session.run(input, self.stopping))
        try:
            async with aclosing(run) as output:
                async for frames in output:
                    self.sent_bytes += sum([len(frame.data) for frame in frames])
                    yield frames
        finally:
            self.left.set()
        if session.detached:
            yield Detached()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, a ticket is waited for."""
    monkeypatch.setattr(runtimed.wire.handing, "_CLAIM_S", 60.0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    conmon, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    conmon.setblocking(False)
    ours.setblocking(False)
    made = World(conmon, StdioConnection(ours))
    yield made
    made.connection.close()
    conmon.close()
    if made.process >= 0:
        os.close(made.process)


@asynccontextmanager
async def client_of(world: World, directory: Path, elsewhere: Path | None = None) -> AsyncIterator[ContainersClient]:
    """Yield a client of runtimed's service, which looks ``elsewhere`` for descriptors."""
    handing = Handing(directory / "h")
    servicer = ContainersServicer(cast("Containers", world), handing)
    try:
        async with served(lambda server: add_ContainersServicer_to_server(servicer, server)) as channel:
            yield ContainersClient(channel, elsewhere or directory / "h")
    finally:
        await handing.close()


async def typing(keys: asyncio.Event) -> AsyncIterator[bytes | ConsoleSize]:
    await keys.wait()
    yield b"\x10\x11"
    await asyncio.Event().wait()


def output_of(items: list[Output], stream: Stream) -> bytes:
    frames = [frame for item in items if not isinstance(item, Attached | Detached) for frame in item]
    return b"".join([frame.data for frame in frames if frame.stream is stream])


def numbered(head: bytes) -> list[bytes]:
    return [head + b"%08d" % number * (PIECE // 8) for number in range(PIECES)]


async def until_asked_twice(world: World) -> bytes:
    """Write until a client is asked again, after four times as much as at first, and some more; return all of it."""
    written = list[bytes]()
    more = 10
    while more and len(written) < 8 * PIECES:
        written.append(b"%08d" % len(written) * (PIECE // 8))
        await world.write(OUT + written[-1])
        more -= len(world.handed) > 1
    return b"".join(written)


async def test_all_of_it_arrives_in_order_and_most_of_it_past_the_service(world: World, tmp_path: Path) -> None:
    packets = [packet for pair in zip(numbered(OUT), numbered(ERR), strict=True) for packet in pair]
    async with client_of(world, tmp_path) as client:
        writing = asyncio.create_task(world.write(*packets))
        writing.add_done_callback(lambda _: world.conmon.close())
        items = [item async for item in client.attach("web", AttachOptions(stdin=True), typing(asyncio.Event()))]
        await writing
    assert output_of(items, Stream.STDOUT) == b"".join([one[1:] for one in numbered(OUT)])
    assert output_of(items, Stream.STDERR) == b"".join([one[1:] for one in numbered(ERR)])
    assert world.over == [True]
    assert world.connection.ended


async def test_a_client_gets_the_streams_that_it_asked_for(world: World, tmp_path: Path) -> None:
    async with client_of(world, tmp_path) as client:
        writing = asyncio.create_task(world.write(*numbered(ERR), *numbered(OUT)))
        writing.add_done_callback(lambda _: world.conmon.close())
        options = AttachOptions(streams=frozenset((Stream.STDOUT,)))
        items = [item async for item in client.attach("web", options, typing(asyncio.Event()))]
        await writing
    assert world.over == [True]
    assert output_of(items, Stream.STDOUT) == b"".join([one[1:] for one in numbered(OUT)])
    assert output_of(items, Stream.STDERR) == b""


async def test_little_output_comes_by_messages(world: World, tmp_path: Path) -> None:
    async with client_of(world, tmp_path) as client:
        await world.write(OUT + b"a little")
        world.conmon.close()
        items = [item async for item in client.attach("web", AttachOptions(), typing(asyncio.Event()))]
    assert output_of(items, Stream.STDOUT) == b"a little"
    assert world.handed == []


async def test_the_detach_keys_end_what_was_handed_over(world: World, tmp_path: Path) -> None:
    keys = asyncio.Event()
    async with client_of(world, tmp_path) as client:
        writing = asyncio.create_task(world.write(*numbered(OUT)))
        items: list[Output] = []
        async for item in client.attach("web", AttachOptions(stdin=True), typing(keys)):
            items.append(item)
            if len(output_of(items[-1:], Stream.STDOUT)) and world.handed:
                keys.set()
        assert isinstance(items[-1], Detached)
        with pytest.raises(OSError, match=_GONE):  # nobody reads any more
            await writing


@pytest.mark.parametrize("refused", ["nobody listens", "nobody answers"])
async def test_who_gets_no_descriptor_reads_all_by_messages(
    world: World, tmp_path: Path, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimed.wire.handing, "_CLAIM_S", 0.01)
    place = tmp_path / "elsewhere"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.bind(str(place))
        if refused == "nobody answers":
            other.listen()
            monkeypatch.setattr("sampan.client.runtime.conversations._CLAIM_S", 0.01)
        async with client_of(world, tmp_path, place) as client:
            writing = asyncio.create_task(until_asked_twice(world))
            writing.add_done_callback(lambda _: world.conmon.close())
            items = [item async for item in client.attach("web", AttachOptions(), typing(asyncio.Event()))]
            written = await writing
    assert world.over == [False, False]
    assert output_of(items, Stream.STDOUT) == written


async def test_who_could_not_take_it_at_first_takes_it_later(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimed.wire.handing, "_CLAIM_S", 0.01)
    place = tmp_path / "later"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.bind(str(place))  # nobody listens there
    items: list[Output] = []
    async with client_of(world, tmp_path, place) as client:
        writing = asyncio.create_task(until_asked_twice(world))
        writing.add_done_callback(lambda _: world.conmon.close())
        async for item in client.attach("web", AttachOptions(), typing(asyncio.Event())):
            items.append(item)
            if world.over == [False] and not place.is_symlink():
                place.unlink()
                place.symlink_to(tmp_path / "h")
                monkeypatch.setattr(runtimed.wire.handing, "_CLAIM_S", 60.0)
        written = await writing
    assert world.over == [False, True]
    assert output_of(items, Stream.STDOUT) == written


async def test_a_client_that_leaves_what_it_was_handed_leaves_the_process(world: World, tmp_path: Path) -> None:
    async with client_of(world, tmp_path) as client:
        writing = asyncio.create_task(world.write(*numbered(OUT)))
        async with aclosing(client.attach("web", AttachOptions(), typing(asyncio.Event()))) as items:
            await until_handed(world, items)
        await world.left.wait()
        assert not world.connection.ended  # as with any client that has left: the service sees to it
        world.connection.open_floodgate()
        await writing


async def test_a_service_that_stops_ends_what_was_handed_over(world: World, tmp_path: Path) -> None:
    async with client_of(world, tmp_path) as client:
        writing = asyncio.create_task(world.write(*numbered(OUT)))
        seen = 0
        async for item in client.attach("web", AttachOptions(), typing(asyncio.Event())):
            seen += len(output_of([item], Stream.STDOUT))
            if world.handed:
                world.stopping.set()
        assert HAND_OVER_BYTES <= seen < PIECES * PIECE
        with pytest.raises(OSError, match=_GONE):
            await writing


async def until_handed(world: World, items: AsyncIterator[Output]) -> None:
    """Read until something has come that came by no message."""
    seen = 0
    async for item in items:
        seen += len(output_of([item], Stream.STDOUT))
        if seen > world.sent_bytes:
            return
    raise AssertionError("all came by messages")


async def test_once_its_process_has_ended_output_is_read_however_slow_the_client_is(
    world: World, tmp_path: Path
) -> None:
    child = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
    world.process = os.pidfd_open(child.pid)
    async with client_of(world, tmp_path) as client:
        writing = asyncio.create_task(world.write(*numbered(OUT)))
        async with aclosing(client.attach("web", AttachOptions(), typing(asyncio.Event()))) as items:
            await until_handed(world, items)
            assert world.handed == [2]
            assert not writing.done()
            assert child.stdin is not None
            child.stdin.close()
            await child.wait()
            await writing  # though nobody takes an item
            world.conmon.close()
            assert sum([len(output_of([item], Stream.STDOUT)) async for item in items]) > HAND_OVER_BYTES


async def test_a_reader_that_does_not_read_holds_no_exit_up(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimed.conmon.stdio, "_LAST_OUTPUT_S", 0.01)
    async with client_of(world, tmp_path) as client:
        writing = asyncio.create_task(world.write(*numbered(OUT)))
        async with aclosing(client.attach("web", AttachOptions(), typing(asyncio.Event()))) as items:
            await until_handed(world, items)
            world.connection.open_floodgate()  # its process has ended; who reads does not know that here
            with pytest.raises(OSError, match=_GONE):
                await writing
