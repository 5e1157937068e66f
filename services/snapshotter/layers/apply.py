"""Apply: a layer on its way from the content store to the disk, and all who wait for it."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Final

from sampan.cancellation import to_the_end
from sampan.errors import SampanError, reworded
from sampan.log import log
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.resource.snapshot import ApplyProgress
from sampan.sys.files import sync_directory
from sampan.sys.measuring import Usage
from sampan.sys.memory import trim
from snapshotter.layers.content import ContentStore
from snapshotter.layers.formats import LayerFormat
from snapshotter.layers.limits import LayerLimits
from snapshotter.metrics import Metrics
from snapshotter.model import Layer
from snapshotter.snapshots import store as rows
from snapshotter.snapshots.catalog import Catalog
from snapshotter.snapshots.directories import Syncer, disk_errors
from snapshotter.workers.job import Answer, ApplyJob, WorkerDiedError
from snapshotter.workers.pool import Workers, count

# From Apply to Stack. A pull that takes longer than this for its slowest layer applies the fast ones again.
HOLD_NS: Final = 3600 * 10**9


class Applier:
    """Stores layers: each once, several at a time, in worker processes."""

    def __init__(
        self,
        catalog: Catalog,
        content: ContentStore,
        syncer: Syncer,
        metrics: Metrics,
        *,
        layer_format: LayerFormat,
        limits: LayerLimits,
    ) -> None:
        self._catalog = catalog
        self._content = content
        self._syncer = syncer
        self._metrics = metrics
        self._format = layer_format
        self._limits = limits
        self._slots = asyncio.Semaphore(count())
        self.workers = Workers()
        self._running: dict[Digest, _Run] = {}
        metrics.watch(lambda: [(run.read_bytes, run.descriptor.size) for run in list(self._running.values())])

    async def apply(self, descriptor: Descriptor, diff_id: Digest) -> AsyncGenerator[ApplyProgress, None]:
        """See ``protocol.Layers.apply``."""
        while True:
            existing = await self._hold(diff_id)
            if existing is not None:
                self._metrics.ended("existed")
                yield ApplyProgress(descriptor.size, existed=True, done=True, size_bytes=existing.usage.size_bytes)
                return
            run = self._running.get(diff_id)
            if run is None or run.abandoned:
                run = _Run(descriptor)
                run.task = asyncio.create_task(self._run(run, diff_id), name=f"apply {diff_id}")
                self._running[diff_id] = run
            try:
                async with aclosing(run.follow()) as steps:
                    async for read_bytes in steps:
                        yield ApplyProgress(read_bytes)
            except (GeneratorExit, asyncio.CancelledError):
                if run.stored:  # for this caller too, who is not told of it any more
                    await to_the_end(self.release((diff_id,)))
                raise
            except SampanError:
                # What was wrong with somebody else's blob need not be wrong with this one of the same content.
                if run.descriptor.digest == descriptor.digest:
                    raise
                continue
            yield ApplyProgress(descriptor.size, done=True, size_bytes=run.size_bytes)
            return

    async def unpack(
        self,
        descriptor: Descriptor,
        diff_id: str,
        layer_format: LayerFormat,
        target: Path,
        trash: Path,
        read: Callable[[int], None] = lambda _: None,
    ) -> Answer:
        """Have a worker make ``target`` of a blob, as soon as one is free. Raises as ``apply`` does."""
        job = ApplyJob(
            digest=descriptor.digest,
            size_bytes=descriptor.size,
            diff_id=diff_id,
            format=layer_format.value,
            target=str(target),
            trash=str(trash),
            limits=self._limits.of(descriptor.size),
        )
        begin = time.monotonic()
        async with self._slots:
            started = time.monotonic()
            self._metrics.took("wait", started - begin)
            try:
                answer = await self._work(job, read)
            except WorkerDiedError:
                self._metrics.worker_died()
                raise
        self._metrics.unpacked(descriptor.size, time.monotonic() - started)
        self._metrics.moved("unpacked", answer.tar_bytes)
        self._metrics.moved("stored", answer.size_bytes)
        return answer

    async def _work(self, job: ApplyJob, read: Callable[[int], None]) -> Answer:
        fd = await self._content.open(Digest(job.digest))
        if fd is None:
            return await self.workers.apply(job, self._content.read(Digest(job.digest)), read)
        try:
            return await self.workers.apply(job, fd, read)
        finally:
            os.close(fd)

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = [run.task for run in self._running.values() if run.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.workers.close()

    async def release(self, diff_ids: Sequence[Digest]) -> None:
        """Give back a hold on each, whose caller will not stack it; what nobody else needs goes at once."""
        await self._catalog.write(lambda db: rows.release(db, diff_ids))
        await self._catalog.collect()

    async def _hold(self, diff_id: Digest) -> Layer | None:
        """Hold the layer for a caller, if it is stored and its directory is really there.

        A caller who leaves meanwhile has held nothing.
        """
        layer = await self._catalog.read(lambda db: rows.layer(db, diff_id))
        if layer is None or not self._catalog.can_show(layer):
            return None
        until_ns = self._catalog.now_ns() + HOLD_NS
        held: list[Layer | None] = []

        async def hold() -> None:
            held.append(await self._catalog.write(lambda db: rows.hold(db, diff_id, until_ns)))

        try:
            await to_the_end(hold())
        except asyncio.CancelledError:
            if any(held):
                await to_the_end(self.release((diff_id,)))
            raise
        return held[0]

    async def _run(self, run: "_Run", diff_id: Digest) -> None:
        outcome = "cancelled"
        try:
            with disk_errors("it"):
                await self._store_though_workers_die(run, diff_id)
            outcome = "applied"
        except SampanError as error:
            outcome = type(error).__name__.removesuffix("Error")
            raise reworded(error, f"layer {diff_id}: {error}") from error
        except OSError as error:
            outcome = "Disk"
            raise SampanError(f"layer {diff_id}: cannot be stored: {error.strerror}") from error
        finally:
            self._metrics.ended(outcome)
            if self._running.get(diff_id) is run:
                del self._running[diff_id]
            if not self._running:
                trim()  # blobs pass through this process a megabyte at a time, and at rest it is to be small

    async def _store_though_workers_die(self, run: "_Run", diff_id: Digest) -> None:
        """Unpack once more where a worker died: what killed it, or what it was forked from, may be no fault of its."""
        try:
            await self._store(run, diff_id)
        except WorkerDiedError as error:
            log.warning("layer is unpacked once more", diff_id=diff_id, error=str(error))
            await self._store(run, diff_id)

    async def _store(self, run: "_Run", diff_id: Digest) -> None:
        with self._catalog.disk.temporary() as place:
            target, trash = place / "layer", place / "trash"
            target.mkdir(mode=0o755)
            target.chmod(0o755)
            trash.mkdir()
            is_erofs = self._format is LayerFormat.EROFS
            made = target / "image" if is_erofs else target
            answer = await self.unpack(run.descriptor, diff_id, self._format, made, trash, run.advance)
            begin = time.monotonic()
            if is_erofs:  # the worker has brought its bytes to disk
                await asyncio.to_thread(sync_directory, target)
            else:
                await self._syncer.sync()
            dir_id = await self._catalog.number()
            home = self._catalog.disk.layer(dir_id)
            target.rename(home)
        usage = Usage(answer.size_bytes, answer.inodes)
        layer = Layer(diff_id, dir_id, self._format, usage, complete=answer.complete, erofs_digest=answer.erofs_digest)
        try:
            await asyncio.to_thread(sync_directory, home.parent)
            self._metrics.took("sync", time.monotonic() - begin)
            await self._record(run, layer)
        except BaseException:
            # A cancelled write may have been done: the row decides.
            if not await asyncio.shield(self._catalog.read(lambda db: rows.owns_layer(db, dir_id))):
                self._catalog.disk.discard(home)
            else:
                await to_the_end(self.release((diff_id,) * run.held))  # nobody follows any more
            raise
        run.stored = True
        run.size_bytes = answer.size_bytes
        log.info(
            "layer applied",
            diff_id=diff_id,
            blob_bytes=run.descriptor.size,
            size_bytes=answer.size_bytes,
            inodes=answer.inodes,
            skipped_xattrs=answer.skipped_xattrs,
            seconds=round(answer.seconds, 3),
        )

    async def _record(self, run: "_Run", layer: Layer) -> None:
        """Make the layer's row, held once for each follower: also for those who come, or leave, meanwhile."""
        now_ns = self._catalog.now_ns()
        held = run.held = run.followers
        before = await self._catalog.write(lambda db: rows.put_layer(db, layer, now_ns, held, now_ns + HOLD_NS))
        self._catalog.set_aside.drop("layer", layer.diff_id)
        if before is not None:
            await self._catalog.discard_layer(before)
        while run.held != run.followers:
            if run.held < run.followers:
                await self._hold(layer.diff_id)
                run.held += 1
            else:
                run.held -= 1
                await to_the_end(self.release((layer.diff_id,)))


class _Run:
    """One layer being applied. It goes on while at least one caller follows it."""

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self.task: asyncio.Task[None] | None = None
        self.followers = 0
        self.abandoned = False
        self.held = 0  # how often its row is held for those who follow
        self.stored = False  # and held for each of them
        self.size_bytes = 0  # on disk, once stored
        self.read_bytes = 0  # of the blob
        self._moved = asyncio.Event()  # replaced at each step, so that each follower sees each step or a later one

    def advance(self, read_bytes: int) -> None:
        """Note how many bytes of the blob are read."""
        self.read_bytes = read_bytes
        self._moved.set()
        self._moved = asyncio.Event()

    async def follow(self) -> AsyncGenerator[int, None]:
        """Yield the bytes read, as they grow, until the layer is stored. Raises what stopped it."""
        task = self.task
        assert task is not None
        self.followers += 1
        try:
            shown = 0
            while not task.done():
                if self.read_bytes != shown:
                    shown = self.read_bytes
                    yield shown
                    continue
                step = asyncio.ensure_future(self._moved.wait())
                try:
                    await asyncio.wait((task, step), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    step.cancel()
            await task
        finally:
            self.followers -= 1
            if not self.followers and not task.done():
                self.abandoned = True
                task.cancel()
                with suppress(asyncio.CancelledError, SampanError):
                    await task
