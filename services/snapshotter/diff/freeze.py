"""Freeze: what an active snapshot changes becomes a blob, and its own directory the stored layer.

In this order: the blob is in the content store, and the directory settled (see ``settle``) and on disk, while nothing
but the snapshot is known; one transaction takes the snapshot away and makes its directory, by its number, that of the
layer; the directory moves. A process that ends before the transaction leaves the snapshot, which can be frozen again
and gives the same; one that ends after it leaves the move to the next start.

The blob of a large layer can be deferred: then the layer is named by its tar, whose digest is all that is made of it,
and ``BlobMaker.pack_layer`` makes a blob of the stored layer when somebody needs one.
"""

import asyncio
import secrets
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from sampan.errors import ConflictError, DataLossError, NotFoundError, SampanError, ServiceGoneError
from sampan.log import log
from sampan.oci import descriptor as media
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.resource.snapshot import Kind, NewLayer
from sampan.sys.measuring import Usage, takes
from sampan.sys.trees import walking
from snapshotter.diff import packer_pool
from snapshotter.layers.apply import Applier
from snapshotter.layers.content import ContentStore
from snapshotter.layers.formats import LayerFormat
from snapshotter.model import Layer, Snapshot, SnapshotFormat
from snapshotter.snapshots import frozen as frozen_rows
from snapshotter.snapshots import store as rows
from snapshotter.snapshots.catalog import Catalog
from snapshotter.snapshots.directories import Syncer, disk_errors
from snapshotter.snapshots.frozen import Frozen
from snapshotter.workers.job import Compression, DiffJob, Packed

# Where containerd and BuildKit look for a layer's diff ID.
UNCOMPRESSED: Final = "containerd.io/uncompressed"

# The end mark alone.
EMPTY_TAR_BYTES: Final = 1024


T = TypeVar("T")

# What is done with what a worker said, while its blob is brought to disk.
Beside = Callable[[Packed], Coroutine[None, None, None]]


async def _nothing(_: Packed) -> None:
    pass


class BlobMaker:
    """Makes blobs of what snapshots change."""

    def __init__(self, applier: Applier, content: ContentStore) -> None:
        self.workers = applier.workers
        self._content = content

    async def pack(
        self, job: DiffJob, key: str, lease: str, beside: Beside = _nothing, verify: Beside = _nothing
    ) -> tuple[Packed, Descriptor | None]:
        """Return what a worker said, and the blob, unless nothing differs; then ``beside`` is done as well.

        There is no blob, either, if ``verify`` raises.

        Raises as ``Differ.layer_of``, or as ``beside``.

        If the content store goes away under it, all is packed once more: nothing has changed but what packing leaves as
        it is. A lease may have gone with the store, so whoever has one is told.
        """
        try:
            return await self._pack(job, key, lease, beside, verify)
        except ServiceGoneError as error:
            if lease:
                raise
            log.info("packing once more", key=key, reason=str(error))
        await self._content.returned()
        return await self._pack(job, key, lease, beside, verify)

    async def pack_layer(self, layer: Layer, place: Path, lease: str) -> Descriptor:
        """Return the blob of a stored layer, whose directory is ``place``.

        Raises:
            DataLossError: what is there is not what the layer's diff ID says.
        """

        async def compare(packed: Packed) -> None:
            if packed.diff_id != layer.diff_id:
                raise DataLossError(
                    f"no blob can be made of layer {layer.diff_id}: its directory comes to {packed.diff_id}"
                )

        job = DiffJob((), (str(place),), Compression.GZIP.value, "", stored=True)
        _, descriptor = await self.pack(job, layer.diff_id, lease, verify=compare)
        if descriptor is None:
            raise DataLossError(f"no blob can be made of layer {layer.diff_id}: its directory is empty")
        return descriptor

    async def _pack(
        self, job: DiffJob, key: str, lease: str, beside: Beside, verify: Beside
    ) -> tuple[Packed, Descriptor | None]:
        ref = f"diff-{key}-{secrets.token_hex(8)}"
        async with packer_pool.piped(self.workers, job) as (pipe, answer):
            # A directory that is settled is the layer itself; any other layer is unpacked of its blob next.
            await self._content.take(pipe, ref, read_soon=not job.settle)
            try:
                packed = await answer()
                await verify(packed)
            except SampanError as error:
                lost = self._content.lost(ref)
                await self._content.abort(ref)
                if lost:  # a worker without a reader fails on that account
                    raise ServiceGoneError("the content store, imaged, went away during a write") from error
                raise
            except BaseException:
                await self._content.abort(ref)
                raise
        if packed.tar_bytes <= EMPTY_TAR_BYTES:
            await self._content.abort(ref)
            return packed, None
        committing = self._content.commit(ref, {UNCOMPRESSED: packed.diff_id}, lease)
        digest, size = await _with(beside(packed), committing)
        return packed, Descriptor(media.OCI_LAYER_GZIP, digest, size)


class Freezer:
    """Freezes snapshots, each once, whoever asks for it how often."""

    def __init__(self, catalog: Catalog, applier: Applier, blob_maker: BlobMaker, syncer: Syncer) -> None:
        self._catalog = catalog
        self._applier = applier
        self._blob_maker = blob_maker
        self._syncer = syncer
        self._recording: set[asyncio.Task[object]] = set()
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}  # by key, with how many want each

    async def freeze(
        self, key: str, exclude: Sequence[str], lease: str, rewrite_timestamp: int | None, defer_bytes: int
    ) -> NewLayer | None:
        """See ``protocol.Differ``."""

        def look(db: sqlite3.Connection) -> tuple[Snapshot | None, tuple[Frozen, Layer | None] | None]:
            return rows.find(db, key), frozen_rows.find(db, key)

        async with self._alone(key):
            snapshot, before = await self._catalog.read(look)
            if snapshot is None:
                return self._again(key, before)
            if snapshot.kind is not Kind.ACTIVE or snapshot.dir_id is None:
                raise ConflictError(f"snapshot {key!r} is {snapshot.kind.value}, only an active one can be frozen")
            newest_ns = None if rewrite_timestamp is None else rewrite_timestamp * 10**9
            with disk_errors(f"the layer of snapshot {key!r}"):
                job, dir_id = await self._job(snapshot, tuple(path.strip("/") for path in exclude), newest_ns)
                if job.settle and defer_bytes and await walking(partial(takes, job.settle, defer_bytes)):
                    return await self._deferred(key, dir_id, job)
                return await self._freeze(key, dir_id, job, lease)

    def _again(self, key: str, before: tuple[Frozen, Layer | None] | None) -> NewLayer | None:
        """Answer once more what was answered, and perhaps not heard, before."""
        if before is None:
            raise NotFoundError(f"snapshot {key!r} does not exist")
        frozen, layer = before
        if frozen.diff_id is None or frozen.digest is None:
            return None
        if layer is None:
            raise NotFoundError(f"snapshot {key!r} does not exist: it became layer {frozen.diff_id}, which is gone")
        return _answer(frozen, layer)

    async def _job(self, snapshot: Snapshot, exclude: tuple[str, ...], newest_ns: int | None) -> tuple[DiffJob, int]:
        """Return what a worker is to do, with the number of the snapshot's own directory."""
        assert snapshot.dir_id is not None
        catalog, key, dir_id = self._catalog, snapshot.key, snapshot.dir_id
        catalog.remake(dir_id)
        chain = await catalog.read(lambda db: rows.chain(db, key))
        left = tuple(str(piece.path) for piece in await catalog.pieces(chain[1:]))
        right = tuple(str(piece.path) for piece in await catalog.pieces(chain))
        upper = snapshot.format is SnapshotFormat.UPPER
        settled = str(catalog.disk.snapshot(dir_id) / "fs") if upper else ""
        return DiffJob(left, right, Compression.GZIP.value, "", exclude, settled, newest_ns), dir_id

    async def _freeze(self, key: str, dir_id: int, job: DiffJob, lease: str) -> NewLayer | None:
        async def sync(packed: Packed) -> None:
            if not packed.synced:
                await self._syncer.sync()

        packed, descriptor = await self._blob_maker.pack(job, key, lease, sync if job.settle else _nothing)
        if descriptor is None:
            await self._to_the_end(self._drop(key, dir_id))
            return None
        frozen = Frozen(key, Digest(packed.diff_id), descriptor.digest, descriptor.size)
        self._catalog.wanted.ask([packed.diff_id])
        layer = await (self._adopt(frozen, packed, dir_id) if job.settle else self._apply(frozen, descriptor, dir_id))
        log.info("snapshot frozen", key=key, diff_id=frozen.diff_id, size_bytes=layer.usage.size_bytes)
        return _answer(frozen, layer)

    async def _deferred(self, key: str, dir_id: int, job: DiffJob) -> NewLayer | None:
        """Make the directory the layer, and no blob."""
        packed = await packer_pool.diff(self._blob_maker.workers, replace(job, compression=Compression.DISCARD.value))
        if packed.tar_bytes <= EMPTY_TAR_BYTES:
            await self._to_the_end(self._drop(key, dir_id))
            return None
        if not packed.synced:
            await self._syncer.sync()
        diff_id = Digest(packed.diff_id)
        frozen = Frozen(key, diff_id, diff_id, packed.tar_bytes)
        self._catalog.wanted.ask([diff_id])
        layer = await self._adopt(frozen, packed, dir_id)
        log.info("snapshot frozen without a blob", key=key, diff_id=diff_id, size_bytes=layer.usage.size_bytes)
        return _answer(frozen, layer)

    async def _drop(self, key: str, dir_id: int) -> None:
        self._catalog.remake(dir_id)
        now_ns = self._catalog.now_ns()
        await self._catalog.write(lambda db: frozen_rows.drop(db, key, now_ns))
        self._catalog.disk.discard(self._catalog.disk.snapshot(dir_id))

    async def _adopt(self, frozen: Frozen, packed: Packed, dir_id: int) -> Layer:
        """Make the snapshot's directory the layer, or discard it if there is one already."""
        catalog, diff_id = self._catalog, Digest(packed.diff_id)
        layer = Layer(diff_id, dir_id, LayerFormat.TREE, Usage(packed.stored_bytes, packed.inodes))
        found = await catalog.read(lambda db: rows.layer(db, diff_id))
        stored = found.dir_id if found is not None and catalog.can_show(found) else None
        return await self._to_the_end(self._record(frozen, layer, stored))

    async def _record(self, frozen: Frozen, layer: Layer, stored: int | None) -> Layer:
        catalog, disk, dir_id = self._catalog, self._catalog.disk, layer.dir_id
        catalog.remake(dir_id)
        now_ns = catalog.now_ns()

        def adopt(db: sqlite3.Connection) -> tuple[Layer | None, Layer]:
            return frozen_rows.adopt(db, frozen, layer, stored, now_ns)

        replaced, kept = await catalog.write(adopt)
        if kept.dir_id == dir_id:
            disk.move_to_layers(dir_id)
            catalog.set_aside.drop("layer", layer.diff_id)
        else:
            disk.discard(disk.snapshot(dir_id))
        if replaced is not None:
            await catalog.discard_layer(replaced)
        return kept

    async def _to_the_end(self, work: Coroutine[None, None, T]) -> T:
        """Run a change of rows and directories to its end, whoever stops waiting for it."""
        task = asyncio.create_task(work, name="freeze")
        self._recording.add(task)
        task.add_done_callback(self._recording.discard)
        return await asyncio.shield(task)

    async def _apply(self, frozen: Frozen, descriptor: Descriptor, dir_id: int) -> Layer:
        """Unpack the layer: the snapshot's directory holds more than that."""
        catalog = self._catalog
        assert frozen.diff_id is not None
        diff_id = frozen.diff_id
        async with aclosing(self._applier.apply(descriptor, diff_id)) as steps:
            async for _ in steps:
                pass

        now_ns = catalog.now_ns()

        def record(db: sqlite3.Connection) -> Layer | None:
            frozen_rows.applied(db, frozen, now_ns)
            return rows.layer(db, diff_id)

        layer = await catalog.write(record)
        catalog.disk.discard(catalog.disk.snapshot(dir_id))
        if layer is None:
            raise NotFoundError(f"layer {diff_id} was removed while it was made")
        return layer

    @asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[None]:
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            _, users = self._locks.pop(key)
            if users > 1:
                self._locks[key] = lock, users - 1


def _answer(frozen: Frozen, layer: Layer) -> NewLayer:
    assert frozen.diff_id is not None
    assert frozen.digest is not None
    # A layer without a blob is named by its tar.
    media_type = media.OCI_LAYER if frozen.digest == frozen.diff_id else media.OCI_LAYER_GZIP
    descriptor = Descriptor(media_type, frozen.digest, frozen.blob_bytes)
    return NewLayer(descriptor, frozen.diff_id, layer.usage.size_bytes)


async def _with(beside: Coroutine[None, None, None], work: Awaitable[T]) -> T:
    """Do both at once, and return what comes of the work; if that fails, the other is given up."""
    task = asyncio.create_task(beside, name="sync a frozen directory")
    try:
        result = await work
    except BaseException:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
    await task
    return result
