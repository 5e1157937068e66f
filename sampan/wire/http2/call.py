"""gRPC over one stream: messages out and in, and how the call ended.

Reference: grpc/grpc, doc/PROTOCOL-HTTP2.md.
"""

import asyncio
import struct
from base64 import b64encode
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote

from sampan.errors import RemoteError, UnavailableError
from sampan.wire.http2.connection import Connection
from sampan.wire.http2.stream import Headers, Stream
from sampan.wire.status import from_code

_PREFIX: Final = struct.Struct(">BL")  # whether compressed, length
_MAX_MESSAGE_BYTES: Final = 16 << 20
_UNKNOWN: Final = 2

# What an answer without gRPC's own status means: doc/http-grpc-status-mapping.md.
_BY_HTTP_STATUS: Final = {
    "400": 13, "401": 16, "403": 7, "404": 12, "429": 14, "502": 14, "503": 14, "504": 14,
}  # fmt: skip

Metadata = Sequence[tuple[str, str]]


async def start(connection: Connection, method: str, metadata: Metadata = ()) -> "Call":
    """Begin a call of ``method``, "/package.Service/Method"; keys of ``metadata`` are lower-case. UnavailableError."""
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "sampan"),
        *((key, b64encode(value.encode()).decode() if key.endswith("-bin") else value) for key, value in metadata),
    ]
    return Call(await connection.open(headers))


async def unary(
    connection: Connection, method: str, request: bytes, metadata: Metadata = (), timeout_s: float | None = None
) -> bytes:
    """Send one message and return the one that answers.

    Raises:
        SampanError: of the kind that the other side's status means; UnavailableError if there is none in time.
    """
    try:
        async with asyncio.timeout(timeout_s), await start(connection, method, metadata) as call:
            await call.send(request, end=True)
            answers = [message async for messages in call for message in messages]
    except TimeoutError:
        raise UnavailableError(f"{method}: no answer within {timeout_s:g} seconds") from None
    if len(answers) != 1:
        raise RemoteError(f"{method}: {len(answers)} messages instead of one")
    return answers[0]


class Call:
    """A call that goes on. As a context manager it is over at the end, which the other side is told."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._rest = b""  # of a message that has not come whole

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Be done with it; cancels what goes on. Safe to repeat."""
        self._stream.close()

    async def send(self, message: bytes, *, end: bool = False) -> None:
        """Send a message as fast as the other side takes it; ``end``: the last one.

        Raises:
            SampanError: how the call ended, if it has.
        """
        await self.send_all((message,), end=end)

    async def send_all(self, messages: Iterable[bytes], *, end: bool = False) -> None:
        """Send messages together."""
        data = b"".join(part for message in messages for part in (_PREFIX.pack(0, len(message)), message))
        if not await self._stream.send(data, end=end):
            await self._ended_early()

    async def end(self) -> None:
        """Say that no message follows."""
        await self._stream.send(b"", end=True)

    async def _ended_early(self) -> None:
        while await self.receive():
            pass  # what it said before it knew
        raise UnavailableError("the other side ended a call before it had taken everything")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[bytes]:
        messages = await self.receive()
        if not messages:
            raise StopAsyncIteration
        return messages

    async def receive(self) -> list[bytes]:
        """Return the messages that have come, one at least; none when the call has ended well.

        Raises:
            SampanError: of the kind that the other side's status means.
        """
        while chunks := await self._stream.take():
            if self._rest:
                chunks.insert(0, self._rest)
            messages = self._split(b"".join(chunks) if len(chunks) > 1 else chunks[0])
            if messages:
                return messages
        self._check_end()
        if self._rest:
            raise RemoteError("a call ended in the middle of a message")
        return []

    def _split(self, data: bytes) -> list[bytes]:
        messages: list[bytes] = []
        position, end = 0, len(data)
        unpack = _PREFIX.unpack_from
        while end - position >= 5:
            compressed, length = unpack(data, position)
            if compressed or length > _MAX_MESSAGE_BYTES:
                raise RemoteError(f"a message that is compressed, or of {length} bytes")
            stop = position + 5 + length
            if stop > end:
                break
            messages.append(data[position + 5 : stop])
            position = stop
        self._rest = data[position:]
        return messages

    def _check_end(self) -> None:
        """Raise how the call ended, unless it ended well."""
        first: Headers = self._stream.headers or self._stream.trailers or ()
        trailers = dict(self._stream.trailers or first)
        said = trailers.get("grpc-status", "")
        if said == "0":
            return
        status = dict(first).get(":status", "200")
        code = int(said) if said.isdecimal() else _BY_HTTP_STATUS.get(status, _UNKNOWN)
        message = unquote(trailers.get("grpc-message", "")) or ("" if said else f"HTTP status {status}, and no gRPC's")
        raise from_code(code, message)


class ServedCall(Call):
    """The other side's call: its messages in, ours out. How it ended is not a status, but the end of its messages."""

    def _check_end(self) -> None:
        return
