"""Standard streams of containers and execs: hijacked connections and websockets, over gRPC streams."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

import grpc
import structlog
from aiohttp import WSMsgType, web

from dockerapi import frames
from dockerapi.call import Call
from dockerapi.connection import Connection
from dockerapi.hijack import Finished, RawStream, head, wants_upgrade
from dockerapi.routing import Route
from sampan.api.runtime.v1 import containers_pb2
from sampan.errors import InvalidArgumentError, SampanError, StartError
from sampan.wire.channel import rpc_errors

log = structlog.get_logger()

R = TypeVar("R")

# Input of a client that has left is still delivered, as far as the container takes it within this time.
_LAST_INPUT_S: Final = 2.0

Opened = grpc.aio.StreamStreamCall[R, containers_pb2.StreamOutput]


class Streams:
    """One bidirectional call and the input for it, which comes once the connection is taken over."""

    def __init__(
        self,
        open_call: Callable[[AsyncIterator[R]], "Opened[R]"],
        start: R,
        to_request: Callable[[bytes], R] | None,
    ) -> None:
        """Begin the call. ``to_request`` wraps a piece of input; None: the input is not attached."""
        self.has_input = to_request is not None
        self._source: asyncio.Future[AsyncIterator[bytes]] = asyncio.get_running_loop().create_future()

        async def requests() -> AsyncIterator[R]:
            yield start
            if to_request is not None:
                async for chunk in await self._source:
                    yield to_request(chunk)

        self._call = open_call(requests())
        self._messages = aiter(self._call)

    async def attached(self) -> containers_pb2.StreamOutput:
        """Return the first message: the other side is ready. Raises what it refuses with."""
        with rpc_errors():
            return await anext(self._messages, containers_pb2.StreamOutput(attached=True))

    def feed(self, source: AsyncIterator[bytes]) -> None:
        """Let the input flow."""
        if not self._source.done():
            self._source.set_result(source)

    async def output(self) -> AsyncIterator[containers_pb2.StreamOutput]:
        """Yield what comes after the first message. A service that dies ends it; that is logged, not raised."""
        try:
            with rpc_errors():
                async for message in self._messages:
                    yield message
        except SampanError as error:
            log.warning("stream broke off", error=str(error))

    def close(self) -> None:
        """End the call."""
        self._source.cancel()
        self._call.cancel()


async def hijack(call: Call, streams: Streams, *, tty: bool | None = None) -> web.StreamResponse:
    """Carry ``streams`` over the request's connection until the output ends or the client leaves.

    Whatever goes wrong before the other side is attached is an ordinary HTTP error. ``tty`` overrides what the other
    side says about itself.
    """
    try:
        first = await streams.attached()
        raw_tty = first.tty if tty is None else tty
        content_type = frames.content_type(call.version, tty=raw_tty)
        upgrade = wants_upgrade(call.request)
        raw = RawStream(Connection.of(call.request), call.backend)
        streams.feed(raw.chunks())
        with call.backend.metrics.hijacked():
            await raw.write(head(upgrade=upgrade, content_type=content_type) + frames.encode(first, tty=raw_tty))
            await _copy(raw, streams, tty=raw_tty)
            await raw.finish()
        return Finished(101 if upgrade else 200)
    finally:
        streams.close()


async def _copy(raw: RawStream, streams: Streams, *, tty: bool) -> None:
    """Copy output until it ends or the client has left, which is noticed even while nothing comes."""

    async def copy() -> None:
        async for message in streams.output():
            if message.frames:
                await raw.write(frames.encode(message, tty=tty))

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


async def refuse_late(call: Call, error: StartError, *, tty: bool) -> web.StreamResponse:
    """Tell of a failed exec the way dockerd does: on the stream, as output. The exit code is on record."""
    upgrade = wants_upgrade(call.request)
    raw = RawStream(Connection.of(call.request), call.backend)
    text = f"{error}\r\n".encode()
    if not tty:
        text = frames.framed(containers_pb2.Frame.STDOUT, text)
    await raw.write(head(upgrade=upgrade, content_type=frames.content_type(call.version, tty=tty)) + text)
    await raw.finish()
    return Finished(101 if upgrade else 200)


def _start(call: Call) -> containers_pb2.AttachRequest:
    start = containers_pb2.AttachRequest.Start(
        container=call.args["id"],
        stdin=call.flag("stdin"),
        stdout=call.flag("stdout"),
        stderr=call.flag("stderr"),
        stream=call.flag("stream"),
        logs=call.flag("logs"),
        detach_keys=call.text("detachKeys"),
    )
    if not (start.stream or start.logs):
        raise InvalidArgumentError("Bad parameters: you must choose at least one of stream and logs")
    return containers_pb2.AttachRequest(start=start)


def _input(chunk: bytes) -> containers_pb2.AttachRequest:
    return containers_pb2.AttachRequest(stdin=chunk)


async def attach(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/attach."""
    start = _start(call)
    return await hijack(call, Streams(call.engine.containers.Attach, start, _input if start.start.stdin else None))


async def attach_websocket(call: Call) -> web.StreamResponse:
    """GET /containers/{id}/attach/ws: output is not framed; which stream it came from is lost, as with Docker."""
    start = _start(call)
    streams = Streams(call.engine.containers.Attach, start, _input if start.start.stdin else None)
    try:
        first = await streams.attached()
        socket = web.WebSocketResponse()
        await socket.prepare(call.request)
        send = socket.send_bytes if call.version >= (1, 28) else _send_text(socket)

        async def copy() -> None:
            if first.frames:
                await send(frames.encode(first, tty=True))
            async for message in streams.output():
                if message.frames:
                    await send(frames.encode(message, tty=True))
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
        streams.close()


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
