"""The process that makes a layer of a difference, forked from the fork server; it answers as ``worker`` does.

The same difference always gives the same layer.
"""

import hashlib
import os
import queue
import stat
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Final, Protocol, Self, cast

from sampan.errors import ResourceExhaustedError, SampanError
from sampan.resource.snapshot import ChangeKind
from sampan.tar.deflate import GzipCompressor
from sampan.tar.entry import Entry, EntryType
from sampan.tar.writer import TarWriter
from snapshotter.diff.comparison import Difference, compare, stored
from snapshotter.diff.merged import Found, read_xattrs
from snapshotter.diff.settle import Told, settle
from snapshotter.model import Piece
from snapshotter.unpack.entry_names import OPAQUE, WHITEOUT
from snapshotter.workers.job import Compression, DiffJob, Failure, Packed
from snapshotter.workers.process import answer, begin
from snapshotter.workers.threads import Thread

_BUFFER_BYTES: Final = 1 << 20
_BLOCK_BYTES: Final = 1 << 20
_BLOCKS: Final = 6  # one is filled, one compressed, and the others wait for that or have been
_OUTPUT: Final = 0
_ANSWERS: Final = 1
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
    def compress(self, data: memoryview, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Sink:
    """Compresses into a file and hashes both sides, ``streamed`` output excepted: whoever reads a stream hashes it.

    What is compressed is so in a thread of its own, while the next files are read and hashed; what is discarded is
    hashed there. Files are read into a few blocks that are used again and again: a fresh one for each would cost as
    much as reading it.
    """

    def __init__(self, file: IO[bytes], compression: Compression, *, streamed: bool) -> None:
        self._file = file
        self._compressor = _compressor(compression)
        self._discards = compression is Compression.DISCARD
        self._hash_inner = not (streamed and compression is Compression.NONE)
        self._hash_outer = not (streamed or self._discards)
        self._inner, self._outer = hashlib.sha256(), hashlib.sha256()
        self._tar_bytes = self._size = 0
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        beside = self._compressor is not None or self._discards
        for _ in range(_BLOCKS if beside else 1):
            self._free.put(memoryview(bytearray(_BLOCK_BYTES)))
        self._block, self._filled = self._free.get(), 0
        self._full: queue.SimpleQueue[tuple[memoryview, int] | None] = queue.SimpleQueue()
        self._failure: Exception | None = None
        self._thread = Thread(self._beside) if beside else None

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def write(self, piece: bytes) -> None:
        at = 0
        while at < len(piece):
            count = min(len(piece) - at, _BLOCK_BYTES - self._filled)
            self._block[self._filled : self._filled + count] = piece[at : at + count]
            self._advance(count)
            at += count

    def read(self, fd: int, most: int) -> int:
        """Write what a file has next, ``most`` bytes or fewer; return how many. None are left where that is 0."""
        end = min(self._filled + most, _BLOCK_BYTES)
        count = os.readv(fd, (self._block[self._filled : end],))
        self._advance(count)
        return count

    def close(self) -> Packed:
        self._pass_on()
        self._end()
        if self._failure is not None:
            raise self._failure
        if self._compressor is not None:
            self._put(self._compressor.flush())
        self._file.flush()
        digest, diff_id = (f"sha256:{side.hexdigest()}" for side in (self._outer, self._inner))
        return Packed(
            digest=digest if self._hash_outer else "",
            size_bytes=self._size,
            diff_id=diff_id if self._hash_inner else "",
            tar_bytes=self._tar_bytes,
        )

    def _advance(self, count: int) -> None:
        self._filled += count
        if self._filled == _BLOCK_BYTES:
            self._pass_on()

    def _pass_on(self) -> None:
        block, filled = self._block, self._filled
        self._tar_bytes += filled
        if self._thread is None:
            self._put(block[:filled])
        else:
            self._full.put((block, filled))
        if self._hash_inner and not self._discards:
            self._inner.update(block[:filled])
        if self._thread is not None:  # not before it is hashed: this block may be the next one that is free
            self._block = self._free.get()
        self._filled = 0

    def _end(self) -> None:
        if self._thread is not None:
            self._full.put(None)
            self._thread.join()
            self._thread = None

    def _beside(self) -> None:
        while (full := self._full.get()) is not None:
            block, filled = full
            if self._compressor is None:
                self._inner.update(block[:filled])
            elif self._failure is None:
                try:
                    self._put(self._compressor.compress(block[:filled]))
                except Exception as error:  # noqa: BLE001 - it is told by ``close``
                    self._failure = error
            self._free.put(block)

    def _put(self, piece: bytes | memoryview) -> None:
        self._file.write(piece)
        if self._hash_outer:
            self._outer.update(piece)
        self._size += len(piece)


def run(job: DiffJob) -> Packed | Failure:
    """Write the layer; expected errors are returned."""
    left, right = (tuple(Piece(Path(path)) for path in side) for side in (job.left, job.right))
    try:
        with (
            open(job.target or _OUTPUT, "wb", buffering=_BUFFER_BYTES) as file,
            _Sink(file, Compression(job.compression), streamed=not job.target) as sink,
        ):
            packing = _Packing(TarWriter(sink.write, job.max_path_bytes), sink, job.newest_ns)
            told = Told()
            differences = (
                stored(right[0]) if job.stored else compare(left, right, opaque=True, max_path_bytes=job.max_path_bytes)
            )
            for difference in without(differences, job.exclude):
                if packing.add(difference) and job.settle:
                    told.note(difference)
            packing.close()
            packed = sink.close()
        if not job.settle or not told:
            return packed
        settled = settle(Path(job.settle), told, job.newest_ns)
        return replace(packed, stored_bytes=settled.size_bytes, inodes=settled.inodes, synced=settled.synced)
    except SampanError as error:
        return Failure(type(error).__name__, str(error))
    except OSError as error:
        return Failure(ResourceExhaustedError.__name__, f"cannot make a layer: {error}")


def without(differences: Iterable[Difference], exclude: Iterable[str]) -> Iterator[Difference]:
    """Leave out paths with what is in them, and directories on the way to them in which nothing else differs.

    Such a directory is told late, together with the first thing in it that stays.
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
            held.append(replace(difference, found=difference.found.kept()))
            continue
        yield from held
        held = []
        yield difference


def _compressor(kind: Compression) -> _Compressor | None:
    if kind is Compression.GZIP:
        return GzipCompressor()
    if kind is Compression.ZSTD:
        import zstandard

        return cast("_Compressor", zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj())
    return None


class _Packing:
    """An archive of differences; ``writer`` writes into ``sink``, and files go there directly."""

    def __init__(self, writer: TarWriter, sink: _Sink, newest_ns: int | None) -> None:
        self._writer = writer
        self._sink = sink
        self._newest_ns = newest_ns
        self._linked: dict[tuple[int, int], bytes] = {}  # the first name of each file that has several

    def close(self) -> None:
        """Write the archive's end."""
        self._writer.close()

    def add(self, difference: Difference) -> bool:
        """Add what a path has become; return whether there is anything to say of it."""
        path, found = difference.path, difference.found
        if difference.kind is ChangeKind.DELETED or found is None:
            parent, slash, name = path.rpartition(b"/")
            mark = path + b"/" + OPAQUE if difference.inside else parent + slash + WHITEOUT + name
            self._writer.add(Entry(mark, EntryType.FILE, 0, 0, 0, 0, 0))
            return True
        kind = _TYPES.get(stat.S_IFMT(found.stat.st_mode))
        if kind is None:
            return False  # a socket, which no archive can hold and nobody would listen to
        if found.stat.st_nlink > 1 and kind is not EntryType.DIRECTORY:
            first = self._linked.setdefault(found.identity, path)
            if first != path:
                self._writer.add(self._entry(path, EntryType.HARD_LINK, found.stat, {}, first))
                return True
        if kind is EntryType.FILE:
            self._add_file(path, found)
        else:
            link = found.link() if kind is EntryType.SYMLINK else b""
            self._writer.add(self._entry(path, kind, found.stat, found.xattrs(), link))
        return True

    def _add_file(self, path: bytes, found: Found) -> None:
        fd = found.open()
        try:
            status = os.fstat(fd)
            self._writer.add(self._entry(path, EntryType.FILE, status, read_xattrs(fd)))
            left = status.st_size
            while left:
                count = self._sink.read(fd, left)
                if not count:  # cut short while being read: the header promised zeros
                    count = min(left, _BUFFER_BYTES)
                    self._sink.write(bytes(count))
                self._writer.passed_by(count)
                left -= count
        finally:
            os.close(fd)

    def _entry(
        self,
        path: bytes,
        kind: EntryType,
        status: os.stat_result,
        xattrs: dict[str, bytes],
        link: bytes = b"",
    ) -> Entry:
        shown = {name: value for name, value in xattrs.items() if name not in _HOST_XATTRS}
        return Entry.of(path, kind, status, shown, link, self._newest_ns)


def main(job: str, parent: int) -> int:
    """Do a job; return 0, as an answer was written. ``parent`` is the process that this one was forked from."""
    begin(parent)
    answer(run(DiffJob.from_json(job)), _ANSWERS)
    return 0
