"""SPDY/3.1's frames, as far as Kubernetes' clients use them.

There is no flow control: clients never grant a window, and wait for none. SETTINGS and WINDOW_UPDATE mean nothing then,
and are read past.

Reference: SPDY Protocol, Draft 3.1, sections 2.2 and 2.6; github.com/moby/spdystream for what is used of it.
"""

import enum
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from crid.streaming.pipe import Pipe
from sampan.errors import InvalidArgumentError

MAX_CONTROL_BYTES: Final = 64 << 10  # of a control frame, and of a block of headers once it is inflated
_MAX_HEADERS: Final = 100

# Of a data frame, handed on at a time; a frame may have 16 MiB.
_PIECE_BYTES: Final = 256 << 10

_HEAD: Final = struct.Struct(">II")
_WORD: Final = struct.Struct(">I")
_TWO_WORDS: Final = struct.Struct(">II")
_CONTROL: Final = 0x8003 << 16  # the bit of a control frame, and the version
_ID_BITS: Final = 0x7FFFFFFF
_FIN: Final = 0x01

_WORDS: Final = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_TAIL: Final = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritat"
    "ive Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found5"
    "00 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct N"
    "ov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,applic"
    "ation/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf"
    "-8charset=iso-8859-1,utf-,*,enq=0."
)


def _dictionary() -> bytes:
    words = (word.replace("_", " ").encode() for word in _WORDS.split())
    return b"".join(_WORD.pack(len(word)) + word for word in words) + _TAIL.encode()


# What both sides' compressors know from the beginning (section 2.6.10.1).
DICTIONARY: Final = _dictionary()


class Kind(enum.IntEnum):
    """Types of control frames."""

    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class ResetStatus(enum.IntEnum):
    """Why a stream is taken back."""

    PROTOCOL_ERROR = 1
    REFUSED_STREAM = 3
    CANCEL = 5


@dataclass(frozen=True, slots=True)
class Frame:
    """A control frame; ``id`` is a stream's, or a ping's."""

    kind: Kind
    id: int = 0
    headers: Mapping[str, str] | None = None  # names in lower case
    fin: bool = False
    status: int = 0


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of a stream; ``fin``: its last."""

    id: int
    payload: bytes
    fin: bool


class FrameReader:
    """Reads frames; keeps the state of the client's compressor."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._rest: tuple[int, int, bool] | None = None  # of a data frame: its stream, how much is to come, its FIN

    async def read(self) -> Frame | Data | None:
        """Return the next frame, or piece of one with data; None for one that means nothing here.

        Raises:
            EOFError: the client has left.
            InvalidArgumentError: what comes is not SPDY/3; the connection cannot go on.
        """
        if self._rest is None:
            first, second = _HEAD.unpack(await self._pipe.read_exactly(_HEAD.size))
            flags, size = second >> 24, second & 0xFFFFFF
            if first >> 31:
                return await self._control(first, flags, size)
            self._rest = (first, size, bool(flags & _FIN))
        stream, size, fin = self._rest
        piece = min(size, _PIECE_BYTES)
        payload = await self._pipe.read_exactly(piece) if piece else b""
        self._rest = (stream, size - piece, fin) if size > piece else None
        return Data(stream, payload, fin and self._rest is None)

    async def _control(self, first: int, flags: int, size: int) -> Frame | None:
        if first & 0xFFFF0000 != _CONTROL:
            raise InvalidArgumentError(f"not a frame of SPDY/3: {first:#010x}")
        if size > MAX_CONTROL_BYTES:
            raise InvalidArgumentError(f"a control frame of {size} bytes: the most is {MAX_CONTROL_BYTES}")
        payload = await self._pipe.read_exactly(size) if size else b""
        try:
            kind = Kind(first & 0xFFFF)
        except ValueError:
            return None
        fin = bool(flags & _FIN)
        match kind:
            case Kind.SYN_STREAM:
                return Frame(kind, _word(payload), self._headers(payload[10:]), fin)
            case Kind.SYN_REPLY | Kind.HEADERS:
                return Frame(kind, _word(payload), self._headers(payload[4:]), fin)
            case Kind.RST_STREAM:
                return Frame(kind, _word(payload), status=_word(payload[4:]))
            case Kind.PING | Kind.GOAWAY:
                return Frame(kind, _word(payload))
            case _:
                return None

    def _headers(self, block: bytes) -> Mapping[str, str]:
        try:
            text = self._inflate.decompress(block, MAX_CONTROL_BYTES)
        except zlib.error as error:
            raise InvalidArgumentError(f"headers that cannot be inflated: {error}") from error
        if self._inflate.unconsumed_tail:
            raise InvalidArgumentError(f"headers of more than {MAX_CONTROL_BYTES} bytes")
        count, at = _word(text), 4
        if count > _MAX_HEADERS:
            raise InvalidArgumentError(f"{count} headers: the most is {_MAX_HEADERS}")
        parts = []
        for _ in range(2 * count):
            end = at + 4 + _word(text[at : at + 4])
            if end > len(text):
                raise InvalidArgumentError("a header is cut off")
            parts.append(text[at + 4 : end].decode("latin-1"))
            at = end
        return {name.lower(): value for name, value in zip(parts[::2], parts[1::2], strict=True)}


def _word(data: bytes) -> int:
    if len(data) < _WORD.size:
        raise InvalidArgumentError("a frame is cut off")
    word: int = _WORD.unpack_from(data)[0]
    return word


class FrameWriter:
    """Makes frames; keeps the state of the compressor, so they go out in the order in which they are made."""

    def __init__(self) -> None:
        # A small window: replies have no headers worth one, and with the usual one it takes a quarter of a megabyte.
        self._deflate = zlib.compressobj(level=6, wbits=11, memLevel=1, zdict=DICTIONARY)

    def syn_stream(self, id: int, headers: Mapping[str, str], *, fin: bool = False) -> bytes:
        """Return what opens a stream."""
        payload = _TWO_WORDS.pack(id, 0) + b"\0\0" + self._block(headers)
        return _control(Kind.SYN_STREAM, payload, _FIN if fin else 0)

    def syn_reply(self, id: int) -> bytes:
        """Return what accepts a stream."""
        return _control(Kind.SYN_REPLY, _WORD.pack(id) + self._block({}))

    def _block(self, headers: Mapping[str, str]) -> bytes:
        parts = [_WORD.pack(len(headers))]
        for pair in headers.items():
            for text in pair:
                encoded = text.encode("latin-1")
                parts += (_WORD.pack(len(encoded)), encoded)
        return self._deflate.compress(b"".join(parts)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def reset(id: int, status: ResetStatus) -> bytes:
    """Return what takes a stream back."""
    return _control(Kind.RST_STREAM, _TWO_WORDS.pack(id, status))


def ping(id: int) -> bytes:
    """Return a ping, or the answer to one."""
    return _control(Kind.PING, _WORD.pack(id))


def go_away(last_id: int, status: int = 0) -> bytes:
    """Return what says that no further streams are accepted, and which was the last."""
    return _control(Kind.GOAWAY, _TWO_WORDS.pack(last_id, status))


def data_head(id: int, size: int, *, fin: bool = False) -> bytes:
    """Return what precedes ``size`` bytes of a stream."""
    return _HEAD.pack(id & _ID_BITS, (_FIN if fin else 0) << 24 | size)


def _control(kind: Kind, payload: bytes, flags: int = 0) -> bytes:
    return _HEAD.pack(_CONTROL | kind, flags << 24 | len(payload)) + payload
