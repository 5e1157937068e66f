"""Connections that BuildKit's clients take over: HTTP/2 to the builder, and sessions on which it calls them back.

Reference: moby/buildkit, ``session`` (the headers X-Docker-Expose-Session-*); Docker Engine API, "Session".
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Final

from aiohttp import web

from dockerapi.http.call import Call
from dockerapi.http.connection import Connection
from dockerapi.http.hijack import Finished, RawStream
from dockerapi.http.routing import Route
from sampan.errors import InvalidArgumentError

_BUILDER: Final = "buildd"
_PROTOCOL: Final = "h2c"
_SWITCHED: Final = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
_PIECE_BYTES: Final = 256 << 10
_SESSION_HEADERS: Final = "x-docker-expose-session-"


async def grpc(call: Call) -> web.StreamResponse:
    """POST /grpc: what follows is HTTP/2 with the builder, of which each call is looked at where somebody watches."""
    check_upgrade(call)
    if call.backend.gate.watches:
        return await by_the_gate(call, _BUILDER)
    reader, writer = await call.backend.builder.connect()
    try:
        raw = await _take_over(call)
        with call.backend.metrics.hijacked():
            await _either(_to_builder(raw, writer), _to_client(reader, raw), raw.gone())
        await raw.finish()
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return Finished(101)


async def by_the_gate(call: Call, service: str) -> web.StreamResponse:
    """Take the connection over, and have the gate answer what comes."""
    connection = Connection.of(call.request)
    who = connection.peer
    raw = await _take_over(call)
    with call.backend.metrics.hijacked():
        await call.backend.gate.carry(service, _Bytes(raw), who, connection.entrance)
    return Finished(101)


async def session(call: Call) -> web.StreamResponse:
    """POST /session: what follows is HTTP/2 with the builder, which is the client from here on.

    The builder is lent the client's socket: the walk of a large context is a message for each of its files.
    """
    check_upgrade(call)
    headers = _session_headers(call)
    raw = await _take_over(call)
    builder = call.backend.builder
    with call.backend.metrics.hijacked(), raw.lent() as loan:
        if loan is not None:
            await _either(builder.lend_session(headers, loan.fd, loan.begun), raw.gone())
        else:
            async with aclosing(builder.session(headers, raw.chunks())) as pieces:
                await _either(_copy(pieces, raw.write), raw.gone())
    await raw.finish()
    return Finished(101)


def check_upgrade(call: Call) -> None:
    """Raise InvalidArgumentError for a request that does not ask for HTTP/2."""
    wanted = call.request.headers.get("Upgrade", "")
    if not wanted:
        raise InvalidArgumentError("no upgrade proto in request")
    if wanted.lower() != _PROTOCOL:
        raise InvalidArgumentError(f"protocol {wanted} not supported")


def _session_headers(call: Call) -> Sequence[tuple[str, str]]:
    headers = [
        (name.lower(), value)
        for name, value in call.request.headers.items()
        if name.lower().startswith(_SESSION_HEADERS)
    ]
    if not dict(headers).get(f"{_SESSION_HEADERS}uuid"):
        raise InvalidArgumentError("a session needs an ID: X-Docker-Expose-Session-Uuid is not there")
    return headers


async def _take_over(call: Call) -> RawStream:
    connection = Connection.of(call.request)
    raw = RawStream(connection, call.backend)
    if not connection.speaks_http2:
        await raw.write(_SWITCHED)
    return raw


class _Bytes:
    """A hijacked connection as a ``ByteStream``."""

    def __init__(self, raw: RawStream) -> None:
        self._raw = raw
        self._chunks: AsyncIterator[bytes] = raw.chunks()

    async def read(self) -> bytes:
        return await anext(self._chunks, b"")

    async def write(self, data: bytes) -> None:
        await self._raw.write(data)

    async def close(self) -> None:
        await self._raw.finish()


async def _to_builder(raw: RawStream, writer: asyncio.StreamWriter) -> None:
    async for data in raw.chunks():
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    await asyncio.Event().wait()  # the builder still has something to say; whoever waits for it ends this


async def _to_client(reader: asyncio.StreamReader, raw: RawStream) -> None:
    while data := await reader.read(_PIECE_BYTES):
        await raw.write(data)


async def _copy(pieces: AsyncGenerator[bytes, None], write: Callable[[bytes], Awaitable[None]]) -> None:
    async for piece in pieces:
        await write(piece)


async def _either(*work: Awaitable[None]) -> None:
    """Return when the first has ended; end the others. A connection that breaks is an end like any other."""
    tasks = {asyncio.ensure_future(each) for each in work}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            with suppress(OSError):
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


ROUTES: Final = (
    Route("POST", "/grpc", grpc, follows=True, alone=True),
    Route("POST", "/session", session, follows=True, alone=True),
)
