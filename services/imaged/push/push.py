"""Push an image: what the registry lacks, then the manifest under its tag; and what a client is told meanwhile."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from imaged.content import store as rows
from imaged.content.blobs import ContentStore
from imaged.content.leases import Leases
from imaged.images import store as image_store
from imaged.images.index import describe
from imaged.images.model import ImageRecord
from imaged.push.blobs import BlobPusher
from imaged.push.metrics import PushMetrics
from imaged.push.plan import PushPlan, plan_push
from imaged.registry.auth import Tokens
from imaged.registry.client import MAX_MANIFEST_BYTES
from imaged.registry.errors import Refusal
from imaged.registry.retry import RetryPolicy
from imaged.registry.source import Sources
from imaged.registry.transport import Transport
from imaged.registry.upload import UploadClient
from sampan.errors import (
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
)
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.oci.reference import Reference
from sampan.resource.image import Credentials
from sampan.resource.transfer import Pushed, PushPhase, PushResolved, PushStep
from sampan.store.database import Store

# Ten a second and layer are more than a person can read.
_INTERVAL_S: Final = 0.1


class Steps:
    """The newest step of each layer, until the client takes it: a slow one misses steps and delays nobody."""

    def __init__(self) -> None:
        self._newest: dict[Digest, PushStep] = {}
        self._wake = asyncio.Event()
        self._over = asyncio.Event()

    def post(self, step: PushStep) -> None:
        """Note a layer's step."""
        self._newest[step.digest] = step
        self._wake.set()

    def end(self) -> None:
        """Let ``take`` end once everything is taken."""
        self._over.set()
        self._wake.set()

    async def take(self) -> AsyncIterator[PushStep]:
        """Yield what is new until ``end``."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            newest, self._newest = self._newest, {}
            for step in newest.values():
                yield step
            if self._over.is_set() and not self._newest:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(_INTERVAL_S):
                    await self._over.wait()


# Repositories that are tried for a mount, each with a question to the token server.
_MOUNT_SOURCES: Final = 2


@dataclass(frozen=True, slots=True)
class UploadMeans:
    """What all pushes share."""

    transport: Transport
    tokens: Tokens
    retry: RetryPolicy
    metrics: PushMetrics


class Pusher:
    """Pushes images to registries."""

    def __init__(
        self,
        store: Store,
        content: ContentStore,
        leases: Leases,
        sources: Sources,
        means: UploadMeans,
        *,
        parallel: int = 5,
    ) -> None:
        self._store = store
        self._content = content
        self._leases = leases
        self._sources = sources
        self._means = means
        self.parallel = parallel  # of one push; may be changed for those to come
        self._running: set[asyncio.Task[Pushed]] = set()

    async def close(self) -> None:
        """Cancel the pushes that still run, and wait for them."""
        for task in tuple(self._running):
            task.cancel()
        if self._running:
            await asyncio.wait(tuple(self._running))

    async def push(
        self,
        reference: Reference,
        credentials: Credentials,
        platform: Platform | None = None,
        target: Descriptor | None = None,
    ) -> AsyncGenerator[PushResolved | PushStep | Pushed, None]:
        """Yield what will be pushed, steps of the layers, and ``Pushed`` last.

        What the tag points to when this begins is pushed, wherever it points later, and nothing of it can be removed
        meanwhile. Layers that the registry has are not sent; the tag appears there last. Closing the iterator cancels.
        ``plan_push`` says what goes of an index. With a ``target``, which a lease of the caller's keeps, that one is
        pushed, and ``reference`` need not be a name here and does not become one.

        Raises:
            NotFoundError: in Docker's words, there is no such image here, or it has nothing for ``platform``.
            UnauthenticatedError, PermissionDeniedError: the registry says no, in its own words.
            RemoteError: the registry does not answer, or does not take it.
            ConflictError: a layer's blob is deferred.
            DataLossError: content is damaged here, or the registry says that it got something else.
        """
        lease = await self._leases.begin()
        try:
            record = None
            if target is None:
                record, named = await self._store.write(lambda db: _find_and_hold(db, reference, lease))
                target = record.target if record.target.digest == named else await describe(self._content, named)
            plan = await plan_push(self._store, self._content, record, target, reference, platform)
            deferred = await self._store.read(rows.deferred)
            if absent := [blob.digest for blob in plan.blobs if blob.digest in deferred]:
                raise ConflictError(f"layer {absent[0]} has no blob yet: the image has to be completed first")
            if record is None:
                held = [each.digest for each in (*plan.documents, *plan.blobs)]
                await self._store.write(lambda db: rows.hold(db, lease, held))
            yield PushResolved(reference, plan.layers)
            steps = Steps()
            task = asyncio.create_task(
                self._run(record, plan, reference, credentials, steps.post), name=f"push {reference}"
            )
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            task.add_done_callback(lambda _: steps.end())
            try:
                async for step in steps.take():
                    yield step
                yield await task
            finally:
                task.cancel()
                await asyncio.wait([task])
        finally:
            await self._leases.let_go(lease)

    async def _run(
        self,
        record: ImageRecord | None,
        plan: PushPlan,
        reference: Reference,
        credentials: Credentials,
        report: Callable[[PushStep], None],
    ) -> Pushed:
        means = self._means
        with means.metrics.push():
            for layer in plan.layers:
                report(PushStep(layer.descriptor.digest, PushPhase.PREPARING, 0, layer.descriptor.size))
            *_, source = self._sources.of(reference, credentials)

            def client(neighbour: str = "") -> UploadClient:
                return UploadClient(means.transport, means.tokens, source.client, reference.repository, neighbour)

            own = client()
            blobs = BlobPusher(self._content, own, means.retry, means.metrics, report)

            async def push(blob: Descriptor) -> None:
                names = await self._store.read(lambda db: _neighbours(db, reference, blob.digest))
                await blobs.push(blob, [client(name) for name in names])

            try:
                await source.client.connect()
                await self._push_all(plan.blobs, push, report)
                with means.metrics.timed("manifest"):
                    for document in plan.documents:
                        await self._put(blobs, own, document, reference if document == plan.target else None)
            except Refusal as refused:
                raise refused.as_push_error() from refused
            image = plan.target.digest
            if record is not None:
                image = record.id
                await self._store.write(lambda db: _remember(db, reference, image, plan.target.digest))
        return Pushed(image, reference.tag or str(reference.digest), plan.target, plan.instead_of)

    async def _put(
        self, blobs: BlobPusher, client: UploadClient, document: Descriptor, reference: Reference | None
    ) -> None:
        """Push a manifest or an index: under its tag, or by its digest alone."""
        content = await self._content.load(document.digest, MAX_MANIFEST_BYTES)
        name = reference.tag if reference and reference.tag else document.digest
        await blobs.retried(lambda: client.put_manifest(name, document, content))

    async def _push_all(
        self,
        blobs: Sequence[Descriptor],
        push: Callable[[Descriptor], Awaitable[None]],
        report: Callable[[PushStep], None],
    ) -> None:
        parallel = self.parallel
        slots = asyncio.Semaphore(parallel)

        async def bring_in_turn(blob: Descriptor) -> None:
            async with slots:
                await push(blob)

        # The first one alone: if it is refused, nothing else need be tried, and tokens are asked for once.
        first, *rest = {blob.digest: blob for blob in blobs}.values()
        for blob in rest[parallel:]:
            report(PushStep(blob.digest, PushPhase.WAITING, 0, blob.size))
        await push(first)
        try:
            async with asyncio.TaskGroup() as tasks:
                for blob in rest:
                    tasks.create_task(bring_in_turn(blob), name=f"push {blob.digest.short}")
        except ExceptionGroup as group:
            raise group.exceptions[0] from group


def _find(db: sqlite3.Connection, reference: Reference) -> tuple[ImageRecord, Digest]:
    """Return the image to push, and what its name points to: by a tag, or by a digest alone.

    Raises NotFoundError in Docker's words.
    """
    if (reference.tag is None) == (reference.digest is None):
        raise InvalidArgumentError("cannot push a reference with both tag and digest, or neither")
    row = db.execute("SELECT image, digest FROM names WHERE reference = ?", (str(reference),)).fetchone()
    record = image_store.get_image(db, Digest(row["image"])) if row is not None else None
    if record is not None:
        return record, Digest(row["digest"])
    tags = db.execute("SELECT 1 FROM names WHERE name = ? AND canonical = 0 LIMIT 1", (reference.name,)).fetchone()
    if tags is None:
        raise NotFoundError(f"An image does not exist locally with the tag: {reference.familiar_name}")
    raise NotFoundError(f"tag does not exist: {reference.familiar}")


def _find_and_hold(db: sqlite3.Connection, reference: Reference, lease: str) -> tuple[ImageRecord, Digest]:
    """Return the image to push, and keep all of it. Raises as ``_find``."""
    record, named = _find(db, reference)
    blobs = db.execute("SELECT digest FROM image_blobs WHERE image = ?", (record.id,)).fetchall()
    rows.hold(db, lease, [Digest(row[0]) for row in blobs])
    return record, named


def _neighbours(db: sqlite3.Connection, reference: Reference, blob: Digest) -> list[str]:
    """Return other repositories of the registry that are known to have a blob: an image was pulled or pushed there."""
    prefix = f"{reference.registry}/"
    rows = db.execute(
        "SELECT DISTINCT names.name FROM names JOIN image_blobs ON image_blobs.image = names.image"
        " WHERE image_blobs.digest = ? AND names.canonical = 1 AND names.name != ?"
        " AND substr(names.name, 1, ?) = ? ORDER BY names.name LIMIT ?",
        (blob, reference.name, len(prefix), prefix, _MOUNT_SOURCES),
    )
    return [str(row[0]).removeprefix(prefix) for row in rows]


def _remember(db: sqlite3.Connection, reference: Reference, image: Digest, digest: Digest) -> None:
    """Add the digest's name, unless the image or all its names there have been removed meanwhile."""
    current = image_store.get_image(db, image)
    if current is None or not any(name.name == reference.name for name in current.names):
        return
    name = Reference(reference.registry, reference.repository, digest=digest)
    image_store.set_name(db, name, digest, image, time.time_ns())
