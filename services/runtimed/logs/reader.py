"""Read a container's log: a part of it, or as it grows."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from runtimed.logs.inotify import Watch
from runtimed.logs.k8s_format import LogParser, tail_offset
from sampan.resource.streams import LogEntry, LogQuery

_READ_BYTES: Final = 256 << 10  # some 2,000 lines a message
_SECOND_NS: Final = 1_000_000_000


class _LogFile:
    """The file as it is read; conmon replaces it by a new one of the same name when it has grown too big."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._parser = LogParser()

    def open(self, tail: int | None) -> None:
        """Open it if it is there, at its last ``tail`` lines."""
        with contextlib.suppress(FileNotFoundError):
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            if tail is not None:
                os.lseek(self._fd, tail_offset(self._fd, tail), os.SEEK_SET)

    def read(self) -> list[LogEntry] | None:
        """Return the next entries; None at the end, for now."""
        if self._fd < 0:
            self.open(None)
        piece = os.read(self._fd, _READ_BYTES) if self._fd >= 0 else b""
        if piece:
            return self._parser.feed(piece)
        return self._reopen()

    def _reopen(self) -> list[LogEntry] | None:
        """At the end: go on with the next file if there is one."""
        try:
            newest = self._path.stat().st_ino
        except FileNotFoundError:
            return None
        if self._fd < 0 or os.fstat(self._fd).st_ino == newest:
            return None
        self.close()
        self.open(None)
        return []

    def close(self) -> None:
        """Close it; safe to repeat."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


async def read_log(path: Path, query: LogQuery, ended: asyncio.Event) -> AsyncIterator[list[LogEntry]]:
    """Yield the wanted entries of the log at ``path`` in order, in batches.

    With ``follow`` it goes on with what is written, until ``ended`` is set and everything before was yielded.
    """
    log = _LogFile(path)
    try:
        await asyncio.to_thread(log.open, query.tail)
        if not query.follow:
            async for batch in _to_end(log, query):
                yield batch
            return
        with Watch(path.parent) as watch:
            waker = asyncio.create_task(_wake(watch.changed, ended), name="end of followed log")
            try:
                async for batch in _follow(log, query, watch.changed, ended):
                    yield batch
            finally:
                waker.cancel()
    finally:
        log.close()


async def _wake(changed: asyncio.Event, ended: asyncio.Event) -> None:
    await ended.wait()
    changed.set()


async def _to_end(log: _LogFile, query: LogQuery) -> AsyncIterator[list[LogEntry]]:
    while (entries := await asyncio.to_thread(log.read)) is not None:
        wanted = entries if query.all else [entry for entry in entries if query.wants(entry)]
        if wanted:
            yield wanted


async def _follow(
    log: _LogFile, query: LogQuery, changed: asyncio.Event, ended: asyncio.Event
) -> AsyncIterator[list[LogEntry]]:
    while True:
        changed.clear()
        last = ended.is_set()  # before reading: whatever is written afterwards is not the container's
        async for batch in _to_end(log, query):
            yield batch
        if last:
            return
        left_s = (query.until_ns - time.time_ns()) / _SECOND_NS if query.until_ns else None
        if left_s is not None and left_s <= 0:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                await changed.wait()
