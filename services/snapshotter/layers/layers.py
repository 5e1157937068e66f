"""Layers by diff ID, and the stacks that images are made of."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Final

from sampan.cancellation import to_the_end
from sampan.errors import ConflictError, NotFoundError, SampanError
from sampan.log import log
from sampan.oci.chain import chain_ids
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.resource.snapshot import ApplyProgress, Change, DriversReport, Kind, SnapshotUsage, Unstacked
from sampan.sys.measuring import NO_USAGE, Usage, measure
from sampan.sys.trees import walking
from snapshotter.diff.comparison import changes_between
from snapshotter.layers.apply import Applier
from snapshotter.model import Layer, Snapshot
from snapshotter.snapshots import store as rows
from snapshotter.snapshots.catalog import Catalog

# How often to look for holds that have run out, at least; a hold made in between is seen in time.
_LOOK_S: Final = 600.0


class LocalLayers:
    """Satisfies ``protocol.Layers``."""

    def __init__(self, catalog: Catalog, applier: Applier, report: DriversReport) -> None:
        self._catalog = catalog
        self._applier = applier
        self._report = report
        self._collector: asyncio.Task[None] | None = None
        self._usages: tuple[tuple[SnapshotUsage, ...], tuple[Snapshot, ...]] = (), ()
        self._usages_at = -1  # of the connection's changes
        self._unpacking: dict[str, asyncio.Task[None]] = {}  # by chain ID

    def start(self) -> None:
        """Remove layers whose hold runs out, from now on."""
        self._collector = asyncio.create_task(self._collect(), name="collect layers")

    async def close(self) -> None:
        """Stop doing so, and give up what is being applied."""
        if self._collector is not None:
            self._collector.cancel()
            with suppress(asyncio.CancelledError):
                await self._collector
        for chain_id in tuple(self._unpacking):
            await self._end_unpacking(chain_id)
        await self._applier.close()

    def apply(self, descriptor: Descriptor, diff_id: Digest) -> AsyncGenerator[ApplyProgress, None]:
        """See ``protocol.Layers``."""
        self._catalog.wanted.ask([diff_id])
        return self._applier.apply(descriptor, diff_id)

    async def stack(self, diff_ids: Sequence[Digest]) -> str:
        """See ``protocol.Layers``."""
        if not diff_ids:
            return ""
        names = chain_ids(diff_ids)
        below = names[-2] if len(names) > 1 else None
        self._catalog.wanted.ask(names)

        def look(db: sqlite3.Connection) -> tuple[list[Layer | None], bool]:
            top = rows.find(db, names[-1])
            stands = top is not None and top.kind is Kind.COMMITTED and top.parent == below
            return [rows.layer(db, diff_id) for diff_id in diff_ids], stands and not rows.any_held(db, diff_ids)

        layers, settled = await self._catalog.read(look)
        for diff_id, layer in zip(diff_ids, layers, strict=True):
            # One that is only a row any more can be applied again, which is what this error makes callers do.
            if layer is None or not self._catalog.can_show(layer):
                raise NotFoundError(f"layer {diff_id} is not stored: apply it first")
        if settled:  # each container's creation asks for its stack, and a transaction is a wait for the disk
            self._catalog.keep(names)
            return names[-1]
        now_ns = self._catalog.now_ns()

        def make(db: sqlite3.Connection) -> None:
            parent: str | None = None
            for name, diff_id in zip(names, diff_ids, strict=True):
                if rows.layer(db, diff_id) is None:
                    raise NotFoundError(f"layer {diff_id} is not stored: apply it first")
                existing = rows.find(db, name)
                if existing is None:
                    rows.insert(db, Snapshot(name, Kind.COMMITTED, parent, now_ns, now_ns, {}, diff_id))
                elif existing.kind is not Kind.COMMITTED or existing.parent != parent:
                    raise ConflictError(f"snapshot {name!r} exists and is not the stack of that name: remove it")
                parent = name
            rows.release(db, set(diff_ids))

        await self._catalog.write(make)
        self._catalog.keep(names)
        return names[-1]

    async def unpack(self, layers: Sequence[tuple[Descriptor, Digest]]) -> None:
        """See ``protocol.Layers``."""
        if not layers:
            return
        chain_id = chain_ids([diff_id for _, diff_id in layers])[-1]
        if chain_id not in self._unpacking:
            task = asyncio.create_task(self._unpack(layers), name=f"unpack {chain_id}")
            self._unpacking[chain_id] = task
            task.add_done_callback(lambda _: self._unpacking.pop(chain_id, None))

    async def _unpack(self, layers: Sequence[tuple[Descriptor, Digest]]) -> None:
        held: list[Digest] = []
        try:
            for diff_id, descriptor in {diff_id: descriptor for descriptor, diff_id in layers}.items():
                async with aclosing(self._applier.apply(descriptor, diff_id)) as steps:
                    async for _ in steps:
                        pass
                held.append(diff_id)

            async def stack() -> None:
                await self.stack([diff_id for _, diff_id in layers])
                held.clear()  # by the same transaction

            await to_the_end(stack())
        except SampanError as error:
            log.warning("layers not unpacked in the background", error=str(error))
        finally:
            if held:
                await to_the_end(self._applier.release(held))

    async def _end_unpacking(self, chain_id: str) -> None:
        if (task := self._unpacking.get(chain_id)) is not None:
            task.cancel()
            await asyncio.wait([task])

    async def unstack(self, stacks: Sequence[Sequence[str]]) -> Unstacked:
        """See ``protocol.Layers``."""
        for stack in stacks:
            for chain_id in stack:
                await self._end_unpacking(chain_id)

        return await self._catalog.take_down(stacks)

    async def drivers(self) -> DriversReport:
        """See ``protocol.Layers``."""
        return self._report

    async def usages(self, *, committed: bool = False) -> Sequence[SnapshotUsage]:
        """See ``protocol.Layers``."""

        found, written = await self._catalog.read(self._frozen)
        if committed or not written:
            return found
        sizes = [await self._measure(snapshot) for snapshot in written]
        return [
            *found,
            *(
                SnapshotUsage(snapshot.key, snapshot.parent, usage, None, 0)
                for snapshot, usage in zip(written, sizes, strict=True)
            ),
        ]

    def _frozen(self, db: sqlite3.Connection) -> tuple[tuple[SnapshotUsage, ...], tuple[Snapshot, ...]]:
        """Return the use of what is committed, and the others; the same tuples as long as no row has changed."""
        if self._usages_at != db.total_changes:
            sizes = {layer.diff_id: layer.usage for layer in rows.layers(db)}
            users = rows.layer_users(db)
            snapshots = rows.everything(db)
            frozen = tuple(
                SnapshotUsage(
                    snapshot.key,
                    snapshot.parent,
                    snapshot.own if snapshot.diff_id is None else sizes[snapshot.diff_id],
                    snapshot.diff_id,
                    users.get(snapshot.diff_id or "", 0),
                )
                for snapshot in snapshots
                if snapshot.kind is Kind.COMMITTED
            )
            self._usages = frozen, tuple(one for one in snapshots if one.kind is not Kind.COMMITTED)
            self._usages_at = db.total_changes
        return self._usages

    async def changes(self, key: str) -> list[Change]:
        """See ``protocol.Layers``."""

        def look(db: sqlite3.Connection) -> Sequence[sqlite3.Row]:
            rows.get(db, key)
            return rows.chain(db, key)

        chain = await self._catalog.read(look)
        below, own = await self._catalog.pieces(chain[1:]), await self._catalog.pieces(chain)
        return await walking(partial(changes_between, below, own))

    async def _measure(self, snapshot: Snapshot) -> Usage:
        """Return what was written to it; the directories that a mount needs are in each that ever ran."""
        if snapshot.dir_id is None:
            return NO_USAGE
        try:
            return await walking(
                partial(measure, self._catalog.disk.snapshot(snapshot.dir_id) / "fs", directories=False)
            )
        except FileNotFoundError:  # removed meanwhile
            return NO_USAGE

    async def _collect(self) -> None:
        while True:
            end_ns = await self._catalog.read(rows.next_hold_end_ns)
            wait_s = _LOOK_S if end_ns is None else min(_LOOK_S, (end_ns - self._catalog.now_ns()) / 1e9)
            await asyncio.sleep(max(1.0, wait_s))
            await self._catalog.collect()
