"""Bring images in: fetch or import, unpack layer by layer as they arrive, name last."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Final

from sampan.api.containerd.types import types_pb2
from sampan.api.image.v1 import images_pb2
from sampan.api.snapshot.v1 import layers_pb2
from sampan.engine import publish
from sampan.engine.feed import Feed
from sampan.engine.leases import kept, release
from sampan.engine.progress import Done, LayerProgress, Phase, Progress, Resolved
from sampan.errors import DataLossError, RemoteError, SampanError, UnavailableError
from sampan.oci.platform import host_platform, parse_platform
from sampan.oci.reference import parse_reference
from sampan.wire.channel import rpc_errors

if TYPE_CHECKING:
    from sampan.engine.services import Services

# Events that a slow watcher may leave unread before the work waits for it.
_BACKLOG: Final = 256


# Layers that are asked for at once. The snapshotter unpacks a few at a time; each that waits there costs both sides of
# the call memory, and an archive may hold a thousand.
_APPLIED_AT_ONCE: Final = 32

_PHASES: Final = {
    images_pb2.FetchProgress.WAITING: Phase.WAITING,
    images_pb2.FetchProgress.DOWNLOADING: Phase.DOWNLOADING,
    images_pb2.FetchProgress.VERIFYING: Phase.VERIFYING,
    images_pb2.FetchProgress.COMMITTED: Phase.DOWNLOADED,
    images_pb2.FetchProgress.RETRYING: Phase.RETRYING,
}
_READY: Final = {images_pb2.FetchProgress.COMMITTED, images_pb2.FetchProgress.EXISTED}

Report = Callable[[Progress], Awaitable[None]]


async def pull(
    engine: "Services", reference: str, platform: str, credentials: images_pb2.Credentials | None
) -> AsyncGenerator[Progress, None]:
    """See ``Engine.pull``."""

    async def work(report: Report) -> None:
        # An image without an index is taken for whatever it is for, unless somebody wants another one.
        wanted = wanted_platform(platform) if platform else images_pb2.Platform()
        await _Pull(engine, report, wanted).run(reference, credentials)

    async with aclosing(watched(work)) as events:
        async for event in events:
            yield event


async def import_image(
    engine: "Services",
    chunks: AsyncIterator[bytes],
    reference: str,
    message: str,
    changes: tuple[str, ...],
    platform: str,
) -> AsyncGenerator[Progress, None]:
    """See ``Engine.import_image``."""
    feed = Feed(chunks)
    options = images_pb2.ImportRequest.Options(
        reference=reference, message=message, changes=changes, platform=wanted_platform(platform)
    )

    async def requests() -> AsyncIterator[images_pb2.ImportRequest]:
        yield images_pb2.ImportRequest(options=options)
        async for chunk in feed:
            yield images_pb2.ImportRequest(chunk=chunk)

    async def work(report: Report) -> None:
        with feed.told(), rpc_errors():
            imported = await engine.images.Import(requests())
        async with kept(engine, imported.lease):
            unpacking = Unpacking(engine, report)
            async with asyncio.TaskGroup() as tasks:
                for layer in imported.layers:
                    tasks.create_task(unpacking.apply(layer), name=f"apply {layer.diff_id}")
            await unpacking.stack(imported.layers)
            await _name(engine, report, "import", reference, imported.target, imported.lease, options.platform)

    async with aclosing(watched(work)) as events:
        async for event in events:
            yield event


class _Pull:
    """One pull: what is known of it so far, and its layers being unpacked while others still download."""

    def __init__(self, engine: "Services", report: Report, platform: images_pb2.Platform) -> None:
        self._engine = engine
        self._report = report
        self._platform = platform
        self._unpacking = Unpacking(engine, report)
        self._resolved = images_pb2.FetchProgress.Resolved()
        self._started: set[str] = set()

    async def run(self, reference: str, credentials: images_pb2.Credentials | None) -> None:
        request = images_pb2.FetchRequest(reference=reference, platform=self._platform, credentials=credentials)
        async with AsyncExitStack() as stack:
            await self._run(request, stack)

    async def _run(self, request: images_pb2.FetchRequest, stack: AsyncExitStack) -> None:
        call = self._engine.images.Fetch(request)
        try:
            async with asyncio.TaskGroup() as tasks:
                with rpc_errors():
                    async for message in call:
                        await self._step(message, tasks)
                        if message.HasField("resolved"):
                            await stack.enter_async_context(kept(self._engine, message.resolved.lease))
            await self._unpacking.stack(self._resolved.layers)
            name, lease, target = self._resolved.reference, self._resolved.lease, self._resolved.target
            await _name(self._engine, self._report, "pull", name, target, lease, self._platform)
        except BaseException as error:
            call.cancel()
            if self._resolved.lease:
                await release(self._engine, self._resolved.lease, abandon=_goes_on_later(error))
            raise

    async def _step(self, message: images_pb2.FetchProgress, tasks: asyncio.TaskGroup) -> None:
        if message.HasField("resolved"):
            self._resolved = message.resolved
            digests = tuple(layer.descriptor.digest for layer in message.resolved.layers)
            await self._report(Resolved(message.resolved.reference, message.resolved.target.digest, digests))
        elif message.HasField("layer"):
            step = message.layer
            if step.phase in _PHASES:
                await self._report(LayerProgress(step.digest, _PHASES[step.phase], step.offset, step.total))
            if step.phase in _READY:
                for layer in self._resolved.layers:
                    if layer.descriptor.digest == step.digest and layer.diff_id not in self._started:
                        self._started.add(layer.diff_id)
                        tasks.create_task(self._unpacking.apply(layer), name=f"apply {layer.diff_id}")


class Unpacking:
    """Layers on their way into the snapshotter."""

    def __init__(self, engine: "Services", report: Report) -> None:
        self._engine = engine
        self._report = report
        self._turns = asyncio.Semaphore(_APPLIED_AT_ONCE)

    async def apply(self, layer: images_pb2.LayerContent) -> None:
        """Have one layer unpacked, and report how it goes."""
        async with self._turns:
            await self._apply(layer)

    async def _apply(self, layer: images_pb2.LayerContent) -> None:
        digest, total = layer.descriptor.digest, layer.descriptor.size
        request = layers_pb2.ApplyLayerRequest(descriptor=layer.descriptor, diff_id=layer.diff_id)
        existed = False
        with rpc_errors():
            async for step in self._engine.layers.Apply(request):
                existed = step.existed
                if not step.existed:
                    await self._report(LayerProgress(digest, Phase.EXTRACTING, step.read_bytes, total))
        await self._report(LayerProgress(digest, Phase.EXISTS if existed else Phase.COMPLETE, total, total))

    async def stack(self, layers: Iterable[images_pb2.LayerContent]) -> None:
        """Make the committed snapshots; all layers have been applied."""
        diff_ids = [layer.diff_id for layer in layers]
        with rpc_errors():
            await self._engine.layers.Stack(layers_pb2.StackRequest(diff_ids=diff_ids))


async def _name(
    engine: "Services",
    report: Report,
    action: str,
    reference: str,
    target: types_pb2.Descriptor,
    lease: str,
    platform: images_pb2.Platform,
) -> None:
    request = images_pb2.CreateRequest(reference=reference, target=target, lease=lease, platform=platform)
    with rpc_errors():
        created = await engine.images.Create(request)
    name = parse_reference(reference).with_default_tag().familiar if reference else created.image.id
    await publish.image(engine.runtime.events, action, created.image.id, name)
    await report(Done(created.image, target.digest, created.existed))


def _goes_on_later(error: BaseException) -> bool:
    """Say whether the next pull may go on: the client left, the registry's line broke, or a service went away.

    imaged keeps what such a fetch brought, for a while. What was refused is given back.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(_goes_on_later(one) for one in error.exceptions)
    return isinstance(error, asyncio.CancelledError | RemoteError | UnavailableError)


async def watched(work: Callable[[Report], Awaitable[None]]) -> AsyncGenerator[Progress, None]:
    """Run ``work`` and yield what it reports; closing the iterator cancels it and waits until it has cleaned up."""
    events: asyncio.Queue[Progress | None] = asyncio.Queue(_BACKLOG)

    async def run() -> None:
        try:
            await work(events.put)
        finally:
            # A full queue means that somebody is still reading; a closed iterator reads nothing any more.
            if not events.full():
                events.put_nowait(None)

    task = asyncio.create_task(run(), name="bring image")
    try:
        while True:
            get = asyncio.create_task(events.get(), name="next event")
            await asyncio.wait({get, task}, return_when=asyncio.FIRST_COMPLETED)
            if not get.done():
                get.cancel()
                break
            event = get.result()
            if event is None:
                break
            yield event
        await _outcome(task)
        while not events.empty():
            if (event := events.get_nowait()) is not None:
                yield event
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _outcome(task: "asyncio.Task[None]") -> None:
    """Raise what the work raised: of several failures at once, the first that is not just a consequence."""
    try:
        await task
    except BaseExceptionGroup as group:
        expected = group.subgroup(SampanError)
        raise _first(expected if expected is not None else group) from group


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    leaves = [_first(error) if isinstance(error, BaseExceptionGroup) else error for error in group.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, DataLossError)), leaves[0])


def wanted_platform(text: str) -> images_pb2.Platform:
    """Return the platform that a user names, this host's if none. Raises InvalidArgumentError."""
    platform = parse_platform(text) if text else host_platform()
    return images_pb2.Platform(os=platform.os, architecture=platform.architecture, variant=platform.variant)
