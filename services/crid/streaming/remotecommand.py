"""Exec and attach: a client's streams, in SPDY or WebSocket, joined with a process's.

The sub-protocols differ little. v1 and v2 have no terminal sizes; v3 brought those, v4 the exit code in the status, and
v5 the end of a single channel to WebSocket, which SPDY always had.

Reference: k8s.io/client-go ``tools/remotecommand``; ``metav1.Status``.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import aclosing
from itertools import groupby
from typing import Final

from crid.streaming.inlet import ERROR, OUTPUTS, RESIZE, STDERR, STDIN, STDOUT, Duplex, Inlet
from crid.streaming.pipe import Pipe, while_connected
from crid.streaming.requests import Ended, Session, StandardStreams
from crid.streaming.spdy import SpdyConnection, SpdyStream
from crid.streaming.websocket import Channels, WebSocket
from sampan.errors import InvalidArgumentError, SampanError
from sampan.json_types import JsonObject
from sampan.log import log
from sampan.resource.container_spec import ConsoleSize

_V1, _V2, _V3, _V4, _V5 = (f"{version}channel.k8s.io" for version in ("", "v2.", "v3.", "v4.", "v5."))
SPDY_PROTOCOLS: Final = (_V5, _V4, _V3, _V2, _V1)

_BASE64_V1: Final = "base64.channel.k8s.io"
_BASE64_V4: Final = "v4.base64.channel.k8s.io"
WEBSOCKET_PROTOCOLS: Final = (_V5, _V4, _BASE64_V4, _V1, _BASE64_V1)

_WITH_SIZES: Final = (_V3, _V4, _V5)
_WITH_STATUS: Final = (_V4, _V5, _BASE64_V4)

# For a client to open the streams that it was allowed.
_OPENING_S: Final = 30.0

_MAX_SIZE_BYTES: Final = 4096  # of the text of a terminal's size

OpenSession = Callable[[], Coroutine[None, None, Session]]

# What a client does to a session, or a session for a client, until it ends.
Part = Callable[[], Coroutine[None, None, None]]


async def over_spdy(pipe: Pipe, protocol: str, wanted: StandardStreams, session: OpenSession) -> None:
    """Serve a client that speaks SPDY, until the process ends or the client leaves."""
    opening = _Opening(_names(wanted, sizes=protocol in _WITH_SIZES))
    connection = SpdyConnection(pipe, opening.accept)

    async def work() -> None:
        async with asyncio.timeout(_OPENING_S):
            await opening.complete.wait()
        await _converse(session, opening.streams, has_status=protocol in _WITH_STATUS)
        await connection.leave()

    await _serve(connection.run, work)


async def over_websocket(socket: WebSocket, protocol: str, wanted: StandardStreams, session: OpenSession) -> None:
    """Serve a client that speaks WebSocket, until the process ends or the client leaves."""
    is_base64 = protocol in (_BASE64_V1, _BASE64_V4)
    channels = Channels(socket, 5, is_base64=is_base64, closes=protocol == _V5)
    named = dict(zip((STDIN, STDOUT, STDERR, ERROR, RESIZE), channels.all, strict=True))
    streams = {name: named[name] for name in _names(wanted, sizes=True)}
    for name in named.keys() - streams.keys():
        named[name].inlet.discard()

    async def work() -> None:
        # Clients take the first message for the sign that they are connected.
        first = next(name for name in (STDOUT, STDERR, ERROR) if name in streams)
        await named[first].write(b"")
        await _converse(session, streams, has_status=protocol in _WITH_STATUS)
        for channel in channels.all:
            channel.inlet.discard()
        await socket.close()

    await _serve(channels.run, work)


async def _serve(read: Part, work: Part) -> None:
    reading = asyncio.create_task(read(), name="input of a session")
    working = asyncio.create_task(work(), name="session")
    try:
        await while_connected(reading, working)
    except TimeoutError:
        raise InvalidArgumentError(f"the client did not open its streams within {_OPENING_S:.0f} s") from None


def _names(wanted: StandardStreams, *, sizes: bool) -> tuple[str, ...]:
    """Return the streams that a client opens."""
    there = {STDIN: wanted.stdin, STDOUT: wanted.stdout, STDERR: wanted.stderr, RESIZE: wanted.tty and sizes}
    return (ERROR, *(name for name, is_there in there.items() if is_there))


class _Opening:
    """Streams of SPDY that a client opens one after another, in any order."""

    def __init__(self, expected: tuple[str, ...]) -> None:
        self._expected = expected
        self.streams: dict[str, SpdyStream] = {}
        self.complete = asyncio.Event()

    def accept(self, stream: SpdyStream) -> bool:
        """Take a stream that is expected."""
        name = stream.headers.get("streamtype", "").lower()
        if name not in self._expected or name in self.streams:
            return False
        self.streams[name] = stream
        if len(self.streams) == len(self._expected):
            self.complete.set()
        return True


async def _converse(open_session: OpenSession, streams: Mapping[str, Duplex], *, has_status: bool) -> None:
    """Pass everything on until the process has ended; tell how."""
    try:
        code = await _pass_on(await open_session(), streams)
        status = _ended(code)
    except SampanError as error:
        status = _failed(f"error executing command in container: {error}")
    except Exception as error:  # noqa: BLE001 - the last place where an error can become an answer
        log.error("session failed", exc_info=error)
        status = _failed("internal error: the log of crid has the details")
    for name in (STDOUT, STDERR):
        if name in streams:
            await streams[name].finish()
    if has_status:
        await streams[ERROR].write(json.dumps(status).encode())
    elif status["status"] == _FAILURE:
        await streams[ERROR].write(status["message"].encode())
    await streams[ERROR].finish()


async def _pass_on(session: Session, streams: Mapping[str, Duplex]) -> int:
    """Return the exit code; 0 for an attachment."""
    nothing = Inlet()
    nothing.end()
    stdin = streams[STDIN].inlet if STDIN in streams else nothing
    sizes = streams[RESIZE].inlet if RESIZE in streams else nothing
    resizing = asyncio.create_task(_resize(session, sizes), name="sizes of a terminal")
    code = 0
    try:
        async with aclosing(session.run(stdin.chunks())) as output:
            async for item in output:
                if isinstance(item, Ended):
                    code = item.exit_code
                    continue
                for source, frames in groupby(item, key=lambda frame: frame.stream):
                    if (name := OUTPUTS[source]) in streams:
                        await streams[name].write(b"".join([frame.data for frame in frames]))
    finally:
        resizing.cancel()
        await asyncio.gather(resizing, return_exceptions=True)
    return code


async def _resize(session: Session, sizes: Inlet) -> None:
    """Pass sizes on. One that cannot be set, or read, costs the process nothing but its terminal's size."""
    try:
        async for size in parse_sizes(sizes.chunks()):
            await session.resize(size)
    except SampanError as error:
        log.info("size of a terminal not set", error=str(error))


async def parse_sizes(chunks: AsyncIterator[bytes]) -> AsyncIterator[ConsoleSize]:
    """Yield what JSON documents, one after another, say. Raises InvalidArgumentError."""
    text = ""
    decoder = json.JSONDecoder()
    async for chunk in chunks:
        text = (text + chunk.decode("utf-8", "replace")).lstrip()
        while text:
            try:
                document, end = decoder.raw_decode(text)
            except ValueError:
                if len(text) > _MAX_SIZE_BYTES:
                    raise InvalidArgumentError("the size of a terminal is no JSON") from None
                break  # the rest of it is still to come
            text = text[end:].lstrip()
            yield _size(document)


def _size(document: object) -> ConsoleSize:
    if isinstance(document, dict):
        width, height = document.get("Width"), document.get("Height")
        if isinstance(width, int) and isinstance(height, int) and 0 <= width < 1 << 16 and 0 <= height < 1 << 16:
            return ConsoleSize(height=height, width=width)
    raise InvalidArgumentError("the size of a terminal has a Width and a Height below 65536")


_FAILURE: Final = "Failure"


def _ended(code: int) -> JsonObject:
    """Return the ``metav1.Status`` of a process that ran."""
    if not code:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": _FAILURE,
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def _failed(message: str) -> JsonObject:
    """Return that of one that did not."""
    return {
        "metadata": {},
        "status": _FAILURE,
        "message": f"Internal error occurred: {message}",
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    }
