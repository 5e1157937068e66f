"""Snapshots: made, shown, frozen, removed."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from sampan.errors import ConflictError, DataLossError, NotFoundError
from sampan.log import log
from sampan.resource.snapshot import TRANSIENT_LABEL, Kind, Mount
from sampan.sys.files import sync_directory
from sampan.sys.measuring import Usage, measure
from sampan.sys.trees import walking
from snapshotter.drivers.driver import Driver
from snapshotter.model import Piece, Snapshot, SnapshotFormat
from snapshotter.snapshots import filters as selection
from snapshotter.snapshots import store as rows
from snapshotter.snapshots.catalog import Catalog
from snapshotter.snapshots.directories import Syncer, disk_errors


class LocalSnapshots:
    """Satisfies ``protocol.Snapshots``."""

    def __init__(
        self, catalog: Catalog, driver: Driver, shown_by: Mapping[SnapshotFormat, Driver], syncer: Syncer
    ) -> None:
        """New snapshots are ``driver``'s; older ones belong to the one that made them, by their format."""
        self._catalog = catalog
        self._driver = driver
        self._shown_by = shown_by
        self._syncer = syncer

    async def prepare(self, key: str, parent: str | None, labels: Mapping[str, str]) -> tuple[Mount, ...]:
        """See ``protocol.Snapshots``."""
        return await self._make(key, Kind.ACTIVE, parent, labels)

    async def view(self, key: str, parent: str | None, labels: Mapping[str, str]) -> tuple[Mount, ...]:
        """See ``protocol.Snapshots``."""
        return await self._make(key, Kind.VIEW, parent, labels)

    async def mounts(self, key: str) -> tuple[Mount, ...]:
        """See ``protocol.Snapshots``."""

        def look(db: sqlite3.Connection) -> tuple[Snapshot, Sequence[sqlite3.Row]]:
            return rows.get(db, key), rows.chain(db, key)

        snapshot, chain = await self._catalog.read(look)
        if snapshot.kind is Kind.COMMITTED or snapshot.dir_id is None or snapshot.format is None:
            raise ConflictError(f"snapshot {key!r} is committed: prepare or view it first")
        directory = self._catalog.disk.snapshot(snapshot.dir_id)
        async with self._still(key):
            if not (directory / "fs").exists():
                raise DataLossError(f"snapshot {key!r} has vanished from disk: remove it")
            driver = self._shown_by[snapshot.format]
            return await driver.mounts(directory, snapshot.kind, await self._catalog.pieces(chain[1:]))

    async def commit(self, name: str, key: str, labels: Mapping[str, str]) -> None:
        """See ``protocol.Snapshots``."""
        snapshot = await self._catalog.read(lambda db: rows.find(db, key))
        if snapshot is None:
            if await self._catalog.read(lambda db: rows.made_from(db, name)) == key:
                return
            raise NotFoundError(f"snapshot {key!r} does not exist")
        if snapshot.kind is not Kind.ACTIVE or snapshot.dir_id is None:
            raise ConflictError(f"snapshot {key!r} is {snapshot.kind.value}, only an active one can be committed")
        await self._catalog.read(lambda db: rows.refuse_existing(db, name))
        await self._syncer.sync()
        usage = await self._measure(snapshot)
        now_ns = self._catalog.now_ns()
        await self._catalog.write(lambda db: rows.commit(db, name, key, usage, labels, now_ns))
        log.info("snapshot committed", name=name, key=key, size_bytes=usage.size_bytes)

    async def remove(self, key: str) -> None:
        """See ``protocol.Snapshots``."""
        found = await self._catalog.read(lambda db: rows.get(db, key))
        # A directory must not go before its row is gone for good, unless the next start would not mind.
        durable = TRANSIENT_LABEL not in found.labels
        removed = await self._catalog.write(lambda db: rows.delete(db, key), durable=durable)
        self._catalog.set_aside.drop("snapshot", key)
        if removed.dir_id is not None:
            self._catalog.disk.discard(self._catalog.disk.snapshot(removed.dir_id))
        else:
            await self._catalog.collect()
        await self._catalog.take_down_outlived(removed.parent)

    async def stat(self, key: str) -> Snapshot:
        """See ``protocol.Snapshots``."""
        return await self._catalog.read(lambda db: rows.get(db, key))

    async def update(self, key: str, labels: Mapping[str, str | None], *, replace: bool) -> Snapshot:
        """See ``protocol.Snapshots``."""
        now_ns = self._catalog.now_ns()

        def merge(db: sqlite3.Connection) -> Snapshot:
            before = {} if replace else rows.get(db, key).labels
            after = {name: value for name, value in {**before, **labels}.items() if value is not None}
            return rows.relabel(db, key, after, now_ns)

        return await self._catalog.write(merge)

    async def list(self, filters: Sequence[str]) -> list[Snapshot]:
        """See ``protocol.Snapshots``."""
        matches = selection.parse(filters)
        return [snapshot for snapshot in await self._catalog.read(rows.everything) if matches(snapshot)]

    async def usage(self, key: str) -> Usage:
        """See ``protocol.Snapshots``."""
        snapshot = await self.stat(key)
        if snapshot.diff_id is not None:
            diff_id = snapshot.diff_id
            layer = await self._catalog.read(lambda db: rows.layer(db, diff_id))
            return layer.usage if layer else Usage()
        return snapshot.own if snapshot.kind is Kind.COMMITTED else await self._measure(snapshot)

    async def cleanup(self) -> None:
        """See ``protocol.Snapshots``."""
        await self._catalog.collect()
        await self._catalog.disk.empty_trash()

    async def _make(self, key: str, kind: Kind, parent: str | None, labels: Mapping[str, str]) -> tuple[Mount, ...]:
        def look(db: sqlite3.Connection) -> Sequence[sqlite3.Row]:
            rows.refuse_existing(db, key)
            if parent is None:
                return ()
            rows.parent_id(db, parent)
            return rows.chain(db, parent)

        async with self._still(parent):
            pieces = await self._catalog.pieces(await self._catalog.read(look))
            with disk_errors(f"snapshot {key!r}"):
                return await self._begin(key, kind, parent, labels, pieces)

    @asynccontextmanager
    async def _still(self, key: str | None) -> AsyncIterator[None]:
        """Raise NotFoundError if something is missing on disk because ``key`` was removed meanwhile: no loss."""
        try:
            yield
        except DataLossError:
            if key is not None:
                await self.stat(key)
            raise

    async def _begin(
        self, key: str, kind: Kind, parent: str | None, labels: Mapping[str, str], pieces: tuple[Piece, ...]
    ) -> tuple[Mount, ...]:
        dir_id = await self._catalog.number()
        directory = self._catalog.disk.snapshot(dir_id)
        directory.mkdir(mode=0o700)
        try:
            await self._driver.fill(directory, kind, pieces)
            durable = TRANSIENT_LABEL not in labels
            # A new directory's own sync brings the names of it and of what it is in to disk, on all file systems that
            # a machine boots from; without it, a power cut may leave the row and take the directory.
            if durable:
                await asyncio.to_thread(sync_directory, directory)
            mounts = await self._driver.mounts(directory, kind, pieces)
            now_ns = self._catalog.now_ns()
            snapshot = Snapshot(
                key=key,
                kind=kind,
                parent=parent,
                created_at_ns=now_ns,
                updated_at_ns=now_ns,
                labels=dict(labels),
                dir_id=dir_id,
                format=self._driver.snapshot_format,
            )
            await self._catalog.write(partial(rows.insert, snapshot=snapshot), durable=durable)
        except BaseException:
            # A cancelled write may have been done: the row decides.
            if not await asyncio.shield(self._catalog.read(lambda db: rows.owns(db, dir_id))):
                self._catalog.disk.discard(directory)
            raise
        return mounts

    async def _measure(self, snapshot: Snapshot) -> Usage:
        """Return what was written to it; the directories that a mount needs are in each that ever ran."""
        if snapshot.dir_id is None:
            return Usage()
        return await walking(partial(measure, self._catalog.disk.snapshot(snapshot.dir_id) / "fs", directories=False))
