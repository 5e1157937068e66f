"""Garbage collection of stacks and layers: mark from what images and snapshots need, remove the rest.

A pull stacks its layers before its image has a name. Two things keep such a stack: the pull's lease says from the
beginning what it will unpack, and ends in the transaction that makes the image; and whoever calls Stack, or Apply,
after the roots were asked for is noted. So a stack goes only if it was neither needed when the roots were asked for,
nor has anybody asked for it since.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final

from sampan.disk import NOTHING_FREED, Freed, Root, StoredObject
from snapshotter.gc.mark import doomed
from snapshotter.gc.usage import LayerUsage, RootSource
from snapshotter.snapshots import store as rows
from snapshotter.snapshots.catalog import Catalog

# Rows removed in one transaction: a few milliseconds, and then it is somebody else's turn.
_BATCH: Final = 50


class LayerCollector:
    """Satisfies ``sampan.disk.Collector``."""

    kinds: Sequence[str] = ("snapshot", "layer", "stray", "mount")

    def __init__(self, catalog: Catalog, roots: RootSource, usage: LayerUsage) -> None:
        self._catalog = catalog
        self._roots = roots
        self._usage = usage

    async def collect(self, *, leftovers: bool) -> Mapping[str, Freed]:  # noqa: ARG002 - nothing here waits for one
        """See ``sampan.disk.Collector``."""
        with self._catalog.wanted.noted():
            roots = await self._roots.roots()
            snapshots = await self._sweep(roots)
            await self._end_holds(roots)
        layers = NOTHING_FREED
        for layer in await self._catalog.collect():
            layers += Freed(1, layer.usage.size_bytes)
        strays = await self._catalog.discard_strays()
        mounts = await self._catalog.hide_strays()
        self._catalog.disk.empty_soon()
        return {"snapshot": Freed(snapshots), "layer": layers, "stray": strays, "mount": Freed(mounts)}

    def objects(self, *, measure: bool) -> AsyncGenerator[Sequence[StoredObject], None]:
        """See ``sampan.disk.Collector``."""
        return self._usage.objects(measure=measure)

    async def _sweep(self, roots: Sequence[Root]) -> int:
        # A builder's cache may have thousands of stacks.
        keys = await asyncio.to_thread(doomed, await self._catalog.read(rows.nodes), roots)
        wanted = self._catalog.wanted
        count = 0
        for first in range(0, len(keys), _BATCH):
            batch = keys[first : first + _BATCH]
            # They have nothing on disk, so nothing is lost if they come back after a power cut.
            count += await self._catalog.write(
                lambda db, batch=batch: rows.delete_stacked(db, batch, wanted),  # type: ignore[misc]
                durable=False,
            )
        return count

    async def _end_holds(self, roots: Sequence[Root]) -> None:
        """End holds on layers that no image and no lease needs: whoever applied them is gone."""
        needed = {diff_id for root in roots for diff_id in root.diff_ids}
        wanted, now_ns = self._catalog.wanted, self._catalog.now_ns()
        await self._catalog.write(lambda db: rows.end_holds(db, needed, wanted, now_ns))
