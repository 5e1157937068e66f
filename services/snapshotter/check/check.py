"""Is what the snapshotter keeps whole? Images against digests, rows against directories, and rows against each other.

A directory tree has no digest: of a layer that is one, it can only be known that it is there and holds as many entries
as were unpacked; of what a container wrote, only that it is there.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Final

from sampan import check as kinds
from sampan.check import Amount, Finding, Means, Outcome, Step
from sampan.resource.snapshot import Kind
from sampan.store.verifying import Difference, ExpectedFile, verify
from sampan.sys.measuring import measure
from snapshotter.check import rows as check_rows
from snapshotter.check.repair import Repairer
from snapshotter.check.rows import Rows
from snapshotter.drivers.erofs.mounts import ErofsMounts
from snapshotter.layers.formats import LayerFormat
from snapshotter.model import Layer, Snapshot
from snapshotter.snapshots import store as rows
from snapshotter.snapshots.catalog import Catalog

_LAYER_KINDS: Final = {
    "missing": kinds.LAYER_MISSING,
    "size": kinds.LAYER_TRUNCATED,
    "digest": kinds.LAYER_DAMAGED,
    "unreadable": kinds.LAYER_UNREADABLE,
    "changed": kinds.LAYER_CHANGED,
}

_REAPPLY: Final = "make it again of its blob; containers that run on it keep what they have until they start again"


class LayersCheck:
    """Satisfies ``sampan.check.Checker``."""

    kinds = (
        kinds.LAYER_MISSING, kinds.LAYER_TRUNCATED, kinds.LAYER_DAMAGED, kinds.LAYER_CHANGED, kinds.LAYER_UNREADABLE,
        kinds.LAYER_ORPHAN, kinds.SNAPSHOT_MISSING, kinds.SNAPSHOT_ORPHAN, kinds.CHAIN_BROKEN, kinds.MOUNT_BROKEN,
        kinds.ROW_BROKEN,
    )  # fmt: skip

    def __init__(self, catalog: Catalog, erofs: ErofsMounts, repairer: Repairer) -> None:
        self._catalog = catalog
        self._disk = catalog.disk
        self._erofs = erofs
        self._repairer = repairer

    async def check(self, *, quick: bool) -> AsyncGenerator[Step, None]:
        """See ``Checker``. A layer that is found damaged counts as missing from then on for whoever applies it."""
        before = set(await asyncio.to_thread(self._directories))
        known = await self._catalog.read(check_rows.look)
        async with aclosing(self._layer_files(known.layers, quick=quick)) as steps:
            async for step in steps:
                yield step
        async with aclosing(self._trees(known.layers)) as steps:
            async for step in steps:
                yield step
        for snapshot in known.snapshots:
            finding = await self._snapshot(snapshot)
            if finding is not None:
                yield finding
        async for finding in self._rows(known):
            yield finding
        for finding in await asyncio.to_thread(self._mounts, known.layers):
            yield finding
        for path in await self._strays(before):
            kind = kinds.LAYER_ORPHAN if path.parent == self._disk.layers else kinds.SNAPSHOT_ORPHAN
            name = str(path.relative_to(self._disk.root))
            yield Finding(kind, name, "no row knows its directory", "remove the directory", str(path))

    async def repair(self, finding: Finding, means: Means) -> Outcome:
        """See ``Checker``."""
        return await self._repairer.repair(finding, means)

    async def _layer_files(self, layers: Iterable[Layer], *, quick: bool) -> AsyncGenerator[Step, None]:
        files = {self._disk.erofs_image(layer.dir_id): layer for layer in layers if layer.format is LayerFormat.EROFS}
        # One that was stored before EROFS images had a digest is looked at by its size alone.
        expected = [
            ExpectedFile(path, self._erofs.expected_bytes(path), "" if quick else layer.erofs_digest)
            for path, layer in files.items()
        ]
        async with aclosing(verify("layers", expected)) as steps:
            async for step in steps:
                if isinstance(step, Amount):
                    yield step
                elif (finding := await self._layer(files[step[0].path], step[1], step[0].path)) is not None:
                    yield finding

    async def _trees(self, layers: Iterable[Layer]) -> AsyncGenerator[Step, None]:
        trees = [layer for layer in layers if layer.format is LayerFormat.TREE]
        for done, layer in enumerate(trees):
            yield Amount("layer directories", done, len(trees))
            path = self._disk.layer(layer.dir_id)
            difference = await asyncio.to_thread(_compare_tree, path, layer.usage.inodes)
            if difference is not None and (finding := await self._layer(layer, difference, path)) is not None:
                yield finding
        if trees:
            yield Amount("layer directories", len(trees), len(trees))

    async def _layer(self, layer: Layer, difference: Difference, path: Path) -> Finding | None:
        if not await self._catalog.write(lambda db: check_rows.mark_damaged(db, layer, difference.problem)):
            return None  # removed, or put right, meanwhile
        users = await self._catalog.read(lambda db: check_rows.users(db, layer.diff_id))
        return Finding(
            _LAYER_KINDS[difference.kind], layer.diff_id, difference.problem, _REAPPLY, str(path), affected=users
        )

    async def _snapshot(self, snapshot: Snapshot) -> Finding | None:
        if snapshot.dir_id is None:
            return None
        path = self._disk.snapshot(snapshot.dir_id) / "fs"
        if await asyncio.to_thread(path.is_dir):
            return None
        dir_id = snapshot.dir_id
        if not await self._catalog.read(lambda db: rows.owns(db, dir_id)):
            return None  # removed meanwhile
        committed = snapshot.kind is Kind.COMMITTED
        users = await self._catalog.read(lambda db: check_rows.users(db, snapshot.key))
        remedy = (
            "remove it: nothing else has its files" if committed else "begin it anew: what was written to it is lost"
        )
        return Finding(
            kinds.SNAPSHOT_MISSING,
            snapshot.key,
            "its directory is gone",
            remedy,
            str(path),
            mendable=not committed,
            affected=users,
        )

    async def _rows(self, known: Rows) -> AsyncGenerator[Finding, None]:
        for diff_id in known.lost_layers:
            users = await self._catalog.read(lambda db, diff_id=diff_id: check_rows.users(db, diff_id))  # type: ignore[misc]
            yield Finding(kinds.LAYER_MISSING, diff_id, "its row is gone", _REAPPLY, affected=users)
        broken = [(key, "its parent's row is gone") for key in known.lost_parents]
        broken += [(key, "its name is not that of its layers") for key in known.misnamed]
        for key, problem in broken:
            users = await self._catalog.read(lambda db, key=key: check_rows.users(db, key))  # type: ignore[misc]
            yield Finding(
                kinds.CHAIN_BROKEN,
                key,
                problem,
                "remove it: whoever needs the stack makes it again",
                mendable=not users,
                affected=users,
            )
        for number in known.stray_labels:
            yield Finding(
                kinds.ROW_BROKEN, f"labels/{number}", "they are of a snapshot that is not recorded", "remove the rows"
            )

    def _mounts(self, layers: Iterable[Layer]) -> list[Finding]:
        """Mounted EROFS images: each must be of a layer's file as it is now, and readable. Blocks."""
        files = {layer.dir_id: str(self._disk.erofs_image(layer.dir_id)) for layer in layers}
        found = []
        for number, source in self._erofs.shown():
            path = self._erofs.path(number)
            if number not in files:
                problem = "it is mounted, and no row has its layer"
            elif source not in (files[number], ""):
                problem = f"it shows {source} and not its layer's file"
            elif error := _cannot_list(path):
                problem = f"it cannot be read: {error}"
            else:
                continue
            remedy = "unmount it; containers that run on it keep what they have, and whoever needs it mounts it again"
            found.append(Finding(kinds.MOUNT_BROKEN, str(number), problem, remedy, str(path)))
        return found

    def _directories(self) -> list[Path]:
        return [*self._disk.layers.iterdir(), *self._disk.snapshots.iterdir()]

    async def _strays(self, before: set[Path]) -> list[Path]:
        """Directories that no row knew all the while: what the next start, or pass of garbage collection, removes."""
        making = self._catalog.being_made()
        known = await self._catalog.read(check_rows.look)
        owned = {self._disk.layer(layer.dir_id) for layer in known.layers}
        owned |= {self._disk.snapshot(one.dir_id) for one in known.snapshots if one.dir_id is not None}
        now = set(await asyncio.to_thread(self._directories))
        return sorted(
            path for path in (before & now) - owned if not path.name.isdecimal() or int(path.name) not in making
        )


def _compare_tree(path: Path, inodes: int) -> Difference | None:
    try:
        found = measure(path).inodes
    except FileNotFoundError:
        return Difference("missing", "its directory is gone")
    except OSError as error:
        return Difference("unreadable", f"its directory cannot be read: {error.strerror}")
    if found != inodes:
        return Difference("changed", f"its directory holds {found} entries instead of {inodes}")
    return None


def _cannot_list(path: Path) -> str:
    try:
        next(path.iterdir(), None)
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""
