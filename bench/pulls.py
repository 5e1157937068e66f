"""Layers that no engine has seen yet, made in a fraction of a second from one that took seconds to compress.

A pull can only be repeated honestly with new content: engines keep layers that they know. The layer is one plain gzip
member: a small file first, different each time, then the tree, whose compressed form does not depend on it.
"""

import hashlib
import struct
import zlib
from pathlib import Path

from tests.support.images import Entry, Image, Layer, tar

_PIECE_BYTES = 1 << 20
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_TAR_END_BYTES = 1024  # two blocks of zeros


class FreshLayers:
    """Makes images of one tree, each with a layer of its own."""

    def __init__(self, tree: Path, directory: Path) -> None:
        self._tree = tree
        self._directory = directory
        self._compressed = directory / "tree.deflate"
        compressor = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        with tree.open("rb") as source, self._compressed.open("wb") as target:
            while piece := source.read(_PIECE_BYTES):
                target.write(compressor.compress(piece))
            target.write(compressor.flush())

    def image(self, mark: str) -> Image:
        """Return an image whose layer differs from every other by the file /mark."""
        first = tar(Entry("mark", mark.encode()))
        first = first[: 512 * 2]  # header and content; what follows is the end of an archive
        compressor = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        beginning = compressor.compress(first) + compressor.flush(zlib.Z_FULL_FLUSH)
        digest, checksum, size = hashlib.sha256(first), zlib.crc32(first), len(first)
        blob = self._directory / f"{mark}.tar.gz"
        with self._tree.open("rb") as source:
            while piece := source.read(_PIECE_BYTES):
                digest.update(piece)
                checksum = zlib.crc32(piece, checksum)
                size += len(piece)
        with self._compressed.open("rb") as source, blob.open("wb") as target:
            target.write(_GZIP_HEADER + beginning)
            while piece := source.read(_PIECE_BYTES):
                target.write(piece)
            target.write(struct.pack("<II", checksum, size & 0xFFFFFFFF))
        return Image([Layer(blob, f"sha256:{digest.hexdigest()}")], {"Cmd": ["bash"]})
