"""WebSocket as its server sees it: the handshake, messages, and Kubernetes' channels in them.

Reference: RFC 6455; for channels k8s.io/streaming's ``wsstream``: each message begins with the number of its channel,
in base64 protocols with the digit, and since v5 a message 255 ends the channel that its second byte names.
"""

import base64
import binascii
import hashlib
import struct
from collections.abc import Sequence
from typing import Final

from crid.streaming.inlet import Inlet
from crid.streaming.pipe import Pipe, quietly_drain
from crid.streaming.upgrade import Head, negotiate
from sampan.errors import InvalidArgumentError

PROTOCOL_FIELD: Final = "Sec-WebSocket-Protocol"

# The largest message that is taken. Clients send at most 64 KiB at a time.
MAX_MESSAGE_BYTES: Final = 4 << 20

# Of a message that is sent, so that other channels get their turn.
_PIECE_BYTES: Final = 256 << 10

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_CONTROL: Final = 8  # this bit is set in the opcodes of control frames
_FIN: Final = 0x80
_MASKED: Final = 0x80
_MAX_CONTROL_BYTES: Final = 125

NORMAL: Final = 1000
_PROTOCOL_ERROR: Final = 1002
_TOO_BIG: Final = 1009

CLOSE_CHANNEL: Final = 255


def handshake(head: Head, accepted: Sequence[str]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return the sub-protocol, "" if the client names none, and the fields of the answer.

    Raises:
        InvalidArgumentError: it is no handshake of RFC 6455.
        NoCommonProtocolError: the client names only ones that are not known here.
    """
    keys = head.values("Sec-WebSocket-Key")
    if head.method != "GET" or len(keys) != 1 or head.values("Sec-WebSocket-Version") != ("13",):
        raise InvalidArgumentError("unable to upgrade: not a WebSocket handshake of version 13")
    offered = head.values(PROTOCOL_FIELD)
    protocol = negotiate(offered, accepted) if offered else ""
    digest = hashlib.sha1(keys[0].encode("latin-1") + _GUID).digest()  # noqa: S324 - as the RFC has it
    fields = (("Sec-WebSocket-Accept", base64.b64encode(digest).decode()),)
    return protocol, (*fields, (PROTOCOL_FIELD, protocol)) if protocol else fields


def _frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return struct.pack(">BB", _FIN | opcode, size) + payload
    if size < 1 << 16:
        return struct.pack(">BBH", _FIN | opcode, 126, size) + payload
    return struct.pack(">BBQ", _FIN | opcode, 127, size) + payload


def unmask(data: bytes, mask: bytes) -> bytes:
    """Return what the client has masked, or mask it."""
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


class WebSocket:
    """Messages of a client, and to it."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._closed = False

    async def read(self) -> bytes:
        """Return the next message, of either kind. Answers pings.

        Raises:
            EOFError: the client has left, or said so.
            InvalidArgumentError: what comes is not WebSocket, or too large; the client has been told.
        """
        parts: list[bytes] = []
        size = 0
        while True:
            first, opcode, payload = await self._read_frame(MAX_MESSAGE_BYTES - size)
            if opcode & _CONTROL:
                await self._control(opcode, payload)
                continue
            if (opcode == _CONTINUATION) != bool(parts):
                raise await self._violated(_PROTOCOL_ERROR, "a WebSocket message within another")
            parts.append(payload)
            size += len(payload)
            if first & _FIN:
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def write(self, message: bytes, *, text: bool = False) -> None:
        """Send a message; wait while the client is far behind."""
        await self._send(_TEXT if text else _BINARY, message)

    async def close(self, code: int = NORMAL) -> None:
        """Say that all is over. Safe to repeat."""
        if not self._closed:
            await self._send(_CLOSE, struct.pack(">H", code))
            self._closed = True

    async def _send(self, opcode: int, payload: bytes) -> None:
        if not self._closed:
            self._pipe.write(_frame(opcode, payload))
            await quietly_drain(self._pipe)

    async def _read_frame(self, limit: int) -> tuple[int, int, bytes]:
        first, second = await self._pipe.read_exactly(2)
        opcode, size = first & 0x0F, second & 0x7F
        if size > 125:
            size = int.from_bytes(await self._pipe.read_exactly(2 if size == 126 else 8), "big")
        if opcode & _CONTROL and (size > _MAX_CONTROL_BYTES or not first & _FIN):
            raise await self._violated(_PROTOCOL_ERROR, "a WebSocket control frame that is too long")
        if not second & _MASKED or first & 0x70 or opcode not in _OPCODES:
            raise await self._violated(_PROTOCOL_ERROR, "not a WebSocket frame of a client")
        if size > limit:
            raise await self._violated(_TOO_BIG, f"a WebSocket message of more than {MAX_MESSAGE_BYTES} bytes")
        mask = await self._pipe.read_exactly(4)
        return first, opcode, unmask(await self._pipe.read_exactly(size), mask) if size else b""

    async def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            await self._send(_PONG, payload)
        elif opcode == _CLOSE:
            await self._send(_CLOSE, payload[:2])
            self._closed = True
            raise EOFError

    async def _violated(self, code: int, message: str) -> InvalidArgumentError:
        await self.close(code)
        return InvalidArgumentError(message)


_OPCODES: Final = frozenset((_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG))


class Channel:
    """One of the channels of a WebSocket: a ``Duplex``."""

    def __init__(self, channels: "Channels", number: int) -> None:
        self.inlet = Inlet()
        self._channels = channels
        self._number = number

    async def write(self, data: bytes) -> None:
        """Send ``data``; if it is empty, an empty message, which tells the client that the channel is there."""
        for start in range(0, max(len(data), 1), _PIECE_BYTES):
            await self._channels.send(self._number, data[start : start + _PIECE_BYTES])

    async def finish(self) -> None:
        """End both directions: a server cannot end one alone."""
        self.inlet.end(broken=True)


class Channels:
    """The channels of a WebSocket."""

    def __init__(self, socket: WebSocket, count: int, *, is_base64: bool, closes: bool) -> None:
        """``closes``: the client may end one channel (v5)."""
        self._socket = socket
        self._base64 = is_base64
        self._closes = closes
        self.all = tuple(Channel(self, number) for number in range(count))

    async def run(self) -> None:
        """Read until the client leaves; then every channel's input has ended.

        Raises:
            InvalidArgumentError: it does not keep to the protocol; it has been told.
        """
        try:
            while True:
                message = await self._socket.read()
                if message:
                    await self._take(message)
        except EOFError:
            return
        except InvalidArgumentError:
            await self._socket.close(_PROTOCOL_ERROR)
            raise
        finally:
            for channel in self.all:
                channel.inlet.end(broken=True)

    async def send(self, number: int, data: bytes) -> None:
        """Send ``data`` on a channel."""
        if self._base64:
            await self._socket.write(b"%d" % number + base64.b64encode(data), text=True)
        else:
            await self._socket.write(bytes((number,)) + data)

    async def _take(self, message: bytes) -> None:
        number, data = message[0], message[1:]
        if self._closes and number == CLOSE_CHANNEL:
            if len(data) != 1 or data[0] >= len(self.all):
                raise InvalidArgumentError("the end of a channel that there is not")
            self.all[data[0]].inlet.end()
            return
        if self._base64:
            number -= ord("0")
            try:
                data = base64.b64decode(data, validate=True)
            except binascii.Error as error:
                raise InvalidArgumentError(f"a message that is not base64: {error}") from error
        if 0 <= number < len(self.all):  # others mean something to servers that there may be one day
            await self.all[number].inlet.put(data)


class Tunnel:
    """A ``Pipe`` in the messages of a WebSocket: how SPDY passes proxies that know only that."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._pipe_buffer = bytearray()
        self._outgoing = bytearray()

    async def read_exactly(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        while len(self._pipe_buffer) < size:
            self._pipe_buffer += await self._socket.read()
        data = bytes(self._pipe_buffer[:size])
        del self._pipe_buffer[:size]
        return data

    def write(self, data: bytes) -> None:
        """Send ``data`` with the next ``drain``."""
        self._outgoing += data

    async def drain(self) -> None:
        """Send what was written; wait while the client is far behind."""
        while self._outgoing:
            data = bytes(self._outgoing)
            self._outgoing.clear()
            await self._socket.write(data)
