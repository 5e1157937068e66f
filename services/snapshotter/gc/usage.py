"""Everything that the snapshotter has on disk, and who holds it."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from sampan.disk import FOREIGN, SERVICE, SNAPSHOT, WRITER, Holder, Root, StoredObject
from sampan.resource.snapshot import Kind
from sampan.sys.measuring import measure_any
from sampan.sys.trees import Stop, walking
from snapshotter.gc.mark import Node, layer_holders
from snapshotter.layers.formats import LayerFormat
from snapshotter.model import Layer, Snapshot
from snapshotter.snapshots import store as rows
from snapshotter.snapshots.catalog import Catalog


class RootSource(Protocol):
    """Who knows what must stay unpacked."""

    async def roots(self) -> Sequence[Root]:
        """Return all images, and all leases for images to come.

        Raises:
            UnavailableError: nobody answers.
        """


class LayerUsage:
    """Looks, and changes nothing."""

    def __init__(self, catalog: Catalog, roots: RootSource) -> None:
        self._catalog = catalog
        self._disk = catalog.disk
        self._roots = roots

    async def objects(self, *, measure: bool) -> AsyncGenerator[Sequence[StoredObject], None]:
        """Yield everything, as it is allocated on disk; without ``measure`` no snapshots that are still written to."""
        roots = await self._roots.roots()
        strays = await self._catalog.strays()

        def look(db: sqlite3.Connection) -> tuple[list[Layer], dict[str, int], list[Node], list[Snapshot]]:
            held = rows.held(db, self._catalog.now_ns())
            return rows.layers(db), held, rows.nodes(db), rows.with_directories(db)

        making = self._catalog.being_made()
        layers, held, nodes, snapshots = await self._catalog.read(look)
        making -= {layer.dir_id for layer in layers} | {snapshot.dir_id or 0 for snapshot in snapshots}
        holders = layer_holders(nodes, roots, held)
        yield await asyncio.to_thread(self._layers, layers, holders, measure)
        if not measure:
            snapshots = [snapshot for snapshot in snapshots if snapshot.kind is Kind.COMMITTED]
        yield await walking(lambda stop: self._snapshots(snapshots, measure, stop))
        yield await walking(lambda stop: [_tree("stray", path, self._disk.root, (), stop) for path in strays])
        yield await walking(lambda stop: list(self._rest(making, stop)))

    def _layers(
        self, layers: Sequence[Layer], holders: Mapping[str, list[Holder]], measure: bool
    ) -> list[StoredObject]:
        """A tree is not counted again; an EROFS image is one file, and takes whole blocks."""
        objects = []
        for layer in layers:
            size = layer.usage.size_bytes
            if measure:
                if layer.format is LayerFormat.EROFS:
                    size = _allocated(self._disk.erofs_image(layer.dir_id))
                size += _allocated(self._disk.layer(layer.dir_id))
            objects.append(StoredObject("layer", layer.diff_id, size, tuple(holders.get(layer.diff_id, ()))))
        return objects

    def _snapshots(self, snapshots: Sequence[Snapshot], measure: bool, stop: Stop) -> list[StoredObject]:
        objects = []
        for snapshot in snapshots:
            assert snapshot.dir_id is not None
            path = self._disk.snapshot(snapshot.dir_id)
            size = measure_any(path, stop) if measure else snapshot.own.size_bytes
            objects.append(StoredObject("snapshot", snapshot.key, size, (Holder(SNAPSHOT, snapshot.key),)))
        return objects

    def _rest(self, making: Iterable[int], stop: Stop) -> Iterator[StoredObject]:
        """What is being made or removed, the database, and what directories take themselves."""
        ours = (Holder(SERVICE, "snapshotter"),)
        root = self._disk.root
        made = [path for number in making for path in (self._disk.layer(number), self._disk.snapshot(number))]
        for path in (*self._disk.temporaries(), *(path for path in made if path.exists())):
            yield _tree(
                "layer" if path.parent != self._disk.snapshots else "snapshot", path, root, (Holder(WRITER),), stop
            )
        yield StoredObject("trash", "trash", measure_any(root / "trash", stop), ours)
        known = (root, self._disk.layers, self._disk.snapshots, root / "tmp")
        yield StoredObject("records", "directories", sum(map(_allocated, known)), ours)
        for path in root.iterdir():
            if path.name == "aside":  # of a database that was lost: whoever runs the engine removes it
                yield _tree("aside", path, root, ours, stop)
            elif not path.is_dir() or path.is_symlink():
                yield StoredObject("records", path.name, _allocated(path), ours)
            elif path not in known and path.name != "trash":
                yield _tree("foreign", path, root, (Holder(FOREIGN),), stop)


def _tree(kind: str, path: Path, root: Path, holders: tuple[Holder, ...], stop: Stop) -> StoredObject:
    return StoredObject(kind, str(path.relative_to(root)), measure_any(path, stop), holders)


def _allocated(path: Path) -> int:
    """What a file, or a directory itself, takes; 0 if it is gone."""
    try:
        return os.lstat(path).st_blocks * 512
    except FileNotFoundError:
        return 0
