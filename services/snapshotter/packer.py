"""The process that makes a layer of a difference: ``python -m snapshotter.packer <job as JSON>``.

It answers as ``worker`` does. The same difference always gives the same layer.
"""

import fcntl
import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Final, Protocol

from sampan.errors import ResourceExhaustedError, SampanError
from sampan.sys.processes import die_with_parent
from sampan.tar.entry import Entry, EntryType
from sampan.tar.writer import TarWriter
from snapshotter.comparison import Difference, compare
from snapshotter.job import Compression, DiffJob, Failure, Packed
from snapshotter.merged import Found, read_xattrs
from snapshotter.model import ChangeKind, Piece
from snapshotter.names import OPAQUE, WHITEOUT

_READ_BYTES: Final = 1 << 20
_F_SETPIPE_SZ: Final = 1031
_GZIP_LEVEL: Final = 6
_ZSTD_LEVEL: Final = 3

_TYPES: Final = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFDIR: EntryType.DIRECTORY,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFCHR: EntryType.CHAR_DEVICE,
    stat.S_IFBLK: EntryType.BLOCK_DEVICE,
    stat.S_IFIFO: EntryType.FIFO,
}
# What the host's security modules have written is about this host.
_HOST_XATTRS: Final = frozenset({"security.selinux", "security.ima", "security.evm"})


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


class _Sink:
    """Compresses into a file and hashes both sides."""

    def __init__(self, file: IO[bytes], compressor: _Compressor, *, hashed: bool) -> None:
        self._file = file
        self._compressor = compressor
        self._hashed = hashed
        self._inner, self._outer = hashlib.sha256(), hashlib.sha256()
        self._size = 0

    def write(self, piece: bytes) -> None:
        if self._hashed:
            self._inner.update(piece)
        self._put(self._compressor.compress(piece))

    def close(self) -> Packed:
        self._put(self._compressor.flush())
        self._file.flush()
        return Packed(f"sha256:{self._outer.hexdigest()}", self._size, f"sha256:{self._inner.hexdigest()}")

    def _put(self, piece: bytes) -> None:
        self._file.write(piece)
        if self._hashed:
            self._outer.update(piece)
        self._size += len(piece)


def run(job: DiffJob) -> Packed | Failure:
    """Write the layer; expected errors are returned."""
    left, right = (tuple(Piece(Path(path)) for path in side) for side in (job.left, job.right))
    try:
        with open(job.target or os.dup(1), "wb", buffering=_READ_BYTES) as file:
            # Whoever reads a stream hashes it.
            sink = _Sink(file, _compressor(Compression(job.compression)), hashed=bool(job.target))
            writer = TarWriter(sink.write)
            linked: dict[tuple[int, int], bytes] = {}
            for difference in without(compare(left, right, opaque=True), job.exclude):
                _add(writer, difference, linked)
            writer.close()
            return sink.close()
    except SampanError as error:
        return Failure(type(error).__name__, str(error))
    except OSError as error:
        return Failure(ResourceExhaustedError.__name__, f"cannot make a layer: {error}")


def without(differences: Iterable[Difference], exclude: Iterable[str]) -> Iterator[Difference]:
    """Leave out paths with what is in them, and directories on the way to them in which nothing else differs.

    Such a directory is told late, together with the first thing in it that stays: what ``found`` refers to is open
    as long as its parent's entries are being told.
    """
    hidden = {os.fsencode(path) for path in exclude}
    parents = {path[:at] for path in hidden for at, byte in enumerate(path) if byte == ord("/")}
    held: list[Difference] = []
    for difference in differences:
        path = difference.path
        if any(path == each or path.startswith(each + b"/") for each in hidden):
            continue
        held = [each for each in held if path.startswith(each.path + b"/")]
        if path in parents and difference.found is not None and difference.found.is_directory:
            held.append(difference)
            continue
        yield from held
        held = []
        yield difference


def _compressor(kind: Compression) -> _Compressor:
    found: Any = _Plain()
    if kind is Compression.GZIP:
        from zlib_ng import zlib_ng  # only what is needed

        found = zlib_ng.compressobj(_GZIP_LEVEL, zlib_ng.DEFLATED, 31)
    elif kind is Compression.ZSTD:
        import zstandard

        found = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()
    compressor: _Compressor = found
    return compressor


def _add(writer: TarWriter, difference: Difference, linked: dict[tuple[int, int], bytes]) -> None:
    path, found = difference.path, difference.found
    if difference.kind is ChangeKind.DELETED or found is None:
        parent, slash, name = path.rpartition(b"/")
        mark = path + b"/" + OPAQUE if difference.inside else parent + slash + WHITEOUT + name
        writer.add(Entry(mark, EntryType.FILE, 0, 0, 0, 0, 0))
        return
    kind = _TYPES.get(stat.S_IFMT(found.stat.st_mode))
    if kind is None:
        return  # a socket, which no archive can hold and nobody would listen to
    if found.stat.st_nlink > 1 and kind is not EntryType.DIRECTORY:
        first = linked.setdefault(found.identity, path)
        if first != path:
            writer.add(_entry(path, EntryType.HARD_LINK, found, found.stat, {}, first))
            return
    if kind is EntryType.FILE:
        _add_file(writer, path, found)
        return
    link = found.link() if kind is EntryType.SYMLINK else b""
    writer.add(_entry(path, kind, found, found.stat, found.xattrs(), link))


def _add_file(writer: TarWriter, path: bytes, found: Found) -> None:
    fd = found.open()
    try:
        status = os.fstat(fd)
        writer.add(_entry(path, EntryType.FILE, found, status, read_xattrs(fd)))
        left = status.st_size
        while left:
            piece = os.read(fd, min(left, _READ_BYTES))
            if not piece:  # cut short while being read: the header promised zeros
                piece = bytes(min(left, _READ_BYTES))
            writer.data(piece)
            left -= len(piece)
    finally:
        os.close(fd)


def _entry(
    path: bytes, kind: EntryType, found: Found, status: os.stat_result, xattrs: dict[str, bytes], link: bytes = b""
) -> Entry:
    device = (0, 0)
    if kind in (EntryType.CHAR_DEVICE, EntryType.BLOCK_DEVICE):
        device = (os.major(found.stat.st_rdev), os.minor(found.stat.st_rdev))
    return Entry(
        name=path,
        type=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size if kind is EntryType.FILE else 0,
        mtime_ns=status.st_mtime_ns,
        link=link,
        device=device,
        xattrs={name: value for name, value in xattrs.items() if name not in _HOST_XATTRS},
    )


def main(argv: list[str]) -> int:
    """Do the job; return 0 if an answer was written."""
    die_with_parent()
    job = DiffJob.from_json(argv[1])
    if not job.target:
        with suppress(OSError):  # more than the system allows, or no pipe
            fcntl.fcntl(1, _F_SETPIPE_SZ, _READ_BYTES)
    answer = run(job)
    (sys.stdout if job.target else sys.stderr).write(json.dumps(asdict(answer)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
