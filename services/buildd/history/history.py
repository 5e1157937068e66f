"""The last builds: what was asked for, how it went, what came of it. Bounded; those that are pinned stay."""

import asyncio
import sqlite3
import zlib
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final, Protocol

from buildd.history.model import BuildRecord, Happened, HistoryQuery
from sampan.build.progress import Update
from sampan.errors import ConflictError, NotFoundError, SampanError
from sampan.log import log
from sampan.store.database import Store

_MOST_BUILDS: Final = 100
_MOST_BYTES: Final = 64 << 20  # of how they went, compressed
_QUICK: Final = 1  # zlib's level

Event = tuple[Happened, BuildRecord]


class Codec(Protocol):
    """How a build went, as bytes that last."""

    def encode(self, updates: Sequence[Update]) -> bytes:
        """Return updates as bytes."""

    def decode(self, data: bytes) -> Sequence[Update]:
        """Return what ``encode`` was given."""


class History:
    """Remembers builds."""

    def __init__(self, store: Store, codec: Codec) -> None:
        self._store = store
        self._codec = codec
        self._running: dict[str, BuildRecord] = {}
        self._listeners: set[Callable[[Event], None]] = set()

    def begin(self, record: BuildRecord) -> None:
        """Note that a build runs."""
        self._running[record.ref] = record
        self._tell(Happened.STARTED, record)

    async def end(self, record: BuildRecord, updates: Sequence[Update]) -> None:
        """Note how a build has ended. A full disk loses its record, and fails no build."""
        try:
            data = await asyncio.to_thread(lambda: zlib.compress(self._codec.encode(updates), _QUICK))
            await self._store.write(lambda db: _insert(db, record, data), durable=False)
        except SampanError as error:
            log.warning("a build is not kept in the history", ref=record.ref, error=str(error))
        finally:
            self._running.pop(record.ref, None)
            self._tell(Happened.COMPLETE, record)

    def drop(self, ref: str) -> None:
        """Note that a build has ended of which nothing is kept."""
        self._running.pop(ref, None)

    async def updates(self, ref: str) -> Sequence[Update]:
        """Return how a build went. NotFoundError."""
        data = await self._store.read(lambda db: _updates(db, ref))
        if data is None:
            raise NotFoundError(f"no such job {ref}")
        return await asyncio.to_thread(lambda: self._codec.decode(zlib.decompress(data)))

    async def listen(self, query: HistoryQuery) -> AsyncGenerator[Event, None]:
        """Yield the builds that there are, those that ended first before others, and then what happens."""
        news: asyncio.Queue[Event] = asyncio.Queue()
        self._listeners.add(news.put_nowait)
        try:
            running = [(Happened.STARTED, record) for record in self._running.values()]
            ended: list[Event] = []
            if not query.active_only:
                records = await self._store.read(lambda db: _records(db, query.limit))
                ended = [(Happened.COMPLETE, record) for record in records]
            for event in (*ended, *running):
                if query.ref in ("", event[1].ref):
                    yield event
            while not query.early_exit:
                event = await news.get()
                if query.ref in ("", event[1].ref) and not (query.active_only and event[0] is not Happened.STARTED):
                    yield event
        finally:
            self._listeners.discard(news.put_nowait)

    async def pin(self, ref: str, *, pinned: bool) -> None:
        """Keep a build however many follow, or no longer. NotFoundError."""
        record = await self._store.write(lambda db: _pin(db, ref, pinned=pinned))
        if record is None:
            raise NotFoundError(f"no build {ref} in the history")
        self._tell(Happened.COMPLETE, record)

    async def remove(self, ref: str) -> None:
        """Forget a build.

        Raises:
            NotFoundError: there is none.
            ConflictError: it runs.
        """
        if ref in self._running:
            raise ConflictError(f"build {ref} runs: cancel it first")
        if not await self._store.write(lambda db: db.execute("DELETE FROM builds WHERE ref = ?", (ref,)).rowcount):
            raise NotFoundError(f"no build {ref} in the history")
        self._tell(Happened.DELETED, BuildRecord(ref))

    def _tell(self, happened: Happened, record: BuildRecord) -> None:
        for tell in self._listeners:
            tell((happened, record))


def _insert(db: sqlite3.Connection, record: BuildRecord, data: bytes) -> None:
    """Write a build, and forget the oldest ones if there are too many."""
    row = (record.ref, record.to_json(), data, record.completed_ns)
    db.execute("INSERT OR REPLACE INTO builds (ref, document, updates, completed_ns) VALUES (?, ?, ?, ?)", row)
    number = size = 0
    for ref, length in db.execute(
        "SELECT ref, length(updates) FROM builds WHERE pinned = 0 ORDER BY completed_ns DESC, ref"
    ).fetchall():
        number, size = number + 1, size + length
        if number > _MOST_BUILDS or (size > _MOST_BYTES and number > 1):
            db.execute("DELETE FROM builds WHERE ref = ?", (ref,))


def _updates(db: sqlite3.Connection, ref: str) -> bytes | None:
    row = db.execute("SELECT updates FROM builds WHERE ref = ?", (ref,)).fetchone()
    return None if row is None else bytes(row["updates"])


def _records(db: sqlite3.Connection, limit: int) -> list[BuildRecord]:
    query = "SELECT document, pinned FROM builds ORDER BY completed_ns DESC, ref LIMIT ?"
    rows = db.execute(query, (limit or -1,)).fetchall()
    return [BuildRecord.from_json(row["document"], pinned=bool(row["pinned"])) for row in reversed(rows)]


def _pin(db: sqlite3.Connection, ref: str, *, pinned: bool) -> BuildRecord | None:
    db.execute("UPDATE builds SET pinned = ? WHERE ref = ?", (int(pinned), ref))
    row = db.execute("SELECT document FROM builds WHERE ref = ?", (ref,)).fetchone()
    return None if row is None else BuildRecord.from_json(row["document"], pinned=pinned)
