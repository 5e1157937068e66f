"""Images that no engine has seen yet, made in a fraction of a second from layers that took seconds to compress.

A pull can only be repeated honestly with new content: engines keep layers that they know. A layer is one plain gzip
member: a small file first, different each time, then its tree, whose compressed form does not depend on it.
"""

import contextlib
import hashlib
import io
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.support.images import Entry, Image, Layer, tar
from tests.support.trees import busybox_tar, debian_tar

_PIECE_BYTES = 1 << 20
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

LAYERS = 10
SMALL_FILES = 100_000
_SMALL_BYTES = 200
_FILES_PER_FOLDER = 500
_FILES_ABOVE = 20  # of each layer above the first


class FreshLayer:
    """Makes layers of one tree, each like no other."""

    def __init__(self, tree: Path, directory: Path, name: str) -> None:
        self._tree = tree
        self._directory = directory
        self._name = name
        self._compressed = directory / f"{name}.deflate"
        compressor = _compressor()
        with self._compressed.open("wb") as target:
            for piece in _pieces(tree):
                target.write(compressor.compress(piece))
            target.write(compressor.flush())

    def layer(self, mark: str) -> Layer:
        """Return a layer that differs from every other by the file /mark-<name>."""
        first = tar(Entry(f"mark-{self._name}", mark.encode()))
        first = first[: 512 * 2]  # header and content; what follows is the end of an archive
        compressor = _compressor()
        beginning = compressor.compress(first) + compressor.flush(zlib.Z_FULL_FLUSH)
        digest, checksum, size = hashlib.sha256(first), zlib.crc32(first), len(first)
        for piece in _pieces(self._tree):
            digest.update(piece)
            checksum = zlib.crc32(piece, checksum)
            size += len(piece)
        blob = self._directory / f"{mark}-{self._name}.tar.gz"
        with blob.open("wb") as target:
            target.write(_GZIP_HEADER + beginning)
            for piece in _pieces(self._compressed):
                target.write(piece)
            target.write(struct.pack("<II", checksum, size & 0xFFFFFFFF))
        return Layer(blob, f"sha256:{digest.hexdigest()}")


class FreshImages:
    """The images that are pulled, by name; what their layers are made of is prepared when one is first asked for."""

    def __init__(self, directory: Path) -> None:
        """``directory`` is for files."""
        self._directory = directory
        self._layers: dict[str, Sequence[FreshLayer]] = {}

    def image(self, name: str, mark: str) -> Image:
        """Return one that no engine has a layer of."""
        if name not in self._layers:
            self._layers[name] = _STACKS[name](self._directory)
        return Image(
            [layer.layer(mark) for layer in self._layers[name]], {"Cmd": ["sh"], "Env": ["PATH=/usr/bin:/bin"]}
        )


def _one(directory: Path) -> Sequence[FreshLayer]:
    return [FreshLayer(debian_tar(), directory, "whole")]


def _ten(directory: Path) -> Sequence[FreshLayer]:
    return [FreshLayer(part, directory, part.stem) for part in _split(debian_tar(), directory)]


def _small(directory: Path) -> Sequence[FreshLayer]:
    tree = directory / "small.tar"
    write_small_files(tree)
    return [FreshLayer(tree, directory, "small")]


def _files(count: int) -> Callable[[Path], Sequence[FreshLayer]]:
    def stack(directory: Path) -> Sequence[FreshLayer]:
        tree = directory / f"files-{count}.tar"
        write_small_files(tree, count)
        return [FreshLayer(tree, directory, tree.stem)]

    return stack


def _layers(count: int) -> Callable[[Path], Sequence[FreshLayer]]:
    def stack(directory: Path) -> Sequence[FreshLayer]:
        base = directory / "base.tar"
        base.write_bytes(busybox_tar())
        above = directory / "above.tar"
        write_small_files(above, _FILES_ABOVE)
        layers = [FreshLayer(base, directory, "base")]
        return [*layers, *(FreshLayer(above, directory, f"above-{number}") for number in range(1, count))]

    return stack


# Layers of as many small files, and images of as many layers, of which the lowest has a shell.
GROWING_FILES: Final = (1_000, 10_000, 100_000)
GROWING_LAYERS: Final = (1, 10, 50, 127)

# Debian in one layer, in ``LAYERS`` of equal weight; many small files; and what growth is measured with.
_STACKS: Final[Mapping[str, Callable[[Path], Sequence[FreshLayer]]]] = {
    "one": _one,
    "ten": _ten,
    "small": _small,
    **{f"files-{count}": _files(count) for count in GROWING_FILES},
    **{f"layers-{count}": _layers(count) for count in GROWING_LAYERS},
}


def _split(tree: Path, directory: Path) -> list[Path]:
    """Write the tree's entries, in their order, to ``LAYERS`` archives of about the same size."""
    paths = [directory / f"part-{number}.tar" for number in range(LAYERS)]
    share = tree.stat().st_size // LAYERS + 1
    homes: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(tarfile.open(tree))
        targets = [stack.enter_context(tarfile.open(path, "w", format=tarfile.PAX_FORMAT)) for path in paths]
        for member in source:
            # A hard link belongs into the layer of its target.
            number = homes.get(member.linkname, 0) if member.islnk() else min(member.offset // share, LAYERS - 1)
            homes[member.name] = number
            targets[number].addfile(member, source.extractfile(member) if member.isreg() else None)
    return paths


def write_small_files(path: Path, count: int = SMALL_FILES) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for number in range(count):
            info = tarfile.TarInfo(f"small/{number // _FILES_PER_FOLDER:03}/file-{number:06}")
            info.size, info.mtime = _SMALL_BYTES, 1_700_000_000
            archive.addfile(info, io.BytesIO(f"{number:08}".encode() * (_SMALL_BYTES // 8)))


def _compressor() -> "zlib._Compress":
    return zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as source:
        while piece := source.read(_PIECE_BYTES):
            yield piece
