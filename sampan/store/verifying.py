"""Read files from end to end and compare them with their digests: several at a time, in threads."""

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.check import Amount

_PIECE_BYTES: Final = 1 << 20

# Reading and hashing release the interpreter's lock: more than the processors would only make each later, and other
# work is to go on.
_AT_ONCE: Final = max(1, min(4, len(os.sched_getaffinity(0))))

# How often somebody who looks is told how far a large file is.
_TELL_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class ExpectedFile:
    """What a file should be."""

    path: Path
    size: int  # bytes; -1: any
    digest: str = ""  # empty: only its size is looked at


@dataclass(frozen=True, slots=True)
class Difference:
    """What a file is instead."""

    kind: str  # missing, size, digest or unreadable
    problem: str


class _Count:
    """Bytes read so far, by all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.total = 0
        self.stopped = False

    def add(self, count: int) -> None:
        with self._lock:
            self.total += count


def compare(file: ExpectedFile) -> Difference | None:
    """Compare one file; blocks."""
    return _compare(file, _Count())


async def verify(
    what: str, files: Sequence[ExpectedFile]
) -> AsyncGenerator[Amount | tuple[ExpectedFile, Difference], None]:
    """Compare files; yield how far it is and what differs, as it is found. Closing the iterator ends the work."""
    count = _Count()
    total_bytes = sum(max(0, file.size) for file in files if file.digest)
    done = 0
    waiting = list(reversed(files))
    running: dict[asyncio.Future[Difference | None], ExpectedFile] = {}
    try:
        yield Amount(what, 0, len(files), 0, total_bytes)
        while waiting or running:
            while waiting and len(running) < _AT_ONCE:
                file = waiting.pop()
                running[asyncio.ensure_future(asyncio.to_thread(_compare, file, count))] = file
            ended, _ = await asyncio.wait(running, timeout=_TELL_S, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                file = running.pop(task)
                done += 1
                if (difference := task.result()) is not None:
                    yield file, difference
            yield Amount(what, done, len(files), min(count.total, total_bytes), total_bytes)
    finally:
        count.stopped = True  # threads see it at their next piece
        if running:
            await asyncio.wait(running)


def _compare(file: ExpectedFile, count: _Count) -> Difference | None:
    try:
        fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return Difference("missing", "its file is gone")
    except OSError as error:
        return Difference("unreadable", f"its file cannot be opened: {error.strerror}")
    try:
        size = os.fstat(fd).st_size
        if file.size not in (-1, size):
            return Difference("size", f"its file has {size} bytes instead of {file.size}")
        if not file.digest:
            return None
        # It is the disk that is asked, and not what is left in memory from before; nor is what others use pushed out.
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        found = _digest(fd, count)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError as error:
        return Difference("unreadable", f"its file cannot be read: {error.strerror}")
    finally:
        os.close(fd)
    if found not in ("", file.digest):
        return Difference("digest", f"its bytes have the digest {found}")
    return None


def _digest(fd: int, count: _Count) -> str:
    """Return the digest of a file, or nothing if nobody waits for it any more."""
    digest = hashlib.sha256()
    piece = bytearray(_PIECE_BYTES)
    view = memoryview(piece)
    while (size := os.readv(fd, [piece])) > 0:
        if count.stopped:
            return ""
        digest.update(view[:size])
        count.add(size)
    return f"sha256:{digest.hexdigest()}"
