"""The last builds: what was asked for, how it went, what came of it. Bounded; those that are pinned stay."""

import asyncio
import sqlite3
import time
import zlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

from buildd.history.filters import parse_filters
from buildd.history.model import BuildRecord, Happened, HistoryQuery, KeptBlob
from sampan.build.progress import Update
from sampan.errors import ConflictError, NotFoundError, SampanError
from sampan.log import log
from sampan.oci.digest import Digest
from sampan.store.database import Store

_LOG: Final = "application/vnd.buildkit.status.v0"
_MOST_BUILDS: Final = 100
_MOST_BYTES: Final = 64 << 20  # of how they went, compressed
_QUICK: Final = 1  # zlib's level

Event = tuple[Happened, BuildRecord]


class Codec(Protocol):
    """How a build went, as bytes that last."""

    def encode(self, updates: Sequence[Update]) -> bytes:
        """Return updates as a log: messages, each with its length before it."""

    def decode(self, data: bytes) -> Sequence[Update]:
        """Return what ``encode`` was given."""

    def decode_single(self, data: bytes) -> Sequence[Update]:
        """Return what one message says."""


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

    async def end(
        self, record: BuildRecord, updates: Sequence[Update], blobs: Callable[[], Sequence[bytes]] = tuple
    ) -> None:
        """Note how a build has ended, and keep the bytes that its record names; ``blobs`` is called in a thread.

        A full disk loses the record, and fails no build.
        """
        try:
            log_blob, data, packed = await asyncio.to_thread(self._packed, updates, blobs)
            record = replace(record, log=log_blob)
            await self._store.write(lambda db: _insert(db, record, data, packed), durable=False)
        except SampanError as error:
            log.warning("a build is not kept in the history", ref=record.ref, error=str(error))
        finally:
            self._running.pop(record.ref, None)
            self._tell(Happened.COMPLETE, record)

    def drop(self, ref: str) -> None:
        """Note that a build has ended of which nothing is kept."""
        self._running.pop(ref, None)

    def _packed(
        self, updates: Sequence[Update], blobs: Callable[[], Sequence[bytes]]
    ) -> tuple[KeptBlob, bytes, Mapping[Digest, bytes]]:
        told = self._codec.encode(updates)
        packed = {Digest.of(blob): zlib.compress(blob, _QUICK) for blob in blobs()}
        return KeptBlob.of(_LOG, told), zlib.compress(told, _QUICK), packed

    async def updates(self, ref: str) -> Sequence[Update]:
        """Return how a build went. NotFoundError."""
        row = await self._store.read(lambda db: _updates(db, ref))
        if row is None:
            raise NotFoundError(f"no such job {ref}")
        data, digest = row
        decode = self._codec.decode if digest else self._codec.decode_single
        return await asyncio.to_thread(lambda: decode(zlib.decompress(data)))

    async def blob(self, digest: Digest) -> bytes:
        """Return what a record names by its digest. NotFoundError."""
        data = await self._store.read(lambda db: _blob(db, digest))
        if data is None:
            raise NotFoundError(f"content {digest}: not found")
        return await asyncio.to_thread(zlib.decompress, data)

    async def listen(self, query: HistoryQuery) -> AsyncGenerator[Event, None]:
        """Yield the builds that there are, those that ended first before others, and then what happens."""
        passes = parse_filters(query.filters, time.time_ns)
        news: asyncio.Queue[Event] = asyncio.Queue()
        self._listeners.add(news.put_nowait)
        try:
            running = [(Happened.STARTED, record) for record in self._running.values()]
            ended: list[Event] = []
            if not query.active_only:
                records = await self._store.read(_records)
                passing = [record for record in records if query.ref in ("", record.ref) and passes(record)]
                passing = passing[-query.limit :] if query.limit else passing
                ended = [(Happened.COMPLETE, record) for record in passing]
            for event in ended:
                yield event
            for event in running:
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


def _insert(db: sqlite3.Connection, record: BuildRecord, data: bytes, blobs: Mapping[Digest, bytes]) -> None:
    """Write a build, and forget the oldest ones if there are too many."""
    log_digest = record.log.digest if record.log is not None else ""
    db.execute("DELETE FROM builds WHERE ref = ?", (record.ref,))
    db.execute(
        "INSERT INTO builds (ref, document, updates, completed_ns, log_digest) VALUES (?, ?, ?, ?, ?)",
        (record.ref, record.to_json(), data, record.completed_ns, log_digest),
    )
    rows = [(record.ref, digest, blob) for digest, blob in blobs.items()]
    db.executemany("INSERT INTO build_blobs (ref, digest, data) VALUES (?, ?, ?)", rows)
    number = size = 0
    for ref, length in db.execute(
        "SELECT ref, length(updates) + (SELECT coalesce(sum(length(data)), 0) FROM build_blobs b WHERE b.ref = a.ref)"
        " FROM builds a WHERE pinned = 0 ORDER BY completed_ns DESC, ref"
    ).fetchall():
        number, size = number + 1, size + length
        if number > _MOST_BUILDS or (size > _MOST_BYTES and number > 1):
            db.execute("DELETE FROM builds WHERE ref = ?", (ref,))


def _updates(db: sqlite3.Connection, ref: str) -> tuple[bytes, str] | None:
    row = db.execute("SELECT updates, log_digest FROM builds WHERE ref = ?", (ref,)).fetchone()
    return None if row is None else (bytes(row["updates"]), str(row["log_digest"]))


def _blob(db: sqlite3.Connection, digest: Digest) -> bytes | None:
    row = db.execute("SELECT data FROM build_blobs WHERE digest = ? LIMIT 1", (digest,)).fetchone()
    row = row or db.execute("SELECT updates FROM builds WHERE log_digest = ? LIMIT 1", (digest,)).fetchone()
    return None if row is None else bytes(row[0])


def _records(db: sqlite3.Connection) -> list[BuildRecord]:
    query = "SELECT document, pinned FROM builds ORDER BY completed_ns DESC, ref"
    rows = db.execute(query).fetchall()
    return [BuildRecord.from_json(row["document"], pinned=bool(row["pinned"])) for row in reversed(rows)]


def _pin(db: sqlite3.Connection, ref: str, *, pinned: bool) -> BuildRecord | None:
    db.execute("UPDATE builds SET pinned = ? WHERE ref = ?", (int(pinned), ref))
    row = db.execute("SELECT document FROM builds WHERE ref = ?", (ref,)).fetchone()
    return None if row is None else BuildRecord.from_json(row["document"], pinned=pinned)
