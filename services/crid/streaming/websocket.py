"""WebSocket as its server sees it: the handshake, messages, and Kubernetes' channels in them. Frames are wsproto's.

Reference: RFC 6455; for channels k8s.io/streaming's ``wsstream``: each message begins with the number of its channel,
in base64 protocols with the digit, and since v5 a message 255 ends the channel that its second byte names.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Final

from wsproto.frame_protocol import CloseReason, Frame, FrameDecoder, FrameProtocol, Opcode, ParseFailed
from wsproto.utilities import generate_accept_token

from crid.streaming.inlet import Inlet
from crid.streaming.pipe import Source, quietly_drain
from crid.streaming.upgrade import Head, negotiate
from sampan.errors import InvalidArgumentError

PROTOCOL_FIELD: Final = "Sec-WebSocket-Protocol"

# The largest message that is taken. Clients send at most 64 KiB at a time.
MAX_MESSAGE_BYTES: Final = 4 << 20

# Of a message that is sent, so that other channels get their turn.
_PIECE_BYTES: Final = 256 << 10

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
    fields = (("Sec-WebSocket-Accept", generate_accept_token(keys[0].encode("latin-1")).decode()),)
    return protocol, (*fields, (PROTOCOL_FIELD, protocol)) if protocol else fields


class WebSocket:
    """Messages of a client, and to it."""

    def __init__(self, pipe: Source) -> None:
        self._pipe = pipe
        self._decoder = FrameDecoder(client=False)
        self._encoder = FrameProtocol(client=False, extensions=[])
        self._closed = False

    async def read(self) -> bytes:
        """Return the next message, of either kind. Answers pings.

        Raises:
            EOFError: the client has left, or said so.
            InvalidArgumentError: what comes is not WebSocket, or too large; the client has been told.
        """
        parts: list[bytes] = []
        size, is_within, is_new = 0, False, True
        while True:
            frame = await self._read_frame(MAX_MESSAGE_BYTES - size)
            if frame.opcode.iscontrol():
                await self._control(frame)
                continue
            # wsproto hands a frame on in pieces, as they come.
            if not is_within and (frame.opcode is Opcode.CONTINUATION) == is_new:
                raise await self._violated(CloseReason.PROTOCOL_ERROR, "a WebSocket message within another")
            is_new, is_within = False, not frame.frame_finished
            parts.append(_payload(frame))
            size += len(parts[-1])
            if frame.frame_finished and frame.message_finished:
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def write(self, message: bytes, *, text: bool = False) -> None:
        """Send a message; wait while the client is far behind."""
        await self._send(self._encoder.send_data(message.decode() if text else message, fin=True))

    async def close(self, code: CloseReason = CloseReason.NORMAL_CLOSURE) -> None:
        """Say that all is over. Safe to repeat."""
        await self._send(self._encoder.close(code))
        self._closed = True

    async def _send(self, data: bytes | bytearray) -> None:
        if not self._closed:
            self._pipe.write(bytes(data))
            await quietly_drain(self._pipe)

    async def _read_frame(self, limit: int) -> Frame:
        """Return a control frame, or a piece of another. ``limit``: what the whole of that may have."""
        while True:
            try:
                frame = self._decoder.process_buffer()
            except ParseFailed as error:
                raise await self._violated(error.code, f"not a WebSocket frame of a client: {error}") from error
            header = self._decoder.header
            too_long = header is not None and header.payload_len - self._decoder.payload_consumed > limit
            if too_long or (frame is not None and len(_payload(frame)) > limit):
                message = f"a WebSocket message of more than {MAX_MESSAGE_BYTES} bytes"
                raise await self._violated(CloseReason.MESSAGE_TOO_BIG, message)
            if frame is not None:
                return frame
            self._decoder.receive_bytes(await self._pipe.read())

    async def _control(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PING:
            await self._send(self._encoder.pong(_payload(frame)))
        elif frame.opcode is Opcode.CLOSE:
            code = int.from_bytes(_payload(frame)[:2], "big") if len(_payload(frame)) > 1 else None
            await self._send(self._encoder.close(code))
            self._closed = True
            raise EOFError

    async def _violated(self, code: CloseReason, message: str) -> InvalidArgumentError:
        await self.close(code)
        return InvalidArgumentError(message)


def _payload(frame: Frame) -> bytes:
    assert isinstance(frame.payload, bytes)  # text is not decoded here
    return frame.payload


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
            await self._socket.close(CloseReason.PROTOCOL_ERROR)
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
