"""A layer's blob in another form: compressed otherwise, or with no time after a moment. Equal input, equal output.

Reference: moby/buildkit, docs/build-repro.md and README, "Compression".
"""

import hashlib
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from buildd.protocol import GZIP, PLAIN, Converted, Form
from sampan.oci.digest import Digest
from sampan.tar.inflate import inflate
from sampan.tar.reader import TarReader
from sampan.tar.writer import TarWriter

_GZIP_WBITS: Final = 31  # with a header, in which no time is
_ZSTD_LEVEL: Final = 3
_HOLE_BYTES: Final = 1 << 20


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def convert(source: Path, target: Path, form: Form) -> Converted:
    """Write ``source``, compressed in whatever way, to ``target`` in another form.

    Raises:
        InvalidArgumentError: it is damaged, or no tar where times are to be changed.
    """
    compressor = _compressor(form)
    blob, plain, size = hashlib.sha256(), hashlib.sha256(), 0
    with source.open("rb") as read, target.open("xb") as write:

        def put(data: bytes) -> None:
            nonlocal size
            blob.update(data)
            size += len(data)
            write.write(data)

        def take(data: bytes) -> None:
            plain.update(data)
            put(compressor.compress(data))

        pieces = inflate(read)
        if form.latest_ns is None:
            for piece in pieces:
                take(piece)
        else:
            _rewrite(pieces, take, form.latest_ns)
        put(compressor.flush())
    return Converted(Digest(f"sha256:{blob.hexdigest()}"), size, Digest(f"sha256:{plain.hexdigest()}"))


def _compressor(form: Form) -> _Compressor:
    if form.compression == PLAIN:
        return _Plain()
    if form.compression == GZIP:
        level = zlib.Z_DEFAULT_COMPRESSION if form.level is None else form.level
        return zlib.compressobj(level, wbits=_GZIP_WBITS)
    import zstandard  # seldom needed

    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL if form.level is None else form.level).compressobj()


def _rewrite(pieces: Iterable[bytes], write: Callable[[bytes], None], latest_ns: int) -> None:
    reader = TarReader(_Source(pieces))
    writer = TarWriter(write)
    for entry in reader:
        writer.add(replace(entry, mtime_ns=min(entry.mtime_ns, latest_ns), parts=None))
        data = (bytes(piece) for piece in reader.data())
        for piece in data if entry.parts is None else _expanded(data, entry.size, entry.parts):
            writer.data(piece)
    reader.drain()
    writer.close()


def _expanded(pieces: Iterable[bytes], size: int, parts: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    """Yield a sparse file with its holes."""
    stored = _Source(pieces)
    at = 0
    for offset, length in (*parts, (size, 0)):
        while at < offset:
            hole = min(offset - at, _HOLE_BYTES)
            yield bytes(hole)
            at += hole
        end = offset + length
        while at < end:
            piece = stored.read(end - at)
            yield piece
            at += len(piece)


class _Source(io.RawIOBase):
    """Pieces as a stream."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, as many as there are at once."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken
