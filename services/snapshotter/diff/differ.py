"""Layers from and onto snapshots that are named by their mounts, as containerd names them."""

import sqlite3
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Final

from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.oci import descriptor as media
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.resource.snapshot import Kind, Mount, NewLayer
from sampan.sys.files import exchange
from sampan.sys.trees import walking
from sampan.tar.entry import MAX_COPIED_NAME_BYTES
from snapshotter.diff import packer_pool
from snapshotter.diff.copying import copy_merged
from snapshotter.diff.freeze import UNCOMPRESSED, BlobMaker, Freezer
from snapshotter.layers.apply import Applier
from snapshotter.layers.content import ContentStore
from snapshotter.layers.formats import LayerFormat
from snapshotter.model import Piece, SnapshotFormat
from snapshotter.snapshots import store as rows
from snapshotter.snapshots.catalog import Catalog
from snapshotter.snapshots.directories import Syncer, disk_errors
from snapshotter.workers.job import Answer, Compression, DiffJob

_COMPRESSIONS: Final = {
    "": Compression.GZIP,
    media.OCI_LAYER_GZIP: Compression.GZIP,
    media.DOCKER_LAYER_GZIP: Compression.GZIP,
    media.OCI_LAYER_ZSTD: Compression.ZSTD,
    media.OCI_LAYER: Compression.NONE,
    media.DOCKER_LAYER: Compression.NONE,
}


class LocalDiffer:
    """Satisfies ``protocol.Differ``."""

    def __init__(self, catalog: Catalog, applier: Applier, content: ContentStore, syncer: Syncer) -> None:
        self._catalog = catalog
        self._applier = applier
        self._workers = applier.workers
        self._content = content
        self._blob_maker = BlobMaker(applier, content)
        self._freezer = Freezer(catalog, applier, self._blob_maker, syncer)

    async def apply_onto(self, descriptor: Descriptor, mounts: Sequence[Mount]) -> Descriptor:
        """See ``protocol.Differ``."""
        own, format_ = await self._active(mounts)
        with disk_errors("the layer"), self._catalog.disk.temporary() as place:
            (place / "trash").mkdir()
            if format_ is SnapshotFormat.UPPER:
                answer = await self._applier.unpack(descriptor, "", LayerFormat.TREE, own, place / "trash")
            else:
                answer = await self._merge(descriptor, own, place)
        return Descriptor(media.OCI_LAYER, Digest(answer.diff_id), answer.tar_bytes)

    async def diff(
        self,
        left: Sequence[Mount],
        right: Sequence[Mount],
        media_type: str,
        ref: str,
        labels: Mapping[str, str],
    ) -> Descriptor:
        """See ``protocol.Differ``."""
        compression = _COMPRESSIONS.get(media_type)
        if compression is None:
            raise InvalidArgumentError(f"media type {media_type!r} is not one of a layer")
        sides = [tuple(str(piece) for piece in await self._pieces(mounts)) for mounts in (left, right)]
        if not sides[1]:
            raise InvalidArgumentError("a layer needs the mounts of a snapshot to make it from")
        with disk_errors("the layer"), self._catalog.disk.temporary() as place:
            target = place / "layer"
            packed = await packer_pool.diff(self._workers, DiffJob(sides[0], sides[1], compression.value, str(target)))
            digest = Digest(packed.digest)
            written = {**labels, UNCOMPRESSED: packed.diff_id}
            await self._content.write(target, digest, ref or f"diff-{digest}", written)
        return Descriptor(media_type or media.OCI_LAYER_GZIP, digest, packed.size_bytes)

    async def layer_of(self, key: str, exclude: Sequence[str], lease: str = "") -> NewLayer | None:
        """See ``protocol.Differ``."""
        left, right = await self._stack(key)
        hidden = tuple(path.strip("/") for path in exclude)
        # Registries and other engines keep and carry layers compressed; igzip takes less time than it saves.
        job = DiffJob(left, right, Compression.GZIP.value, "", hidden)
        packed, descriptor = await self._blob_maker.pack(job, key, lease)
        return None if descriptor is None else NewLayer(descriptor, Digest(packed.diff_id))

    async def freeze(
        self,
        key: str,
        exclude: Sequence[str],
        lease: str = "",
        rewrite_timestamp: int | None = None,
        defer_bytes: int = 0,
    ) -> NewLayer | None:
        """See ``protocol.Differ``."""
        return await self._freezer.freeze(key, exclude, lease, rewrite_timestamp, defer_bytes)

    async def pack(self, diff_id: Digest, lease: str = "") -> Descriptor:
        """See ``protocol.Differ``."""
        self._catalog.wanted.ask([diff_id])
        layer = await self._catalog.read(lambda db: rows.layer(db, diff_id))
        if layer is None or not self._catalog.can_show(layer):
            raise NotFoundError(f"layer {diff_id} is not stored")
        return await self._blob_maker.pack_layer(layer, await self._catalog.layer(layer), lease)

    async def export(self, key: str) -> AsyncGenerator[bytes, None]:
        """See ``protocol.Differ``."""
        _, right = await self._stack(key)
        job = DiffJob((), right, Compression.NONE.value, "", max_path_bytes=MAX_COPIED_NAME_BYTES)
        async with aclosing(packer_pool.export(self._workers, job)) as pieces:
            async for piece in pieces:
                yield piece

    async def _stack(self, key: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the directories of what a snapshot stands on, and of the whole."""

        def look(db: sqlite3.Connection) -> Sequence[sqlite3.Row]:
            rows.get(db, key)
            return rows.chain(db, key)

        chain = await self._catalog.read(look)
        below, own = await self._catalog.pieces(chain[1:]), await self._catalog.pieces(chain)
        return tuple(str(piece.path) for piece in below), tuple(str(piece.path) for piece in own)

    async def _merge(self, descriptor: Descriptor, own: Path, place: Path) -> Answer:
        """Unpack beside a full copy, merge both into a third tree, and put that in the copy's place."""
        layer, merged = place / "layer", place / "merged"
        for directory in (layer, merged):
            directory.mkdir(mode=0o755)
            directory.chmod(0o755)
        answer = await self._applier.unpack(descriptor, "", LayerFormat.TREE, layer, place / "trash")
        pieces = (Piece(layer, complete=answer.complete), Piece(own))
        await walking(partial(copy_merged, pieces, merged))
        exchange(merged, own)
        return answer

    async def _active(self, mounts: Sequence[Mount]) -> tuple[Path, SnapshotFormat]:
        """Return the directory that the mounts write to."""
        pieces = await self._pieces(mounts)
        writable = bool(mounts) and (
            "rw" in mounts[0].options if mounts[0].fstype == "bind" else _value(mounts[0], "upperdir") is not None
        )
        own = pieces[0] if pieces and writable else None
        if own is not None and own.name == "fs":
            dir_id = int(own.parent.name)
            for snapshot in await self._catalog.read(rows.everything):
                if snapshot.dir_id == dir_id and snapshot.kind is Kind.ACTIVE and snapshot.format is not None:
                    return own, snapshot.format
        raise NotFoundError("the mounts are not those of an active snapshot: prepare one")

    async def _pieces(self, mounts: Sequence[Mount]) -> tuple[Path, ...]:
        """Return the directories behind a snapshot's mounts, nearest first; none for no mounts.

        Raises:
            NotFoundError: a mount is not one that the snapshotter gives out.
        """
        if not mounts:
            return ()
        if len(mounts) > 1 or mounts[0].fstype not in ("bind", "overlay"):
            raise NotFoundError("the mounts are not those of a snapshot")
        (mount,) = mounts
        if mount.fstype == "bind":
            return (await self._ours(mount.source),)
        upper, lower = _value(mount, "upperdir"), _value(mount, "lowerdir")
        names = [upper] if upper is not None else []
        names += _split(lower or "")
        return tuple([await self._ours(_unescaped(name)) for name in names])

    async def _ours(self, name: str) -> Path:
        path = await self._catalog.resolve(name)
        if path is None:
            raise NotFoundError(f"mount source {name!r} is not a snapshot of this engine")
        return path


def _value(mount: Mount, option: str) -> str | None:
    prefix = f"{option}="
    return next((text.removeprefix(prefix) for text in mount.options if text.startswith(prefix)), None)


def _split(lower: str) -> list[str]:
    """Split at the colons that no backslash protects; the parts keep their backslashes."""
    parts: list[str] = []
    part = ""
    protected = False
    for character in lower:
        if character == ":" and not protected:
            parts.append(part)
            part = ""
        else:
            part += character
        protected = character == "\\" and not protected
    return [*parts, part] if part else parts


def _unescaped(name: str) -> str:
    text = ""
    protected = False
    for character in name:
        protected = character == "\\" and not protected
        if not protected:
            text += character
    return text
