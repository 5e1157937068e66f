"""Compressed streams to plain bytes, in pieces of bounded size however hard they are packed.

The format is told by its first bytes. A stream may be several compressed streams one after the other, as parallel
compressors write them.
"""

from collections.abc import Callable, Iterator
from typing import Final, Protocol

from imaged.images.model import PIECE_BYTES
from sampan.errors import InvalidArgumentError
from sampan.tar.compression import XZ_MEMORY_BYTES, ZSTD_WINDOW_BYTES, Compression, compression

# zstd cannot be told to stop in the middle. A block is at least 4 bytes and at most 128 KiB of output, so a slice of
# this size is at most 16 MiB.
_ZSTD_SLICE_BYTES: Final = 512

_GZIP_WBITS: Final = 31


class Decompressor(Protocol):
    """Turns chunks into plain pieces."""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what ``chunk`` adds. Raises InvalidArgumentError for damaged data."""

    def finish(self) -> None:
        """Raise InvalidArgumentError if the stream ended too early."""


def decompressor(head: bytes) -> Decompressor:
    """Choose by the stream's first ``MAGIC_BYTES`` bytes; what is not known is taken as plain."""
    kind = compression(head)
    return _Plain() if kind is None else _FORMATS[kind](kind.value)


class _Plain:
    def feed(self, chunk: bytes) -> Iterator[bytes]:
        for start in range(0, len(chunk), PIECE_BYTES):
            yield chunk[start : start + PIECE_BYTES]

    def finish(self) -> None:
        """A plain stream ends where it ends."""


class _Inner(Protocol):
    """One compressed stream."""

    def decompress(self, data: bytes, most: int) -> bytes:
        """Return at most ``most`` bytes; what was not used is kept in ``rest``."""

    @property
    def rest(self) -> bytes:
        """Input that was not used, or follows the stream."""

    @property
    def eof(self) -> bool:
        """Whether the stream is over."""


class _Streams:
    """Several compressed streams of one format."""

    def __init__(self, name: str, start: Callable[[], _Inner], errors: tuple[type[Exception], ...]) -> None:
        self._name = name
        self._start = start
        self._errors = errors
        self._inner: _Inner | None = None

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        while True:
            if self._inner is None:
                chunk = chunk.lstrip(b"\0")  # padding, as tape drives and some tools write it
                if not chunk:
                    return
                self._inner = self._start()
            try:
                piece = self._inner.decompress(chunk, PIECE_BYTES)
            except self._errors as error:
                raise InvalidArgumentError(f"{self._name} data is damaged: {error}") from error
            if piece:
                yield piece
            chunk = self._inner.rest
            if self._inner.eof:
                self._inner = None
            elif len(piece) < PIECE_BYTES and not chunk:
                return

    def finish(self) -> None:
        if self._inner is not None:
            raise InvalidArgumentError(f"{self._name} data ends too early: unexpected EOF")


class _Zlib:
    def __init__(self) -> None:
        from isal import isal_zlib

        self._inner: _ZlibDecompressor = isal_zlib.decompressobj(wbits=_GZIP_WBITS)

    def decompress(self, data: bytes, most: int) -> bytes:
        return self._inner.decompress(data, most)

    @property
    def rest(self) -> bytes:
        return self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail

    @property
    def eof(self) -> bool:
        return self._inner.eof


class _ZlibDecompressor(Protocol):
    """``zlib``'s, whoever has written it: what it could not return is ``unconsumed_tail``."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    @property
    def unconsumed_tail(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Standard:
    """The interface that ``bz2`` and ``lzma`` share: they keep what they have not used."""

    def __init__(self, inner: "_StandardDecompressor") -> None:
        self._inner = inner

    def decompress(self, data: bytes, most: int) -> bytes:
        return self._inner.decompress(data, most)

    @property
    def rest(self) -> bytes:
        return self._inner.unused_data if self._inner.eof else b""

    @property
    def eof(self) -> bool:
        return self._inner.eof


class _StandardDecompressor(Protocol):
    @property
    def unused_data(self) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Zstd:
    def __init__(self) -> None:
        import zstandard

        self._inner = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES).decompressobj()
        self._rest = b""

    def decompress(self, data: bytes, most: int) -> bytes:
        """Return ``most`` bytes and what the last slice held beyond them."""
        pieces = bytearray()
        view = memoryview(data)
        while view and len(pieces) < most and not self._inner.eof:
            pieces += self._inner.decompress(view[:_ZSTD_SLICE_BYTES])
            view = view[_ZSTD_SLICE_BYTES:]
        self._rest = bytes(view)
        return bytes(pieces)

    @property
    def rest(self) -> bytes:
        return self._inner.unused_data + self._rest if self._inner.eof else self._rest

    @property
    def eof(self) -> bool:
        return self._inner.eof


def _gzip(name: str) -> Decompressor:
    from isal import isal_zlib

    return _Streams(name, _Zlib, (isal_zlib.IsalError,))  # type: ignore[arg-type]  # its stub calls the class an instance


def _bzip2(name: str) -> Decompressor:
    import bz2

    return _Streams(name, lambda: _Standard(bz2.BZ2Decompressor()), (OSError, ValueError))


def _xz(name: str) -> Decompressor:
    import lzma

    return _Streams(name, lambda: _Standard(lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY_BYTES)), (lzma.LZMAError,))


def _zstd(name: str) -> Decompressor:
    import zstandard

    return _Streams(name, _Zstd, (zstandard.ZstdError,))


_FORMATS: Final = {
    Compression.GZIP: _gzip,
    Compression.BZIP2: _bzip2,
    Compression.XZ: _xz,
    Compression.ZSTD: _zstd,
}
