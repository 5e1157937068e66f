"""Put right what ``check`` finds: layers from their blobs, directories that are gone, directories nobody knows."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Final

from sampan import check as kinds
from sampan.check import Finding, Means, Outcome
from sampan.oci.digest import Digest
from sampan.resource.snapshot import Kind
from sampan.sys.files import sync_directory
from snapshotter.check import rows as check_rows
from snapshotter.drivers.driver import Driver
from snapshotter.drivers.erofs.mounts import ErofsMounts
from snapshotter.layers.apply import Applier
from snapshotter.model import SnapshotFormat
from snapshotter.snapshots import store as rows
from snapshotter.snapshots.catalog import Catalog

_ORPHANS: Final = frozenset({kinds.LAYER_ORPHAN, kinds.SNAPSHOT_ORPHAN})


class Repairer:
    """Repairs one finding at a time, and touches nothing else."""

    def __init__(
        self,
        catalog: Catalog,
        erofs: ErofsMounts,
        applier: Applier,
        shown_by: Mapping[SnapshotFormat, Driver],
    ) -> None:
        self._catalog = catalog
        self._erofs = erofs
        self._applier = applier
        self._shown_by = shown_by

    async def repair(self, finding: Finding, means: Means) -> Outcome:
        """See ``sampan.check.Checker``."""
        subject = finding.subject
        if finding.kind in _ORPHANS:
            return await self._discard(subject)
        if finding.kind == kinds.MOUNT_BROKEN:
            await self._erofs.hide(int(subject))
            return Outcome(repaired=True, text="unmounted")
        if finding.kind == kinds.SNAPSHOT_MISSING:
            return await self._begin_anew(subject)
        if finding.kind == kinds.CHAIN_BROKEN:
            if await self._catalog.write(lambda db: check_rows.drop_chain(db, subject)):
                return Outcome(repaired=True, text="removed")
            return Outcome(repaired=False, text="something stands on it: remove those containers first")
        if finding.kind == kinds.ROW_BROKEN:
            number = int(subject.removeprefix("labels/"))
            await self._catalog.write(lambda db: check_rows.drop_labels(db, number))
            return Outcome(repaired=True, text="removed")
        return await self._apply(Digest.parse(subject), means, finding.problem)

    async def _apply(self, diff_id: Digest, means: Means, problem: str) -> Outcome:
        if means.blob is None:
            return Outcome(repaired=False, text="no image says which blob it is made of: remove what stands on it")
        layer = await self._catalog.read(lambda db: rows.layer(db, diff_id))
        if layer is not None and not layer.damaged and self._catalog.can_show(layer):
            return Outcome(repaired=True, text="somebody has made it again")
        if layer is not None:  # else Apply takes it for whole
            await self._catalog.write(lambda db: check_rows.mark_damaged(db, layer, problem))
        async with aclosing(self._applier.apply(means.blob, diff_id)) as steps:
            async for _ in steps:
                pass
        await self._catalog.write(lambda db: rows.release(db, [diff_id]))
        return Outcome(repaired=True, text=f"made again of blob {means.blob.digest}")

    async def _begin_anew(self, key: str) -> Outcome:
        snapshot = await self._catalog.read(lambda db: rows.find(db, key))
        if snapshot is None or snapshot.dir_id is None or snapshot.format is None:
            return Outcome(repaired=True, text="it is gone altogether")
        directory = self._catalog.disk.snapshot(snapshot.dir_id)
        if (directory / "fs").is_dir():
            return Outcome(repaired=True, text="its directory is there")
        if snapshot.kind is Kind.COMMITTED:
            return Outcome(repaired=False, text="nothing else has its files")
        chain = await self._catalog.read(lambda db: rows.chain(db, key))
        pieces = await self._catalog.pieces(chain[1:])
        if directory.exists():
            self._catalog.disk.discard(directory)
        directory.mkdir(mode=0o700)
        await self._shown_by[snapshot.format].fill(directory, snapshot.kind, pieces)
        await asyncio.to_thread(sync_directory, directory)
        return Outcome(repaired=True, text="begun anew: what was written to it is lost")

    async def _discard(self, name: str) -> Outcome:
        kind, _, number = name.partition("/")
        disk = self._catalog.disk
        parent = {"l": disk.layers, "s": disk.snapshots}.get(kind)
        if parent is None or not number or number in (".", "..") or "/" in number:
            return Outcome(repaired=False, text=f"{name!r} is no directory of ours")
        if number.isdecimal():
            owns = rows.owns_layer if kind == "l" else rows.owns
            if int(number) in self._catalog.being_made() or await self._catalog.read(lambda db: owns(db, int(number))):
                return Outcome(repaired=True, text="a row knows it now")
        disk.discard(parent / number)
        return Outcome(repaired=True, text="removed")
