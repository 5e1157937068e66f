"""Standard streams of containers and execs: hijacked connections and websockets, over gRPC streams."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from aiohttp import web
from aiohttp.http import WSCloseCode, WSMsgType

from dockerapi.http.call import Call
from dockerapi.http.connection import Connection
from dockerapi.http.hijack import (
    SYSTEM_ERROR,
    Finished,
    RawStream,
    content_type,
    encode,
    framed,
    head,
    wants_upgrade,
)
from dockerapi.http.routing import Route
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError, SampanError, StartError
from sampan.log import log
from sampan.resource.streams import Accepted, Attached, AttachOptions, Detached, Frame, Output, Stream

# Input of a client that has left is still delivered, as far as the container takes it within this time.
_LAST_INPUT_S: Final = 2.0

_MAX_REASON_BYTES: Final = 123  # of a websocket's close: RFC 6455, section 5.5

_NAMED: Final = {"stdout": Stream.STDOUT, "stderr": Stream.STDERR}

# A call whose input is given to it: of a container's attachment, or of an exec.
Opened = Callable[[AsyncIterator[bytes]], AsyncGenerator[Accepted | Output, None]]


# What a service says of a start that it refuses; anything else says that the service is in trouble.
_REFUSALS: Final = (ConflictError, InvalidArgumentError, NotFoundError, StartError)


class BrokenOffError(Exception):
    """Output has ended before its process has."""


class Streams:
    """One bidirectional call and the input for it, which comes once the connection is taken over."""

    def __init__(self, open_call: Opened, *, has_input: bool) -> None:
        """Begin the call. If only the other side knows whether there is input, say so and wait for ``accepted``."""
        self.has_input = has_input
        self._accepted = False
        self._source: asyncio.Future[AsyncIterator[bytes]] = asyncio.get_running_loop().create_future()
        self._items = open_call(self._input() if has_input else _nothing())

    async def _input(self) -> AsyncIterator[bytes]:
        async for chunk in await self._source:
            yield chunk

    async def attached(self) -> Attached:
        """Return when the other side is ready. Raises what it refuses with."""
        async for item in self._items:
            if isinstance(item, Attached):
                self._accepted = True
                return item
        return Attached()

    async def accepted(self) -> None:
        """Return when the other side has begun, and said whether there is input. Raises what it refuses with."""
        first = await anext(self._items, None)
        self.has_input = isinstance(first, Accepted) and first.attaches_stdin

    def feed(self, source: AsyncIterator[bytes]) -> None:
        """Let the input flow."""
        if not self._source.done():
            self._source.set_result(source)

    async def output(self) -> AsyncIterator[Sequence[Frame]]:
        """Yield output. Raises BrokenOffError if the other side goes away in the middle."""
        try:
            async for item in self._items:
                self._accepted = True
                if not isinstance(item, Accepted | Attached | Detached):
                    yield item
        except _REFUSALS as error:
            if not self._accepted:
                raise
            raise BrokenOffError(str(error)) from error
        except SampanError as error:
            log.warning("stream broke off", error=str(error))
            raise BrokenOffError(str(error)) from error

    async def close(self) -> None:
        """End the call."""
        self._source.cancel()
        await self._items.aclose()


async def hijack(call: Call, streams: Streams) -> web.StreamResponse:
    """Carry ``streams`` over the request's connection until the output ends or the client leaves.

    Whatever goes wrong before the other side is attached is an ordinary HTTP error.
    """
    try:
        first = await streams.attached()
        raw = await _take_over(call, tty=first.tty)
        return await _carry(call, raw, streams, tty=first.tty)
    finally:
        await streams.close()


async def hijack_first(call: Call, streams: Streams, *, tty: bool) -> web.StreamResponse:
    """Like ``hijack``, but with the answer's head sent before the other side is attached.

    That is what dockerd does for execs, and clients have come to need it: Docker's SDK for Python loses output that
    arrives together with the head. A start that is refused once it was accepted is told as output, then, and has its
    exit code on record. That a service has gone away is never told as the process's output: it may well run.
    """
    try:
        await streams.accepted()
        raw = await _take_over(call, tty=tty)
        try:
            return await _carry(call, raw, streams, tty=tty)
        except _REFUSALS as error:
            text = f"{error}\r\n".encode()
            await raw.write(text if tty else framed(Stream.STDOUT.value, text))
            await raw.finish()
            return Finished(_status(call))
    finally:
        await streams.close()


async def _take_over(call: Call, *, tty: bool) -> RawStream:
    raw = RawStream(Connection.of(call.request), call.backend)
    kind = content_type(call.version, tty=tty)
    raw.write_head(head(upgrade=wants_upgrade(call.request), content_type=kind))
    return raw


def _status(call: Call) -> int:
    return 101 if wants_upgrade(call.request) else 200


async def _carry(call: Call, raw: RawStream, streams: Streams, *, tty: bool) -> web.StreamResponse:
    streams.feed(raw.chunks() if streams.has_input else _nothing())
    with call.backend.metrics.hijacked():
        try:
            await _copy(raw, streams, tty=tty)
        except BrokenOffError as error:
            # The end of the connection says that the process has ended. Frames can say otherwise; terminals cannot.
            if not tty:
                await raw.write(framed(SYSTEM_ERROR, str(error).encode()))
        await raw.finish()
    return Finished(_status(call))


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def _copy(raw: RawStream, streams: Streams, *, tty: bool) -> None:
    """Copy output until it ends or the client has left, which is noticed even while nothing comes."""

    async def copy() -> None:
        async for output in streams.output():
            await raw.write(encode(output, tty=tty))

    copying = asyncio.create_task(copy(), name="copy output")
    leaving = asyncio.create_task(raw.gone(), name="watch client")
    try:
        await asyncio.wait({copying, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if streams.has_input and not copying.done():
            # Cancelling ends the call, and with it input that is still on its way.
            await asyncio.wait({copying}, timeout=_LAST_INPUT_S)
        if copying.done():
            copying.result()
    finally:
        for task in (copying, leaving):
            task.cancel()
        await asyncio.wait({copying, leaving})


def _attachment(call: Call, *, everything: bool = False) -> Streams:
    wanted = [(each, everything or call.flag(name)) for name, each in _NAMED.items()]
    options = AttachOptions(
        stdin=everything or call.flag("stdin"),
        streams=frozenset(stream for stream, asked in wanted if asked),
        live=call.flag("stream"),
        logs=call.flag("logs"),
        detach_keys=call.text("detachKeys"),
    )
    return Streams(lambda given: call.control.attach(call.args["id"], options, given), has_input=options.stdin)


async def attach(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/attach."""
    return await hijack(call, _attachment(call))


async def attach_websocket(call: Call) -> web.StreamResponse:
    """GET /containers/{id}/attach/ws: output is not framed; which stream it came from is lost, as with Docker."""
    streams = _attachment(call, everything=call.version < (1, 42))  # which did not look at what was asked for
    try:
        await streams.attached()
        socket = web.WebSocketResponse()
        await socket.prepare(call.request)
        send = socket.send_bytes if call.version >= (1, 28) else _send_text(socket)

        async def copy() -> None:
            try:
                async for output in streams.output():
                    await send(encode(output, tty=True))
            except BrokenOffError as error:
                await socket.close(code=WSCloseCode.INTERNAL_ERROR, message=str(error).encode()[:_MAX_REASON_BYTES])
            await socket.close()

        # Reading the socket, for input or just for its end, is this task's; the output goes on beside it.
        async with asyncio.TaskGroup() as tasks:
            copying = tasks.create_task(copy(), name="copy output")
            arrived: asyncio.Queue[bytes | None] = asyncio.Queue(64)
            streams.feed(_queued(arrived))
            async for message in socket:
                if message.type in (WSMsgType.BINARY, WSMsgType.TEXT):
                    data = message.data
                    await arrived.put(data.encode() if isinstance(data, str) else data)
            await arrived.put(None)
            copying.cancel()
        return socket
    finally:
        await streams.close()


async def _queued(queue: "asyncio.Queue[bytes | None]") -> AsyncIterator[bytes]:
    while (chunk := await queue.get()) is not None:
        yield chunk


def _send_text(socket: web.WebSocketResponse) -> Callable[[bytes], Awaitable[None]]:
    async def send(data: bytes) -> None:
        await socket.send_str(data.decode(errors="replace"))

    return send


ROUTES: Final = (
    Route("POST", "/containers/{id}/attach", attach, follows=True),
    Route("GET", "/containers/{id}/attach/ws", attach_websocket, follows=True),
)
