"""Pass requests on to another connection, and their answers back, as fast as both sides take it.

Reference: RFC 9113, section 8.1.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import quote

import grpc

from sampan.errors import SampanError
from sampan.wire.http2.connection import Connection
from sampan.wire.http2.frames import ErrorCode
from sampan.wire.http2.protocol import ByteStream, SocketStream
from sampan.wire.http2.served import ServedConnection
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


async def relay(near: Stream, headers: Headers, far: Connection) -> None:
    """Answer the request ``near`` with what is at the end of ``far``. Returns when it is over, however it ended.

    Where one side breaks off, the other is told; cancelled, both.
    """
    try:
        stream = await far.open(headers)
    except SampanError as error:
        near.send_headers((*HEAD, *ending(error)), end=True)
        near.close(ErrorCode.NO_ERROR)
        return
    near.when_broken = stream.close
    asking = asyncio.create_task(_pass(near, stream), name="relay request")
    head: Headers | None = None
    try:
        head = await stream.head()
        if head is not None:
            near.send_headers(head)
        while chunks := await stream.take():
            await near.send(b"".join(chunks))
        near.send_headers(stream.trailers or (), end=True)
    except SampanError as error:
        near.send_headers((*(() if head else HEAD), *ending(error)), end=True)
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        stream.close()
        near.close(ErrorCode.NO_ERROR)


async def _pass(near: Stream, stream: Stream) -> None:
    with suppress(SampanError):
        while chunks := await near.take():
            if not await stream.send(b"".join(chunks)):
                return
        await stream.send(b"", end=True)
