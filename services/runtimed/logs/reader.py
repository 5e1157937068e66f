"""Read a container's log: a part of it, or as it grows, which inotify(7) tells."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

from runtimed.logs.files import LogFiles
from runtimed.logs.formats import Format
from sampan.resource.streams import LogEntry, LogQuery
from sampan.sys.inotify import CREATE, MODIFY, MOVED_TO, FileWatches

_SECOND_NS: Final = 1_000_000_000

# What becomes of the files of a log: written to, begun, put in another's place.
WRITTEN: Final = MODIFY | MOVED_TO | CREATE

# Has what was written so far put where it can be read.
Settle = Callable[[], Awaitable[None]]


async def read_log(
    path: Path, form: Format, query: LogQuery, ended: asyncio.Event, settle: Settle, watches: FileWatches
) -> AsyncIterator[list[LogEntry]]:
    """Yield the wanted entries of the log at ``path`` in order, in batches.

    With ``follow`` it goes on with what is written, until ``ended`` is set and everything before was yielded.
    """
    log = LogFiles(path, form, joined=query.joined)
    try:
        await settle()
        await asyncio.to_thread(log.open, query.tail)
        if not query.follow:
            async for batch in _to_end(log, query):
                yield batch
            return
        await asyncio.to_thread(path.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
        changed = asyncio.Event()
        with contextlib.closing(watches.watch(path.parent, WRITTEN, changed.set)):
            waker = asyncio.create_task(_wake(changed, ended), name="end of followed log")
            try:
                async for batch in _follow(log, query, changed, ended, settle):
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
