"""Rows and directories together: what is where, and in which order both change.

Disk and rows cannot change in one step, so: make the directory, then commit the row; delete the row, then discard the
directory. Whatever a crash leaves is then a directory that no row knows, and the next start discards it.

What somebody asks for while a pass of garbage collection is under way is noted here: the pass leaves it alone.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from sampan.disk import NOTHING_FREED, Freed
from sampan.errors import DataLossError
from sampan.log import log
from sampan.resource.snapshot import TRANSIENT_LABEL, Kind, Unstacked
from sampan.service.set_aside import SetAside
from sampan.store.database import Store
from sampan.sys.measuring import measure_any
from sampan.sys.trees import walking
from snapshotter.drivers.erofs.mounts import ErofsMounts
from snapshotter.layers.formats import LayerFormat
from snapshotter.model import Layer, Piece, Snapshot, SnapshotFormat
from snapshotter.snapshots import store as rows
from snapshotter.snapshots.directories import Disk


class Wanted:
    """Names of stacks and layers. Asked on the event loop, looked at on the store's thread as well."""

    def __init__(self) -> None:
        self._asked: set[str] | None = None  # None: nobody looks

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note what is asked for during the block; one block at a time."""
        assert self._asked is None
        self._asked = set()
        try:
            yield
        finally:
            self._asked = None

    def ask(self, names: Iterable[str]) -> None:
        """Say so before anything else is done: what a pass removes after that is not among them."""
        if self._asked is not None:
            self._asked.update(names)

    def __contains__(self, name: object) -> bool:
        return self._asked is not None and name in self._asked


T = TypeVar("T")

# Layers removed by one transaction.
_COLLECTED: Final = 100

# Numbers reserved by one transaction, and lost by a restart.
_RESERVED: Final = 1000


class Catalog:
    """One service's database and disk."""

    def __init__(
        self,
        store: Store,
        disk: Disk,
        erofs: ErofsMounts,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        counted: Callable[[dict[str, int]], None] = lambda _: None,
    ) -> None:
        """``counted`` is told how many snapshots there are of each kind, after each change."""
        self.disk = disk
        self._erofs = erofs
        self.now_ns = now_ns
        self._store = store
        self._counted = counted
        self._numbers = range(0)
        self._makers: dict[int, asyncio.Task[object] | None] = {}
        self.wanted = Wanted()
        # What was to be taken down while a container stood on it, by the chain ID at its top: it goes with the last
        # one, instead of with a pass of garbage collection, which finds it after a restart.
        self._outlived: dict[str, Sequence[str]] = {}
        self._reserving = asyncio.Lock()
        self.set_aside = SetAside()

    async def recover(self, set_aside: SetAside | None = None) -> None:
        """Make disk and rows agree after whatever ended the last process. Nothing may be served before.

        A layer or snapshot that has vanished is set aside: who asks for it is told, and it can be removed.
        """
        self.set_aside = set_aside = set_aside or SetAside()
        await asyncio.to_thread(self.disk.prepare, set_aside)
        snapshots = await self.read(rows.everything)
        layers = await self.read(rows.layers)
        own = {snapshot.dir_id for snapshot in snapshots if snapshot.dir_id is not None}
        numbers = {layer.dir_id for layer in layers}
        await asyncio.to_thread(self.disk.finish_moves, numbers - own)
        await asyncio.to_thread(self._erofs.prepare, self.disk.root, numbers, set_aside)
        if self._store.restored is not None and self._store.restored.lossy:
            for place in await asyncio.to_thread(self.disk.set_aside, own):
                log.warning("directory of an unknown snapshot set aside", path=str(place))
        strays = await asyncio.to_thread(self.disk.adopt, numbers, own, set_aside)
        if strays:
            log.info("discarded what was left unfinished", directories=strays)
        for layer in layers:
            if not self.disk.layer(layer.dir_id).exists():
                set_aside.add("layer", layer.diff_id, "it has vanished from disk: pull its image again")
        for snapshot in snapshots:
            if snapshot.dir_id is not None and not (self.disk.snapshot(snapshot.dir_id) / "fs").exists():
                if TRANSIENT_LABEL in snapshot.labels:  # whoever made it did not wait for the disk
                    await self.write(partial(rows.delete, key=snapshot.key))
                else:
                    set_aside.add("snapshot", snapshot.key, "it has vanished from disk: remove it")
        await self.collect()

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query."""
        return await self._store.read(fn)

    async def write(self, fn: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        """Run a transaction; ``durable`` as for ``Store.write``."""

        def counting(db: sqlite3.Connection) -> tuple[T, dict[str, int]]:
            return fn(db), rows.kinds(db)

        result, kinds = await self._store.write(counting, durable=durable)
        self._counted({kind.value: kinds.get(kind.value, 0) for kind in Kind})
        return result

    async def number(self) -> int:
        """Return a directory name that was never used."""
        async with self._reserving:
            if not self._numbers:
                first = await self._store.write(lambda db: rows.reserve_numbers(db, _RESERVED))
                self._numbers = range(first, first + _RESERVED)
            number, self._numbers = self._numbers[0], self._numbers[1:]
            self.being_made()
            self._makers[number] = asyncio.current_task()
            return number

    def remake(self, number: int) -> None:
        """Say that this task makes something else of a directory, whose row will be another one's."""
        self.being_made()
        self._makers[number] = asyncio.current_task()

    def being_made(self) -> set[int]:
        """Return the names of directories that may be there without a row: whoever got them is still at work."""
        self._makers = {number: task for number, task in self._makers.items() if task is not None and not task.done()}
        return set(self._makers)

    async def collect(self) -> list[Layer]:
        """Remove the layers that no snapshot uses and nobody holds; return them."""
        now_ns = self.now_ns()
        removed: list[Layer] = []
        while True:
            some = await self.write(lambda db: rows.collect_layers(db, now_ns, _COLLECTED))
            await self._discard_layers(some)
            removed += some
            if len(some) < _COLLECTED:
                return removed

    async def _discard_layers(self, layers: Sequence[Layer]) -> None:
        """Discard what is on disk of layers whose rows are gone for good."""
        for layer in layers:
            self.disk.discard(self.disk.layer(layer.dir_id))
        await self._erofs.hide(*(layer.dir_id for layer in layers if layer.format is LayerFormat.EROFS))
        for layer in layers:
            self.set_aside.drop("layer", layer.diff_id)
            log.info("layer removed", diff_id=layer.diff_id, size_bytes=layer.usage.size_bytes)

    def keep(self, chain_ids: Sequence[str]) -> None:
        """Say that an image needs these stacks again, once they stand: what was taken down before is known by then."""
        for chain_id in chain_ids:
            self._outlived.pop(chain_id, None)

    async def take_down(self, stacks: Sequence[Sequence[str]]) -> Unstacked:
        """Remove snapshots of stacks, chain IDs base first, from the top down, and then the layers that nobody uses."""

        now_ns = self.now_ns()
        gone: list[str] = []
        removed: list[Snapshot] = []
        left: dict[str, Sequence[str]] = {}

        def delete(db: sqlite3.Connection) -> list[Layer]:
            for found in (gone, removed, left):  # on a full disk it runs once more
                found.clear()
            for stack in stacks:
                for at, key in reversed(list(enumerate(stack))):
                    snapshot = rows.find(db, key)
                    if snapshot is not None:
                        if snapshot.kind is not Kind.COMMITTED:
                            break
                        if rows.has_children(db, key):
                            left[key] = stack[: at + 1]
                            break
                        removed.append(rows.delete(db, key))
                    gone.append(key)
            return rows.collect_layers(db, now_ns, _COLLECTED)

        # One transaction, for each is a wait for the disk: a directory must not go before its row is gone for good.
        layers = await self.write(delete)
        self._outlived |= left
        for snapshot in removed:
            if snapshot.dir_id is not None:
                self.disk.discard(self.disk.snapshot(snapshot.dir_id))
        await self._discard_layers(layers)
        if len(layers) == _COLLECTED:
            layers += await self.collect()
        own_bytes = sum(snapshot.own.size_bytes for snapshot in removed)
        return Unstacked(tuple(gone), own_bytes + sum(layer.usage.size_bytes for layer in layers))

    async def take_down_outlived(self, chain_id: str | None) -> None:
        """Take down what had outlived its image on account of a snapshot of that parent, which is gone."""
        if chain_id is not None and (stack := self._outlived.pop(chain_id, None)) is not None:
            await self.take_down([stack])

    async def strays(self) -> list[Path]:
        """Return what is among the layers and snapshots and has no row, nor ever will have one.

        A directory is there before its row: one whose maker is still at work will have one, or be discarded by it.
        """
        found = await asyncio.to_thread(self.disk.names)
        making = self.being_made()  # before the rows are read: who is done by then has made its own
        known = await self.read(rows.numbers)
        strays = []
        for parent, names, numbers in zip((self.disk.layers, self.disk.snapshots), found, known, strict=True):
            rest = set(names) - set(map(str, numbers | making))
            strays += [parent / name for name in rest]
        return sorted(strays)

    async def discard_strays(self) -> Freed:
        """Discard them; return what they took."""
        freed = NOTHING_FREED
        for path in await self.strays():
            usage = await walking(partial(measure_any, path))
            self.disk.discard(path)
            freed += Freed(1, usage)
            log.warning("removed what had no row", path=str(path), size_bytes=usage)
        return freed

    async def hide_strays(self) -> int:
        """Unmount EROFS images of layers that are gone; return how many there were."""
        mounted = await self._erofs.mounted()
        layers, _ = await self.read(rows.numbers)
        gone = set(mounted) - layers
        await self._erofs.hide(*gone)
        return len(gone)

    async def discard_layer(self, layer: Layer) -> None:
        """Discard what is on disk of a layer that no row refers to any more."""
        self.disk.discard(self.disk.layer(layer.dir_id))
        if layer.format is LayerFormat.EROFS:
            await self._erofs.hide(layer.dir_id)

    def can_show(self, layer: Layer) -> bool:
        """Say whether the layer is on disk, whole as far as anybody knows, and in a form that this host can show."""
        if layer.damaged:
            return False
        if layer.format is LayerFormat.EROFS:
            return self._erofs.usable and self._erofs.is_complete(self.disk.erofs_image(layer.dir_id))
        return self.disk.layer(layer.dir_id).exists()

    async def layer(self, layer: Layer) -> Path:
        """Return the directory that shows a layer; EROFS is mounted. UnavailableError: it cannot be."""
        return await self._layer(layer.dir_id, layer.format)

    async def resolve(self, name: str) -> Path | None:
        """Return where the layer or snapshot is that ``name``, a path from one of our mounts, stands for; show it."""
        number = self._erofs.number(Path(name))
        if number is not None:
            return await self._erofs.show(number, self.disk.erofs_image(number))
        return self.disk.resolve(name)

    async def pieces(self, chain: Sequence[sqlite3.Row]) -> tuple[Piece, ...]:
        """Return where the snapshots of a chain are, nearest first, as far as they can be seen; EROFS is mounted.

        Of a layer that is in the chain twice only the nearest is returned: the other one's files and marks are all
        there as well, and overlayfs does not take a directory twice.

        Raises:
            DataLossError: one is missing on disk, or damaged.
            UnavailableError: one is an EROFS image, and cannot be mounted.
        """
        pieces: list[Piece] = []
        seen: set[Path] = set()
        for row in chain:
            if row["layer_dir_id"] is not None:
                where = await self._layer(row["layer_dir_id"], LayerFormat(row["layer_format"]))
                piece = Piece(where, complete=bool(row["complete"]))
            else:
                path = self.disk.snapshot(row["dir_id"]) / "fs"
                piece = Piece(path, complete=row["format"] == SnapshotFormat.FULL.value)
            if not piece.path.exists():
                raise DataLossError(
                    f"{piece.path} has vanished from disk: pull the image again, or remove the snapshot"
                )
            if piece.path not in seen:
                seen.add(piece.path)
                pieces.append(piece)
            if piece.complete:
                break
        return tuple(pieces)

    async def _layer(self, number: int, layer_format: LayerFormat) -> Path:
        if layer_format is LayerFormat.EROFS:
            return await self._erofs.show(number, self.disk.erofs_image(number))
        return self.disk.layer(number)
