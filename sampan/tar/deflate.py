"""Compress to gzip, quickly: what does not get smaller is stored as it is.

Archives, pictures and packages, which are compressed already, cost the most time of all and gain nothing by it; and
whoever unpacks a layer copies stored bytes many times as fast as it inflates others. Each piece that is handed over is
judged by a sample of it. The same pieces always give the same bytes.

Reference: RFC 1951, "Non-compressed blocks"; RFC 1952.
"""

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from isal import isal_zlib

# Method 8, no flags, no time, no system, as nothing of that is about the content.
_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_LAST: Final = b"\x01\x00\x00\xff\xff"  # an empty block, stored, with the mark of the last one
_MOST_STORED: Final = (1 << 16) - 1  # bytes of one block

_RAW_WBITS: Final = -15

# Of igzip's 0 to 3: as small as zlib's first levels, at several times their speed. Of a Debian the next level takes a
# fifth more time for blobs that are a third of a percent smaller.
_LEVEL: Final = 1

# A piece may hold files of all kinds, so the sample is of many places. It costs 2 % of compressing the piece.
_SAMPLES: Final = 16
_SAMPLE_BYTES: Final = 1024
_LEAST_JUDGED: Final = 4 * _SAMPLES * _SAMPLE_BYTES
# A sample is too short to show repetitions, and shows what letters and digits have in common, to less than this.
_INCOMPRESSIBLE: Final = 0.98


class GzipCompressor:
    """Compresses pieces, of a megabyte or so, as ``zlib.compressobj`` does."""

    def __init__(self) -> None:
        from isal import isal_zlib  # only what is needed

        self._igzip: Final = isal_zlib
        self._run: isal_zlib.Compress | None = None  # of pieces that are compressed one after another
        self._begun = False
        self._crc = 0
        self._size = 0

    def compress(self, piece: bytes | memoryview, /) -> bytes:
        """Return what comes of a piece, and of what was kept back of those before."""
        if not piece:
            return b""
        self._crc = self._igzip.crc32(piece, self._crc)
        self._size += len(piece)
        begin = b"" if self._begun else _HEADER
        self._begun = True
        if self._is_smaller(piece):
            if self._run is None:
                self._run = self._deflater()
            return begin + self._run.compress(piece)
        # No match may lead over stored bytes, which the compressor has not seen: it ends here, at a whole byte.
        end = b"" if self._run is None else self._run.flush(self._igzip.Z_SYNC_FLUSH)
        self._run = None
        return b"".join((begin, end, *_stored(piece)))

    def flush(self) -> bytes:
        """Return the rest; nothing can be compressed afterwards."""
        begin = b"" if self._begun else _HEADER
        end = _LAST if self._run is None else self._run.flush(self._igzip.Z_FINISH)
        return begin + end + struct.pack("<II", self._crc, self._size & 0xFFFFFFFF)

    def _deflater(self) -> "isal_zlib.Compress":
        return self._igzip.compressobj(_LEVEL, self._igzip.DEFLATED, _RAW_WBITS)

    def _is_smaller(self, piece: bytes | memoryview) -> bool:
        """Say whether compressing it is worth the while."""
        if len(piece) < _LEAST_JUDGED:
            return True
        step = len(piece) // _SAMPLES
        sample = b"".join(piece[at : at + _SAMPLE_BYTES] for at in range(0, step * _SAMPLES, step))
        deflater = self._deflater()
        packed = len(deflater.compress(sample)) + len(deflater.flush())
        return packed < len(sample) * _INCOMPRESSIBLE


def _stored(piece: bytes | memoryview) -> list[bytes | memoryview]:
    """Return a piece as blocks that are not compressed; the stream is at a whole byte, and not at its end."""
    parts: list[bytes | memoryview] = []
    for at in range(0, len(piece), _MOST_STORED):
        part = piece[at : at + _MOST_STORED]
        parts += (struct.pack("<BHH", 0, len(part), len(part) ^ 0xFFFF), part)
    return parts
