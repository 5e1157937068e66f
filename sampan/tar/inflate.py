"""Decompress an archive, by what its first bytes say it is: registries and media types are often wrong about it."""

import bz2
import lzma
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from sampan.errors import InvalidArgumentError
from sampan.tar.compression import MAGIC_BYTES, XZ_MEMORY_BYTES, ZSTD_WINDOW_BYTES, Compression, compression

# What is given to a decompressor at once, and what it may return at once: a few kilobytes can hold a gigabyte of
# zeros, and a layer is never whole in memory.
_INPUT_BYTES: Final = 128 << 10
_OUTPUT_BYTES: Final = 1 << 20


class Input(Protocol):
    """A stream of compressed bytes."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, none at the end alone."""


def inflate(source: Input) -> Iterator[bytes]:
    """Yield the uncompressed bytes: of gzip, zstd, bzip2, xz (members one after the other), or as they are.

    Raises:
        InvalidArgumentError: the stream is damaged, cut short, or followed by something else.
    """
    first = _begun(source.read(_INPUT_BYTES), source)
    match compression(first):
        case Compression.GZIP:
            yield from _members(first, source, Compression.GZIP, _Gzip)
        case Compression.ZSTD:
            yield from _zstd(first, source)
        case Compression.BZIP2:
            yield from _members(first, source, Compression.BZIP2, lambda: _Bounded(bz2.BZ2Decompressor()))
        case Compression.XZ:
            yield from _members(first, source, Compression.XZ, _xz)
        case None:
            while first:
                yield first
                first = source.read(_OUTPUT_BYTES)


def _begun(data: bytes, source: Input) -> bytes:
    """Return ``data`` with as much more as tells what it is, if there is as much."""
    while 0 < len(data) < MAGIC_BYTES and (more := source.read(_INPUT_BYTES)):
        data += more
    return data


def _xz() -> "_Bounded":
    return _Bounded(lzma.LZMADecompressor(memlimit=XZ_MEMORY_BYTES))


class _Member(Protocol):
    """One member's decompressor."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def pieces(self, data: bytes) -> Iterator[bytes]: ...


class _Zlib(Protocol):
    """``zlib``'s decompressor, whoever has written it."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    @property
    def unconsumed_tail(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Gzip:
    """zlib keeps what it could not return in ``unconsumed_tail``."""

    def __init__(self) -> None:
        from isal import isal_zlib  # only what is needed

        self._decompress: _Zlib = isal_zlib.decompressobj(wbits=31)
        self._error: type[Exception] = isal_zlib.IsalError  # type: ignore[assignment]  # its stub says: an instance

    @property
    def eof(self) -> bool:
        return self._decompress.eof

    @property
    def unused_data(self) -> bytes:
        return self._decompress.unused_data

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while data:
            try:
                piece = self._decompress.decompress(data, _OUTPUT_BYTES)
            except self._error as error:
                raise OSError(str(error)) from error  # as bz2 has it
            if piece:
                yield piece
            data = b"" if self._decompress.eof else self._decompress.unconsumed_tail


class _Bounded:
    """bz2 and lzma keep it to themselves, and say so in ``needs_input``."""

    def __init__(self, decompress: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self._decompress = decompress

    @property
    def eof(self) -> bool:
        return self._decompress.eof

    @property
    def unused_data(self) -> bytes:
        return self._decompress.unused_data

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while piece := self._decompress.decompress(data, _OUTPUT_BYTES):
            yield piece
            if self._decompress.eof:
                return
            data = b""


def _members(data: bytes, source: Input, kind: Compression, new: Callable[[], _Member]) -> Iterator[bytes]:
    what, member = kind.value, new()
    try:
        while data:
            yield from member.pieces(data)
            if not member.eof:
                data = source.read(_INPUT_BYTES)
                continue
            # Padding with zeros is as old as gzip; anything else must be another member.
            data = member.unused_data.lstrip(b"\0")
            while not data and (data := source.read(_INPUT_BYTES)):
                data = data.lstrip(b"\0")
            if data:
                data = _begun(data, source)
                if compression(data) is not kind:
                    raise InvalidArgumentError(f"{what} stream with something after its end")
                member = new()
    except (lzma.LZMAError, OSError, EOFError) as error:
        raise InvalidArgumentError(f"damaged {what} stream, or something after its end: {error}") from error
    if not member.eof:
        raise InvalidArgumentError(f"{what} stream is cut short")


class _Pushed:
    """A stream with its first bytes put back."""

    def __init__(self, first: bytes, source: Input) -> None:
        self._first = first
        self._source = source

    def read(self, size: int = -1, /) -> bytes:
        first, self._first = self._first[:size], self._first[size:]
        return first or self._source.read(size)


def _zstd(first: bytes, source: Input) -> Iterator[bytes]:
    import zstandard  # as above

    # A frame cut short ends the reader quietly; the tar reader and the diff ID tell.
    reader = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES).stream_reader(
        _Pushed(first, source),  # type: ignore[arg-type]  # of a file it needs but read()
        read_size=_INPUT_BYTES,
        read_across_frames=True,
    )
    try:
        while piece := reader.read(_OUTPUT_BYTES):
            yield piece
    except zstandard.ZstdError as error:
        raise InvalidArgumentError(f"damaged zstd stream, or something after its end: {error}") from error
