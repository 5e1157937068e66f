"""Blobs that are being downloaded: bytes in any order, kept for the next try when a download ends early.

    <root>/partials/<hex>           the bytes, at their places
    <root>/partials/<hex>.ranges    which of them are here: one line "<start> <end>" after each write

A line follows its bytes, so a killed process leaves lines that are true; a line cut short is not one. After a power
cut some of the bytes may be missing all the same: nothing here is trusted before the digest of the whole is right.
"""

import asyncio
import contextlib
import hashlib
import math
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Self

from imaged.content.disk_full import storing
from imaged.content.ingest import in_thread
from imaged.content.ranges import Range, Ranges
from imaged.images.model import PIECE_BYTES
from sampan.disk import NOTHING_FREED, Freed
from sampan.errors import ResourceExhaustedError
from sampan.log import log
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.service.set_aside import SetAside
from sampan.sys.files import start_writing
from sampan.sys.trees import remove_tree

# As in ``ingest.py``: what the sync at the end has left to do.
_FLUSH_BYTES: Final = 8 << 20

# What one write hashes of bytes that other connections fetched, so that none of them waits long for it.
_CATCH_UP_BYTES: Final = 4 << 20

_SUFFIX: Final = ".ranges"

MakeRoom = Callable[[], Awaitable[bool]]


class Partial:
    """One blob's bytes so far. Several writers may write at once, each somewhere else.

    Bytes are hashed in order as far as they are whole, mostly while others still arrive.
    """

    def __init__(self, descriptor: Descriptor, path: Path, make_room: MakeRoom) -> None:
        """Open or make the files; blocks."""
        self._digest = descriptor.digest
        self._path = path
        self._ranges_path = path.with_name(path.name + _SUFFIX)
        self._make_room = make_room
        self._here = _read_ranges(self._ranges_path, path, descriptor.size)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        self._ranges_fd = os.open(self._ranges_path, flags | os.O_APPEND, 0o600)
        self._whole = Range(0, descriptor.size)
        self._lock = threading.Lock()  # of what is here
        self._hashing = threading.Lock()
        self._hash = hashlib.sha256()
        self._hashed = 0
        self._unflushed = 0
        # How many answers the bytes come from; those of an earlier process count as one.
        self.answers = 1 if self._here else 0

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return self._here.size

    def missing(self, within: Range | None = None) -> list[Range]:
        """Return what is not here, of the whole blob or of a part."""
        return self._here.missing(within or self._whole)

    async def write(self, offset: int, data: bytes | bytearray) -> None:
        """Put bytes at their place; a cancelled call returns once they are written.

        Raises:
            ResourceExhaustedError: the disk is full, and nothing could be removed to make room.
        """
        try:
            await self._write(offset, data)
        except ResourceExhaustedError:
            if not await self._make_room():
                raise
            await self._write(offset, data)

    async def _write(self, offset: int, data: bytes | bytearray) -> None:
        with storing(f"content {self._digest}"):
            await in_thread(self._write_now, offset, data)

    def _write_now(self, offset: int, data: bytes | bytearray) -> None:
        view, position = memoryview(data), offset
        while view:
            written = os.pwrite(self._fd, view, position)
            view, position = view[written:], position + written
        os.write(self._ranges_fd, b"%d %d\n" % (offset, position))
        with self._lock:
            self._here.add(Range(offset, position))
            self._unflushed += len(data)
            flush = self._unflushed >= _FLUSH_BYTES
            if flush:
                self._unflushed = 0
        if flush:
            start_writing(self._fd, 0, 0)
        if self._hashing.acquire(blocking=False):
            try:
                if self._hashed == offset:
                    self._hash.update(data)
                    self._hashed = position
                else:
                    self._catch_up(_CATCH_UP_BYTES)
            finally:
                self._hashing.release()

    def _catch_up(self, most: int) -> None:
        """Hash what is here in order and not hashed yet, ``most`` bytes of it."""
        buffer = bytearray(PIECE_BYTES)
        view = memoryview(buffer)
        with self._lock:
            end = min(self._here.prefix_end, self._hashed + most)
        while self._hashed < end:
            count = os.preadv(self._fd, [view[: end - self._hashed]], self._hashed)
            if not count:
                return  # the file is shorter than it was; the digest will tell
            self._hash.update(view[:count])
            self._hashed += count

    async def digest(self) -> Digest:
        """Return the digest of all that is here from the first byte on; nobody writes meanwhile."""
        await in_thread(self._catch_up, self._whole.size)
        return Digest.from_hex(self._hash.hexdigest())

    async def clear(self) -> None:
        """Start again from nothing; nobody writes meanwhile."""
        await in_thread(self._clear_now)

    def _clear_now(self) -> None:
        for fd in (self._ranges_fd, self._fd):
            os.ftruncate(fd, 0)
        self._here = Ranges()
        self._hash = hashlib.sha256()
        self._hashed = self._unflushed = self.answers = 0

    async def seal(self) -> Path:
        """Sync the bytes to disk and return their file; nothing is written afterwards.

        Raises:
            ResourceExhaustedError: the disk is full.
        """
        with storing(f"content {self._digest}"):
            await in_thread(os.fsync, self._fd)
        return self._path

    def close(self) -> None:
        """Leave the files for the next try; safe to repeat, and after ``discard``."""
        if self._fd >= 0:
            os.close(self._fd)
            os.close(self._ranges_fd)
            self._fd = self._ranges_fd = -1

    def discard(self) -> None:
        """Remove the files: the bytes are a blob now, or wrong."""
        self.close()
        self._ranges_path.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)


def _read_ranges(ranges: Path, file: Path, size: int) -> Ranges:
    """Return which bytes of ``file`` are here; what cannot be is passed over."""
    here = Ranges()
    try:
        end_of_file = min(file.stat().st_size, size)
        text = ranges.read_text("ascii", "replace")
    except FileNotFoundError:
        return here
    for line in text.splitlines(keepends=True):
        start, _, end = line.partition(" ")
        if start.isdecimal() and end.endswith("\n") and end[:-1].isdecimal() and int(start) < int(end) <= end_of_file:
            here.add(Range(int(start), int(end)))
    return here


class Partials:
    """All of them. As a context manager it removes those that nobody came back for."""

    def __init__(self, root: Path, keep_s: float, now_s: Callable[[], float] = time.time) -> None:
        self._root = root / "partials"
        self._keep_s = keep_s
        self._now_s = now_s
        self._open: set[Digest] = set()
        self._lock = asyncio.Lock()  # nothing is opened while others are swept
        self._idle = asyncio.Event()  # one has been left
        self._sweeper: asyncio.Task[None] | None = None

    async def recover(self, set_aside: SetAside | None = None) -> None:
        """Make the directory and remove what is too old, not of two files, or a blob; call after ``ContentStore``'s."""
        await asyncio.to_thread(self._root.mkdir, mode=0o700, parents=True, exist_ok=True)
        with (set_aside or SetAside()).guard("partial", "all"):
            await self._sweep(self._now_s() - self._keep_s)

    async def __aenter__(self) -> Self:
        self._sweeper = asyncio.create_task(self._expire(), name="partial expiry")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait([self._sweeper])

    @asynccontextmanager
    async def open(self, descriptor: Descriptor, make_room: MakeRoom) -> AsyncIterator[Partial]:
        """Begin a blob, or go on with it; one caller per blob at a time. What it leaves stays for the next one.

        Raises:
            ResourceExhaustedError: the disk is full.
        """
        digest = descriptor.digest
        assert digest not in self._open
        self._open.add(digest)
        try:
            async with self._lock:
                with storing(f"content {digest}"):
                    partial = await in_thread(Partial, descriptor, self._root / digest.hex, make_room)
            try:
                yield partial
            finally:
                if partial.size:
                    partial.close()
                else:
                    partial.discard()
        finally:
            self._open.discard(digest)
            self._idle.set()

    async def reclaim(self) -> bool:
        """Remove all that nobody writes, since the disk is full; return whether there were any."""
        freed = await self.sweep(everything=True)
        if freed.count:
            log.warning("partial downloads removed to make room", count=freed.count)
        return bool(freed.count)

    async def sweep(self, *, everything: bool = False) -> Freed:
        """Remove what nobody came back for in time, or all that nobody writes."""
        return await self._sweep(math.inf if everything else self._now_s() - self._keep_s)

    async def files(self) -> dict[str, tuple[int, float, bool]]:
        """Return, by the blobs' hex digits, what each takes on disk, when it goes, and whether somebody writes it."""
        files = await asyncio.to_thread(self._files)
        found: dict[str, tuple[int, float, bool]] = {}
        for name, status in files.items():
            blob = name.removesuffix(_SUFFIX)
            size, last, _ = found.get(blob, (0, 0.0, False))
            here = {digest.hex for digest in self._open}
            found[blob] = (size + status.st_blocks * 512, max(last, status.st_mtime + self._keep_s), blob in here)
        return found

    async def forget(self, digests: Iterable[Digest]) -> None:
        """Remove those of ``digests`` that nobody writes: they are of an image that was refused."""
        async with self._lock:
            for path in [self._root / digest.hex for digest in digests if digest not in self._open]:
                path.with_name(path.name + _SUFFIX).unlink(missing_ok=True)
                path.unlink(missing_ok=True)

    async def _sweep(self, before_s: float) -> Freed:
        """Remove what was last written before that, and return how many blobs that were."""
        async with self._lock:
            return await asyncio.to_thread(self._sweep_now, before_s, {digest.hex for digest in self._open})

    def _sweep_now(self, before_s: float, in_use: set[str]) -> Freed:
        files = self._files()
        freed = NOTHING_FREED
        for name, status in files.items():
            blob = name.removesuffix(_SUFFIX)
            paired = blob in files and blob + _SUFFIX in files
            # A second link: it became a blob, and the process was killed before it could say so.
            is_blob = blob in files and files[blob].st_nlink > 1
            if blob in in_use or (paired and status.st_mtime > before_s and not is_blob):
                continue
            remove_tree(self._root / name)
            freed += Freed(int(name == blob), status.st_blocks * 512 if status.st_nlink == 1 else 0)
        return freed

    def _files(self) -> dict[str, os.stat_result]:
        """What is there by name; downloads end meanwhile, and their files go."""
        files = {}
        for entry in os.scandir(self._root):
            with contextlib.suppress(FileNotFoundError):
                files[entry.name] = entry.stat()
        return files

    def _next_due_s(self) -> float | None:
        """Return how long until the next one is too old."""
        written_s = [status.st_mtime for status in self._files().values()]
        return max(0.0, min(written_s) + self._keep_s - self._now_s()) + 1 if written_s else None

    async def _expire(self) -> None:
        while True:
            self._idle.clear()
            delay_s = await asyncio.to_thread(self._next_due_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._idle.wait()
                    continue
            await self._sweep(self._now_s() - self._keep_s)
