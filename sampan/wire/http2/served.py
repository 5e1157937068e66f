"""The server's side: a socket that is listened at, and a connection on which the other side asks.

Reference: RFC 9113, sections 3.4 and 5.1.
"""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from sampan.wire.entrance import Entrance
from sampan.wire.http2 import frames
from sampan.wire.http2.connection import Connection
from sampan.wire.http2.frames import ErrorCode, ProtocolError, Setting
from sampan.wire.http2.protocol import READ_BYTES, ByteStream, SocketStream
from sampan.wire.http2.stream import Headers, Stream

_MAX_REQUESTS: Final = 1000

# What each request has once, before everything else; :authority may be there besides (RFC 9113, section 8.3.1).
_REQUIRED: Final = frozenset((":method", ":scheme", ":path"))
_PSEUDO: Final = _REQUIRED | {":authority"}

# Takes a request that has begun, at once; it is answered on the stream.
Accept = Callable[[Stream, Headers], None]

# Serves one connection to its end, and closes it.
Serve = Callable[[ByteStream], Coroutine[None, None, None]]


def answering(at: Path | Entrance, serve: Serve) -> AbstractAsyncContextManager[None]:
    """Serve whoever comes by ``at`` within, a path as ``listening`` has it. At the end connections are cancelled."""
    if isinstance(at, Entrance):
        return at.listening(lambda reader, writer: serve(SocketStream(reader, writer)))
    return listening(at, serve)


@asynccontextmanager
async def listening(path: Path, serve: Serve) -> AsyncIterator[None]:
    """Serve whoever connects to the unix socket ``path`` within. At the end connections are cancelled and awaited.

    The socket is its owner's and its group's alone, and gone at the end.
    """
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(SocketStream(reader, writer)), name=f"http2 client of {path}")
        connections.add(task)
        task.add_done_callback(connections.discard)

    previous = os.umask(0o117)
    try:
        server = await asyncio.start_unix_server(accept, path, limit=READ_BYTES)
    finally:
        os.umask(previous)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - one system call on a tmpfs
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


class ServedConnection(Connection):
    """A connection whose other side asks. ``run`` it; ``open`` is the other side's to do."""

    def __init__(self, carrier: ByteStream, accept: Accept) -> None:
        self._accept = accept
        self._preface = frames.PREFACE  # what is still to come of it
        self._last = 0
        super().__init__(carrier, "the client is gone", watched=False)

    def _greet(self) -> None:
        self._tell_settings({Setting.MAX_CONCURRENT_STREAMS: _MAX_REQUESTS})

    def _parsed(self, data: bytes) -> list[frames.Frame]:
        if self._preface:
            count = min(len(data), len(self._preface))
            if data[:count] != self._preface[:count]:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a connection that begins with something else")
            self._preface = self._preface[count:]
            data = data[count:]
        return super()._parsed(data)

    def _take_request(self, number: int, headers: Headers, *, ended: bool) -> None:
        if number % 2 == 0:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"a request on stream {number}")
        if number <= self._last:  # trailers of one that was answered and closed
            return
        self._last = number
        if not _well_formed(headers):
            self.append(frames.rst_stream(number, ErrorCode.PROTOCOL_ERROR))
            return
        if len(self._streams) >= _MAX_REQUESTS:
            self.append(frames.rst_stream(number, ErrorCode.REFUSED_STREAM))
            return
        stream = Stream(self, number, self._peer_window, serves=True)
        self._streams[number] = stream
        stream.headers = headers
        if ended:
            stream.end()
        self._accept(stream, headers)


def _well_formed(headers: Headers) -> bool:
    """Whether everybody reads the same request in ``headers``.

    Of two paths, whoever judges a request that is passed on would see the one, and who answers it the other.
    """
    pseudo = [name for name, _ in itertools.takewhile(lambda header: header[0].startswith(":"), headers)]
    rest = headers[len(pseudo) :]
    once = len(set(pseudo)) == len(pseudo) and _REQUIRED <= set(pseudo) <= _PSEUDO
    return once and all(name and name[0] != ":" and name == name.lower() for name, _ in rest)
