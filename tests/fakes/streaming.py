"""Both ends of a streaming session: a client that speaks SPDY or WebSocket, and processes and ports to talk with."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

from crid.streaming import spdy_frames as frames
from crid.streaming.requests import AttachRequest, Ended, ExecRequest, Session
from crid.streaming.spdy_frames import Data, Frame, FrameReader, FrameWriter, Kind
from sampan.errors import NotFoundError, StartError, UnavailableError
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.streams import Frame as Output
from sampan.resource.streams import Stream


class MemoryPipe:
    """One end of a connection without a kernel; ``pair`` makes both."""

    def __init__(self) -> None:
        self.incoming = asyncio.StreamReader(limit=64 << 20)
        self.peer = self

    @classmethod
    def pair(cls) -> tuple["MemoryPipe", "MemoryPipe"]:
        one, other = cls(), cls()
        one.peer, other.peer = other, one
        return one, other

    async def read_exactly(self, size: int) -> bytes:
        try:
            return await self.incoming.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise EOFError from error

    async def read(self) -> bytes:
        if not (data := await self.incoming.read(1 << 18)):
            raise EOFError
        return data

    def write(self, data: bytes) -> None:
        if not self.peer.incoming.at_eof():
            self.peer.incoming.feed_data(data)

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def leave(self) -> None:
        """End this side, as a client that goes does."""
        self.peer.incoming.feed_eof()


class SpdyClient:
    """What moby/spdystream does on the other side."""

    def __init__(self, pipe: MemoryPipe) -> None:
        self.pipe = pipe
        self._reader = FrameReader(pipe)
        self._writer = FrameWriter()
        self._next = 1
        self.received: dict[int, bytearray] = {}
        self.replied: set[int] = set()
        self.finished: set[int] = set()
        self.reset: dict[int, int] = {}
        self.pings: list[int] = []
        self.gone_away = False

    def open(self, **headers: str) -> int:
        """Open a stream; return its ID."""
        stream = self._next
        self._next += 2
        self.pipe.write(self._writer.syn_stream(stream, headers))
        self.received[stream] = bytearray()
        return stream

    def send(self, id: int, data: bytes, *, fin: bool = False) -> None:
        self.pipe.write(frames.data_head(id, len(data), fin=fin) + data)

    async def read(self) -> None:
        """Take one frame."""
        frame = await self._reader.read()
        match frame:
            case Data(id, payload, fin):
                assert id in self.replied, "data before the reply, which spdystream drops"
                self.received[id] += payload
                if fin:
                    self.finished.add(id)
            case Frame(Kind.SYN_REPLY, id):
                self.replied.add(id)
            case Frame(Kind.RST_STREAM, id):
                self.reset[id] = frame.status
            case Frame(Kind.PING, id):
                self.pings.append(id)
            case Frame(Kind.GOAWAY):
                self.gone_away = True

    async def until(self, *finished: int) -> None:
        """Read until these streams have ended."""
        async with asyncio.timeout(60):
            while not self.finished.issuperset(finished):
                await self.read()

    async def until_gone_away(self) -> None:
        async with asyncio.timeout(60):
            while not self.gone_away:
                await self.read()


class WebSocketClient:
    """What gorilla/websocket does on the other side."""

    def __init__(self, pipe: MemoryPipe) -> None:
        self.pipe = pipe

    def send(self, payload: bytes, opcode: int = 2, *, fin: bool = True) -> None:
        size, mask = len(payload), os.urandom(4)
        head = bytes((opcode | (0x80 if fin else 0),))
        if size < 126:
            head += bytes((0x80 | size,))
        else:
            head += (
                bytes((0x80 | 126,)) + size.to_bytes(2, "big")
                if size < 1 << 16
                else (bytes((0x80 | 127,)) + size.to_bytes(8, "big"))
            )
        self.pipe.write(head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload)))

    async def read(self) -> tuple[int, bytes]:
        """Return a frame's opcode and payload."""
        async with asyncio.timeout(60):
            first, size = await self.pipe.read_exactly(2)
            if size > 125:
                size = int.from_bytes(await self.pipe.read_exactly(2 if size == 126 else 8), "big")
            return first & 15, await self.pipe.read_exactly(size) if size else b""

    async def channels(self) -> tuple[Mapping[int, bytes], int]:
        """Return what came on each channel until the close, and its code."""
        received: dict[int, bytes] = {}
        while True:
            opcode, payload = await self.read()
            if opcode == 8:
                return received, int.from_bytes(payload, "big")
            received[payload[0]] = received.get(payload[0], b"") + payload[1:]


class FakeProcesses:
    """Commands: ``echo CODE`` answers each input, ``fail`` cannot be started, ``flood N`` writes N blocks, ``hang``."""

    def __init__(self) -> None:
        self.sizes: list[ConsoleSize] = []
        self.left = asyncio.Event()  # a session was left before its end
        self.attached: list[AttachRequest] = []

    async def exec(self, request: ExecRequest) -> Session:
        if request.container != "c":
            raise NotFoundError(f"container {request.container} is not there")
        return _FakeSession(self, request.command)

    async def attach(self, request: AttachRequest) -> Session:
        self.attached.append(request)
        return _FakeSession(self, ("echo", "0"))


class _FakeSession:
    def __init__(self, owner: FakeProcesses, command: Sequence[str]) -> None:
        self._owner = owner
        self._command = command

    async def run(self, stdin: AsyncIterator[bytes]) -> AsyncGenerator[Sequence[Output] | Ended, None]:
        try:
            name, *arguments = self._command
            if name == "fail":
                raise StartError("no such file or directory")
            if name == "flood":
                for _ in range(int(arguments[0])):
                    yield [Output(Stream.STDOUT, b"x" * (1 << 16))]
                yield Ended(0)
                return
            if name == "hang":
                await asyncio.Event().wait()
            yield [Output(Stream.STDOUT, b"out"), Output(Stream.STDERR, b"err"), Output(Stream.STDOUT, b"put")]
            async for data in stdin:
                yield [Output(Stream.STDOUT, b"<" + data + b">")]
            yield Ended(int(arguments[0]))
        except (GeneratorExit, asyncio.CancelledError):
            self._owner.left.set()
            raise

    async def resize(self, size: ConsoleSize) -> None:
        self._owner.sizes.append(size)


class FakePorts:
    """Port 80 answers each input in capitals and ends with its client; at 81 a server says something and leaves."""

    def __init__(self) -> None:
        self.connected: list[tuple[str, int]] = []
        self.closed = asyncio.Event()  # a client of port 80 has left
        self._tasks: list[asyncio.Task[None]] = []

    async def connect(self, sandbox: str, port: int) -> socket.socket:
        if port not in (80, 81):
            raise UnavailableError(f"nothing accepts connections at port {port}")
        self.connected.append((sandbox, port))
        mine, theirs = socket.socketpair()
        for end in (mine, theirs):
            end.setblocking(False)
        self._tasks.append(asyncio.create_task(self._serve(mine, port)))
        return theirs

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, sock: socket.socket, port: int) -> None:
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            if port == 81:
                writer.write(b"bye")
                return
            while data := await reader.read(1 << 16):
                writer.write(data.upper())
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
            self.closed.set()
