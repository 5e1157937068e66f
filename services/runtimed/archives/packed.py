"""Archives as clients send them: plain, or packed by gzip, bzip2, xz or zstd, which their first bytes tell.

Docker's engine takes the same, whatever the request's headers say.
"""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Final, Protocol, cast

from sampan.errors import InvalidArgumentError
from sampan.tar.compression import MAGIC_BYTES, XZ_MEMORY_BYTES, ZSTD_WINDOW_BYTES, Compression, compression

if TYPE_CHECKING:
    import zstandard

_INPUT_BYTES: Final = 128 << 10
# zstd cannot be told to stop in the middle. A block of at least 4 bytes holds at most 128 KiB: 16 MiB of a slice.
_ZSTD_SLICE_BYTES: Final = 512


class Readable(Protocol):
    """Plain bytes."""

    def read(self, size: int, /) -> bytes | memoryview:
        """Return up to ``size`` bytes, none at the end alone; they are good until the next call."""


def plain_bytes(source: Readable) -> Readable:
    """Return a reader of the plain bytes of ``source``.

    Reading it raises InvalidArgumentError where the data is damaged: at the end, too, where a checksum may be.
    """
    head = b""
    while len(head) < MAGIC_BYTES and (piece := source.read(MAGIC_BYTES - len(head))):
        head += piece
    whole = _Joined(head, source)
    match kind := compression(head):
        case Compression.GZIP:
            members = gzip.GzipFile(fileobj=cast("IO[bytes]", whole), mode="rb")
            return _Checked(members, kind, (OSError, EOFError, zlib.error))
        case Compression.BZIP2:
            return _Checked(_Members(whole, bz2.BZ2Decompressor), kind, (OSError, EOFError))
        case Compression.XZ:
            xz = _Members(whole, lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY_BYTES))
            return _Checked(xz, kind, (lzma.LZMAError, EOFError))
        case Compression.ZSTD:
            import zstandard

            frames = _Frames(whole, zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES))
            return _Checked(frames, kind, (zstandard.ZstdError, EOFError))
        case None:
            return _Plain(head, source)


class _Plain:
    """What was read already, and then the rest."""

    def __init__(self, head: bytes, rest: Readable) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int, /) -> bytes | memoryview:
        if not self._head:
            return self._rest.read(size)
        piece, self._head = self._head[:size], self._head[size:]
        return piece


class _Joined(_Plain):
    """The same as bytes, which decompressors keep."""

    def read(self, size: int, /) -> bytes:
        return bytes(super().read(size))


class _Decompressor(Protocol):
    """One stream: ``bz2.BZ2Decompressor``, ``lzma.LZMADecompressor``."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


class _Members:
    """Compressed streams, one after the other, of ``bz2`` and ``lzma``, whose file objects know no bound."""

    def __init__(self, source: _Joined, start: Callable[[], "_Decompressor"]) -> None:
        self._source = source
        self._start = start
        self._inner = start()

    def read(self, size: int, /) -> bytes:
        while True:
            if self._inner.eof:
                rest = self._inner.unused_data.lstrip(b"\0") or self._source.read(_INPUT_BYTES).lstrip(b"\0")
                if not rest:
                    return b""
                self._inner = self._start()
                data = rest
            else:
                data = self._source.read(_INPUT_BYTES) if self._inner.needs_input else b""
                if not data and self._inner.needs_input:
                    raise EOFError("it ends too early")
            if piece := self._inner.decompress(data, size):
                return bytes(piece)


class _Frames:
    """Frames of zstd, one after the other. The library's own reader takes half a frame for a whole one."""

    def __init__(self, source: _Joined, decompressor: "zstandard.ZstdDecompressor") -> None:
        self._source = source
        self._decompressor = decompressor
        self._frame = decompressor.decompressobj()
        self._plain = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        while not self._plain:
            rest = b""
            if self._frame.eof:
                rest = self._frame.unused_data or self._source.read(_ZSTD_SLICE_BYTES)
                if not rest:
                    return b""
                self._frame = self._decompressor.decompressobj()
            elif not (rest := self._source.read(_ZSTD_SLICE_BYTES)):
                raise EOFError("it ends too early")
            self._plain = memoryview(self._frame.decompress(rest))
        piece, self._plain = bytes(self._plain[:size]), self._plain[size:]
        return piece


class _Checked:
    """Reads from a decompressor, whose complaints become InvalidArgumentError."""

    def __init__(self, inner: Readable, kind: Compression, errors: tuple[type[Exception], ...]) -> None:
        self._inner = inner
        self._kind = kind
        self._errors = errors

    def read(self, size: int, /) -> bytes:
        try:
            return bytes(self._inner.read(size))
        except self._errors as error:
            raise InvalidArgumentError(f"the archive's {self._kind.value} data is damaged: {error}") from error
