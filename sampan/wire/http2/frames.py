"""Frames of HTTP/2: taken apart many at a time, and made.

The parser knows no streams and no state but the rest of a frame that has not come whole; it is one loop, because a
build's context is a frame per file.

Reference: RFC 9113, sections 4, 6 and 7.
"""

import enum
import struct
from collections.abc import Iterator, Mapping
from typing import Final

from sampan.errors import RemoteError

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DEFAULT_WINDOW_BYTES: Final = 65_535
DEFAULT_FRAME_BYTES: Final = 16_384
MAX_WINDOW_BYTES: Final = (1 << 31) - 1

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY_FLAG: Final = 0x20

_HEADER: Final = struct.Struct(">HBBBL")  # two parts of the length, type, flags, stream
_HEADER_BYTES: Final = 9
_STREAM_MASK: Final = 0x7FFF_FFFF
_WORD: Final = struct.Struct(">L")
_TWO_WORDS: Final = struct.Struct(">LL")
_SETTING: Final = struct.Struct(">HL")
_PRIORITY_BYTES: Final = 5


class Kind(enum.IntEnum):
    """Types of frames."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Setting(enum.IntEnum):
    """Identifiers of settings."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ErrorCode(enum.IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ProtocolError(RemoteError):
    """The other side does not speak HTTP/2; ``code`` is what it is told."""

    def __init__(self, code: ErrorCode, problem: str) -> None:
        super().__init__(f"the other side breaks the rules of HTTP/2: {problem}")
        self.code = code


# Type, flags, stream, payload. A tuple: there is one per file of a context.
Frame = tuple[int, int, int, bytes]


class FrameParser:
    """Takes bytes as they come and returns the frames that are whole."""

    def __init__(self, max_frame_bytes: int) -> None:
        """``max_frame_bytes`` is what the other side was told in the settings."""
        self._max_frame_bytes = max_frame_bytes
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that ``data`` completes; padding is taken off where there is data in a frame.

        Raises:
            ProtocolError: a frame is larger than allowed, or its padding is larger than the frame.
        """
        if self._rest:
            data = self._rest + data
        frames: list[Frame] = []
        append = frames.append
        unpack = _HEADER.unpack_from
        position, end = 0, len(data)
        last_header = end - _HEADER_BYTES
        while position <= last_header:
            high, low, kind, flags, stream = unpack(data, position)
            start = position + _HEADER_BYTES
            length = high << 8 | low
            if length > self._max_frame_bytes:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            stop = start + length
            if stop > end:
                break
            payload = data[start:stop]
            if flags & PADDED and kind <= Kind.HEADERS:
                payload = _unpadded(payload)
            append((kind, flags, stream & _STREAM_MASK, payload))
            position = stop
        self._rest = data[position:]
        return frames


def _unpadded(payload: bytes) -> bytes:
    padding = payload[0] if payload else 0
    if padding >= len(payload):
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "padding larger than its frame")
    return payload[1 : len(payload) - padding]


def header_block(flags: int, payload: bytes) -> bytes:
    """Return what is in a HEADERS frame, without the priority that may precede it."""
    if not flags & PRIORITY_FLAG:
        return payload
    if len(payload) < _PRIORITY_BYTES:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "a HEADERS frame shorter than its priority")
    return payload[_PRIORITY_BYTES:]


def word(payload: bytes, what: str) -> int:
    """Return the number that a frame consists of. Raises ProtocolError if it is not four bytes."""
    if len(payload) != _WORD.size:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"{what} of {len(payload)} bytes")
    return int(_WORD.unpack(payload)[0])


def goaway(payload: bytes) -> tuple[int, int, str]:
    """Return the last stream that will be answered, the error code and what else is said."""
    if len(payload) < _TWO_WORDS.size:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"GOAWAY of {len(payload)} bytes")
    last, code = _TWO_WORDS.unpack_from(payload)
    return last & _STREAM_MASK, code, payload[_TWO_WORDS.size :].decode(errors="replace")


def settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """Yield what a SETTINGS frame says, by identifier."""
    if len(payload) % _SETTING.size:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes")
    yield from _SETTING.iter_unpack(payload)


def frame(kind: Kind, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame's bytes."""
    return frame_header(kind, flags, stream, len(payload)) + payload


def frame_header(kind: Kind, flags: int, stream: int, length: int) -> bytes:
    """Return what precedes a payload of ``length`` bytes."""
    return _HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream)


def settings_frame(values: Mapping[Setting, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(Kind.SETTINGS, 0, 0, b"".join(_SETTING.pack(*each) for each in values.items()))


def window_update(stream: int, increment: int) -> bytes:
    """Return a frame that lets the other side send ``increment`` bytes more."""
    return frame(Kind.WINDOW_UPDATE, 0, stream, _WORD.pack(increment))


def rst_stream(stream: int, code: ErrorCode) -> bytes:
    """Return a frame that ends one stream."""
    return frame(Kind.RST_STREAM, 0, stream, _WORD.pack(code))


def goaway_frame(code: ErrorCode, problem: str = "") -> bytes:
    """Return a frame that ends the connection, of whose streams the other side has opened none."""
    return frame(Kind.GOAWAY, 0, 0, _TWO_WORDS.pack(0, code) + problem.encode())


def header_frames(stream: int, block: bytes, max_frame_bytes: int, flags: int = 0) -> bytes:
    """Return an encoded block of headers as frames that the other side takes; ``flags`` are the first one's."""
    pieces = [block[at : at + max_frame_bytes] for at in range(0, len(block), max_frame_bytes)] or [b""]
    last = len(pieces) - 1
    found = []
    for number, piece in enumerate(pieces):
        kind = Kind.CONTINUATION if number else Kind.HEADERS
        own = (END_HEADERS if number == last else 0) | (0 if number else flags)
        found.append(frame(kind, own, stream, piece))
    return b"".join(found)
