"""Read a container's log: a part of it, or as it grows, which inotify(7) tells."""

import asyncio
import contextlib
import ctypes
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final, Self

from runtimed.logs.files import LogFiles
from runtimed.logs.formats import Format
from sampan.resource.streams import LogEntry, LogQuery
from sampan.sys.libc import LIBC, check

IN_MODIFY: Final = 0x2
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
_IN_NONBLOCK: Final = os.O_NONBLOCK
_IN_CLOEXEC: Final = os.O_CLOEXEC
_EVENTS_BYTES: Final = 64 << 10


class Watch:
    """Tells when something in a directory changes. Which of it did is for the caller to look up."""

    def __init__(self, directory: Path) -> None:
        """Begin to watch. Raises OSError: there is no such directory, or the user's watches are used up."""
        self._fd = check(LIBC.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC), "inotify")
        try:
            mask = ctypes.c_uint32(IN_MODIFY | IN_MOVED_TO | IN_CREATE)
            check(LIBC.inotify_add_watch(self._fd, os.fsencode(directory), mask), str(directory))
        except OSError:
            os.close(self._fd)
            raise
        self._changed = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    @property
    def changed(self) -> asyncio.Event:
        """Set at each change; clear it before looking at the file, so that none is missed."""
        return self._changed

    def _read(self) -> None:
        try:
            os.read(self._fd, _EVENTS_BYTES)
        except BlockingIOError:
            return
        self._changed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)


_SECOND_NS: Final = 1_000_000_000

# Has what was written so far put where it can be read.
Settle = Callable[[], Awaitable[None]]


async def read_log(
    path: Path, form: Format, query: LogQuery, ended: asyncio.Event, settle: Settle
) -> AsyncIterator[list[LogEntry]]:
    """Yield the wanted entries of the log at ``path`` in order, in batches.

    With ``follow`` it goes on with what is written, until ``ended`` is set and everything before was yielded.
    """
    log = LogFiles(path, form)
    try:
        await settle()
        await asyncio.to_thread(log.open, query.tail)
        if not query.follow:
            async for batch in _to_end(log, query):
                yield batch
            return
        await asyncio.to_thread(path.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
        with Watch(path.parent) as watch:
            waker = asyncio.create_task(_wake(watch.changed, ended), name="end of followed log")
            try:
                async for batch in _follow(log, query, watch.changed, ended, settle):
                    yield batch
            finally:
                waker.cancel()
    finally:
        log.close()


async def _wake(changed: asyncio.Event, ended: asyncio.Event) -> None:
    await ended.wait()
    changed.set()


async def _to_end(log: LogFiles, query: LogQuery) -> AsyncIterator[list[LogEntry]]:
    while (entries := await asyncio.to_thread(log.read)) is not None:
        wanted = entries if query.all else [entry for entry in entries if query.wants(entry)]
        if wanted:
            yield wanted


async def _follow(
    log: LogFiles, query: LogQuery, changed: asyncio.Event, ended: asyncio.Event, settle: Settle
) -> AsyncIterator[list[LogEntry]]:
    while True:
        changed.clear()
        last = ended.is_set()  # before reading: whatever is written afterwards is not the container's
        if last:
            await settle()
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
