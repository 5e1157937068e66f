"""Blobs from registries to the content store: resumed, verified, and each only once at a time."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace

from imaged.content.blobs import ContentStore
from imaged.content.partial import MakeRoom, Partials
from imaged.registry.client import Place, RegistryClient
from imaged.registry.errors import Refusal, TransportError
from imaged.transfer.blob_fetch import Means, Report, Transfer
from sampan.errors import DataLossError, NotFoundError, RemoteError, ResourceExhaustedError, SampanError
from sampan.log import log
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.resource.transfer import FetchPhase, FetchStep
from sampan.sys.memory import trim


class _Shared:
    """A download that several pulls may wait for."""

    def __init__(self, places: tuple[Place, ...]) -> None:
        self.places = places  # that it is downloaded from
        self.task: asyncio.Task[None] | None = None
        self.reports: list[Report] = []

    def report(self, progress: FetchStep) -> None:
        for report in tuple(self.reports):
            report(progress)


class Downloads:
    """All downloads of the process, by digest."""

    def __init__(self, content: ContentStore, partials: Partials, make_room: MakeRoom, means: Means) -> None:
        self._content = content
        self._partials = partials
        self._make_room = make_room
        self._means = means
        self._shared: dict[Digest, _Shared] = {}

    async def fetch(self, descriptor: Descriptor, sources: Sequence[RegistryClient], report: Report) -> None:
        """Fetch a blob from the first source that has it; whoever calls holds it with a lease already.

        Calls for one blob share one download, which ends when the last of them is cancelled. If one that somebody
        else began fails, or ends because whoever waited for it left, this call goes on with its own sources and
        credentials, unless they are the same that have failed just now.

        Raises:
            DataLossError: no source has bytes that fit digest and size.
            TransportError: no source delivers, and trying again may help: what came is kept.
            RemoteError: no source delivers.
            ResourceExhaustedError: the disk is full.
        """
        places = tuple(source.place for source in sources)
        while (shared := self._shared.get(descriptor.digest)) is not None:
            try:
                await self._wait(shared, report)
            except (SampanError, Refusal) as error:
                if shared.places == places:
                    raise
                log.debug("shared download failed", digest=descriptor.digest, error=str(error))
            except asyncio.CancelledError:
                if shared.task is None or not shared.task.cancelled() or _is_being_cancelled():
                    raise
            else:
                return
            self._ended(descriptor.digest, shared)  # it may have ended this moment, and not been taken off yet
        shared = self._shared[descriptor.digest] = _Shared(places)
        shared.task = asyncio.create_task(
            self._from_any(descriptor, sources, shared.report), name=f"download {descriptor.digest.short}"
        )
        # Not in the task itself: one that is cancelled at once never runs.
        shared.task.add_done_callback(lambda _: self._ended(descriptor.digest, shared))
        await self._wait(shared, report)

    def _ended(self, digest: Digest, shared: _Shared) -> None:
        if self._shared.get(digest) is shared:
            del self._shared[digest]
        if not self._shared:
            trim()

    async def forget(self, digests: Iterable[Digest]) -> None:
        """Remove what downloads left of these that ended early and nobody goes on with."""
        await self._partials.forget(digests)

    async def _wait(self, shared: _Shared, report: Report) -> None:
        assert shared.task is not None
        shared.reports.append(report)
        try:
            await asyncio.shield(shared.task)
        finally:
            shared.reports.remove(report)
            if not shared.reports and not shared.task.done():
                shared.task.cancel()
                await asyncio.wait([shared.task])

    async def _from_any(self, descriptor: Descriptor, sources: Sequence[RegistryClient], report: Report) -> None:
        failure: Exception | None = None
        for source in sources:
            # Where there is another place to ask, going there is better than waiting.
            means = self._means if source is sources[-1] else _impatient(self._means)
            try:
                await self._from_one(descriptor, source, means, report)
            except (DataLossError, NotFoundError, RemoteError, Refusal) as error:
                log.info("blob not delivered", digest=descriptor.digest, source=source.url, error=str(error))
                failure = error
            else:
                return
        assert failure is not None
        if isinstance(failure, Refusal):
            kind = TransportError if failure.retriable else RemoteError
            raise kind(f"blob {descriptor.digest}: {failure}") from failure
        raise failure

    async def _from_one(self, descriptor: Descriptor, source: RegistryClient, means: Means, report: Report) -> None:
        async with self._partials.open(descriptor, self._make_room) as partial:
            try:
                with means.metrics.timed("download", descriptor.size - partial.size):
                    await Transfer(descriptor, source, partial, means, report).run()
                report(FetchStep(descriptor.digest, FetchPhase.VERIFYING, descriptor.size, descriptor.size))
                with means.metrics.timed("commit", descriptor.size):
                    await self._content.place(await partial.seal(), descriptor.digest, descriptor.size)
            except (DataLossError, ResourceExhaustedError):
                # Wrong bytes are of no use, and bytes that fill the disk are in the way.
                partial.discard()
                raise
            partial.discard()
        means.metrics.add_bytes("committed", descriptor.size)


def _impatient(means: Means) -> Means:
    return replace(means, retry=replace(means.retry, attempts=min(2, means.retry.attempts)))


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
