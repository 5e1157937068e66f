"""Standard streams of containers and execs: hijacked connections and websockets, over gRPC streams."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

import grpc
from aiohttp import WSCloseCode, WSMsgType, web

from dockerapi.http import frames
from dockerapi.http.call import Call
from dockerapi.http.connection import Connection
from dockerapi.http.hijack import Finished, RawStream, head, wants_upgrade
from dockerapi.http.routing import Route
from sampan.api.runtime.v1 import containers_pb2
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError, SampanError, StartError
from sampan.log import log
from sampan.wire.channel import rpc_errors
from sampan.wire.metadata import ATTACHES_STDIN

R = TypeVar("R")

# Input of a client that has left is still delivered, as far as the container takes it within this time.
_LAST_INPUT_S: Final = 2.0

_MAX_REASON_BYTES: Final = 123  # of a websocket's close: RFC 6455, section 5.5

Opened = grpc.aio.StreamStreamCall[R, containers_pb2.StreamOutput]


# What a service says of a start that it refuses; anything else says that the service is in trouble.
_REFUSALS: Final = (ConflictError, InvalidArgumentError, NotFoundError, StartError)


class BrokenOffError(Exception):
    """Output has ended before its process has."""


class Streams:
    """One bidirectional call and the input for it, which comes once the connection is taken over."""

    def __init__(
        self,
        open_call: Callable[[AsyncIterator[R]], "Opened[R]"],
        start: R,
        to_request: Callable[[bytes], R] | None,
    ) -> None:
        """Begin the call. ``to_request`` wraps a piece of input; None: the input is not attached.

        If only the other side knows that, give ``to_request`` and wait for ``accepted``.
        """
        self.has_input = to_request is not None
        self._accepted = False
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
            first = await anext(self._messages, containers_pb2.StreamOutput(attached=True))
        self._accepted = True
        return first

    async def accepted(self) -> None:
        """Return when the other side has begun, and said whether there is input. Raises what it refuses with."""
        with rpc_errors():
            metadata = dict(await self._call.initial_metadata() or ())
        if ATTACHES_STDIN not in metadata:  # the call has ended
            await self.attached()
        self.has_input = metadata.get(ATTACHES_STDIN) == "1"

    def feed(self, source: AsyncIterator[bytes]) -> None:
        """Let the input flow."""
        if not self._source.done():
            self._source.set_result(source)

    async def output(self) -> AsyncIterator[containers_pb2.StreamOutput]:
        """Yield messages. Raises BrokenOffError if the other side goes away in the middle."""
        try:
            with rpc_errors():
                async for message in self._messages:
                    self._accepted = True
                    yield message
        except _REFUSALS as error:
            if not self._accepted:
                raise
            raise BrokenOffError(str(error)) from error
        except SampanError as error:
            log.warning("stream broke off", error=str(error))
            raise BrokenOffError(str(error)) from error

    def close(self) -> None:
        """End the call."""
        self._source.cancel()
        self._call.cancel()


async def hijack(call: Call, streams: Streams) -> web.StreamResponse:
    """Carry ``streams`` over the request's connection until the output ends or the client leaves.

    Whatever goes wrong before the other side is attached is an ordinary HTTP error.
    """
    try:
        first = await streams.attached()
        raw = await _take_over(call, tty=first.tty)
        await raw.write(frames.encode(first, tty=first.tty))
        return await _carry(call, raw, streams, tty=first.tty)
    finally:
        streams.close()


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
            await raw.write(text if tty else frames.framed(containers_pb2.Frame.STDOUT, text))
            await raw.finish()
            return Finished(_status(call))
    finally:
        streams.close()


async def _take_over(call: Call, *, tty: bool) -> RawStream:
    raw = RawStream(Connection.of(call.request), call.backend)
    content_type = frames.content_type(call.version, tty=tty)
    await raw.write(head(upgrade=wants_upgrade(call.request), content_type=content_type))
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
                await raw.write(frames.framed(frames.SYSTEM_ERROR, str(error).encode()))
        await raw.finish()
    return Finished(_status(call))


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


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
            try:
                async for message in streams.output():
                    if message.frames:
                        await send(frames.encode(message, tty=True))
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
