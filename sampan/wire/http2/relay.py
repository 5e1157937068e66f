"""Pass requests on to another connection, and their answers back, as fast as both sides take it.

Reference: RFC 9113, section 8.1.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import quote

import grpc

from sampan.errors import SampanError
from sampan.wire.entrance import Entrance
from sampan.wire.http2.connection import Connection
from sampan.wire.http2.frames import ErrorCode
from sampan.wire.http2.protocol import ByteStream, SocketStream
from sampan.wire.http2.served import ServedConnection, answering
from sampan.wire.http2.stream import Headers, Stream
from sampan.wire.status import wire_for

HEAD: Final = ((":status", "200"), ("content-type", "application/grpc"))

# Answers one request; the last argument is the connection to the server behind.
Work: TypeAlias = Callable[[Stream, Headers, Connection], Coroutine[None, None, None]]


async def serve_in_front(stream: ByteStream, behind: Path, work: Work) -> None:
    """Serve one client's connection to its end; ``work`` may pass on to the server at the socket ``behind``.

    Cancelled, everything that is being answered is.
    """
    requests: set[asyncio.Task[None]] = set()
    try:
        carrier = await SocketStream.connect(behind)
    except OSError:
        await stream.close()
        return
    far = Connection(carrier, "the server does not answer", watched=False)

    def accept(request: Stream, headers: Headers) -> None:
        task = asyncio.create_task(work(request, headers, far), name=f"answer {path_of(headers)}")
        requests.add(task)
        task.add_done_callback(requests.discard)

    near = ServedConnection(stream, accept)
    sides = [asyncio.create_task(side.run(), name="front side") for side in (near, far)]
    try:
        done, _ = await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
        for side in done:
            with suppress(SampanError):  # who does not speak HTTP/2 was told so
                side.result()
    finally:
        for task in (*sides, *requests):
            task.cancel()
        await asyncio.gather(*sides, *requests, return_exceptions=True)


def path_of(headers: Headers) -> str:
    """Return what a request asks for, "/package.Service/Method"."""
    return next((value for name, value in headers if name == ":path"), "")


def ending(error: BaseException | None) -> Headers:
    """Return gRPC's trailers of a call that ended well, or with ``error``."""
    if error is None:
        return (("grpc-status", "0"),)
    code: grpc.StatusCode = wire_for(error).code
    return (("grpc-status", str(code.value[0])), ("grpc-message", quote(str(error), safe=" !#$&'()*+,/:;=?@[]~\"")))


class FirstMessage:
    """The first message of a direction, kept while it passes by; empty as long as it has not come, or if it is long."""

    _PREFIX_BYTES: Final = 5

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._kept = bytearray()

    def passes(self, data: bytes) -> None:
        """Take note of what passes."""
        if (left := self._most + self._PREFIX_BYTES - len(self._kept)) > 0:
            self._kept += data[:left]

    @property
    def message(self) -> bytes:
        """The message itself."""
        end = self._PREFIX_BYTES + int.from_bytes(self._kept[1 : self._PREFIX_BYTES])
        whole = len(self._kept) >= max(end, self._PREFIX_BYTES) and not self._kept[0]
        return bytes(self._kept[self._PREFIX_BYTES : end]) if whole else b""


@dataclass(slots=True)
class Overheard:
    """What is kept of a call that is passed on."""

    most_bytes: int
    request: FirstMessage = field(init=False)
    answer: FirstMessage = field(init=False)
    trailers: Headers = ()  # how it ended; none: it was broken off

    def __post_init__(self) -> None:
        self.request, self.answer = FirstMessage(self.most_bytes), FirstMessage(self.most_bytes)


def refuse(near: Stream, error: SampanError) -> None:
    """Answer a request with an error."""
    near.send_headers((*HEAD, *ending(error)), end=True)
    near.close(ErrorCode.NO_ERROR)


async def relay(near: Stream, headers: Headers, far: Connection, heard: Overheard | None = None) -> None:
    """Answer the request ``near`` with what is at the end of ``far``. Returns when it is over, however it ended.

    Where one side breaks off, the other is told; cancelled, both. ``heard`` is told what passes.
    """
    heard = heard or Overheard(0)
    try:
        stream = await far.open(headers)
    except SampanError as error:
        heard.trailers = ending(error)
        refuse(near, error)
        return
    near.when_broken = stream.close
    asking = asyncio.create_task(_pass(near, stream, heard.request), name="relay request")
    head: Headers | None = None
    try:
        head = await stream.head()
        if head is not None:
            near.send_headers(head)
        while chunks := await stream.take():
            data = b"".join(chunks)
            heard.answer.passes(data)
            await near.send(data)
        heard.trailers = stream.trailers or ()
        near.send_headers(heard.trailers, end=True)
    except SampanError as error:
        heard.trailers = ending(error)
        near.send_headers((*(() if head else HEAD), *heard.trailers), end=True)
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        stream.close()
        near.close(ErrorCode.NO_ERROR)


async def _pass(near: Stream, stream: Stream, heard: FirstMessage) -> None:
    with suppress(SampanError):
        while chunks := await near.take():
            data = b"".join(chunks)
            heard.passes(data)
            if not await stream.send(data):
                return
        await stream.send(b"", end=True)


@asynccontextmanager
async def standing_before(at: Path | Entrance, behind: Path) -> AsyncIterator[None]:
    """Answer at ``at``, within, with what is at the end of ``behind``, and nothing else."""

    async def serve(stream: ByteStream) -> None:
        await serve_in_front(stream, behind, relay)

    async with answering(at, serve):
        yield
