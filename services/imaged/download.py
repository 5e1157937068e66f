"""Blobs from registries to the content store: resumed, verified, and each only once at a time."""

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from imaged.content import ContentStore
from imaged.ingest import Ingest, Ingests
from imaged.memory import give_back
from imaged.metrics import PullMetrics
from imaged.model import PIECE_BYTES, LayerProgress, Phase
from imaged.registry.client import RegistryClient
from imaged.registry.errors import Refusal, TransportError
from imaged.registry.retry import RetryPolicy
from sampan.errors import DataLossError, NotFoundError, RemoteError, SampanError
from sampan.log import log
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest

if TYPE_CHECKING:
    import aiohttp

Report = Callable[[LayerProgress], None]

_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


class _Shared:
    """A download that several pulls may wait for."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.reports: list[Report] = []

    def report(self, progress: LayerProgress) -> None:
        for report in tuple(self.reports):
            report(progress)


class Downloads:
    """All downloads of the process, by digest."""

    def __init__(self, content: ContentStore, ingests: Ingests, retry: RetryPolicy, metrics: PullMetrics) -> None:
        self._content = content
        self._ingests = ingests
        self._retry = retry
        self._metrics = metrics
        self._shared: dict[Digest, _Shared] = {}

    async def fetch(self, descriptor: Descriptor, sources: Sequence[RegistryClient], report: Report) -> None:
        """Bring a blob here from the first source that has it; whoever calls holds it with a lease already.

        Calls for one blob share one download, which ends when the last of them is cancelled. If a download that
        somebody else began fails, it is tried again with this call's own sources and credentials.

        Raises:
            DataLossError: no source has bytes that fit digest and size.
            RemoteError: no source delivers.
            ResourceExhaustedError: the disk is full.
        """
        while (shared := self._shared.get(descriptor.digest)) is not None:
            try:
                await self._wait(shared, report)
            except (SampanError, Refusal) as error:
                log.debug("shared download failed", digest=descriptor.digest, error=str(error))
            else:
                return
        shared = _Shared()
        self._shared[descriptor.digest] = shared
        shared.task = asyncio.create_task(
            self._run(descriptor, sources, shared), name=f"download {descriptor.digest.short}"
        )
        await self._wait(shared, report)

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

    async def _run(self, descriptor: Descriptor, sources: Sequence[RegistryClient], shared: _Shared) -> None:
        try:
            await self._from_any(descriptor, sources, shared.report)
        finally:
            del self._shared[descriptor.digest]
            if not self._shared:
                give_back()

    async def _from_any(self, descriptor: Descriptor, sources: Sequence[RegistryClient], report: Report) -> None:
        failure: Exception | None = None
        for source in sources:
            try:
                await self._from_one(descriptor, source, report)
            except (DataLossError, NotFoundError, RemoteError, Refusal) as error:
                log.info("blob not delivered", digest=descriptor.digest, source=source.url, error=str(error))
                failure = error
            else:
                return
        assert failure is not None
        if isinstance(failure, Refusal):
            raise RemoteError(f"blob {descriptor.digest}: {failure}") from failure
        raise failure

    async def _from_one(self, descriptor: Descriptor, source: RegistryClient, report: Report) -> None:
        ref = f"fetch-{descriptor.digest}"
        async with self._ingests.open(ref, descriptor.size) as ingest:
            ingest.expected = descriptor.digest
            try:
                with self._metrics.timed("download"):
                    await self._receive(descriptor, source, ingest, report)
                report(LayerProgress(descriptor.digest, Phase.VERIFYING, descriptor.size, descriptor.size))
                with self._metrics.timed("commit"):
                    await self._ingests.publish(ingest)
            finally:
                self._ingests.discard(ingest)
        self._metrics.add_bytes("committed", descriptor.size)

    async def _receive(self, descriptor: Descriptor, source: RegistryClient, ingest: Ingest, report: Report) -> None:
        """Fill ``ingest`` with the verified blob, going on where a broken connection left off."""
        attempt = 0
        resumed = False
        while True:
            attempt += 1
            try:
                await self._attempt(descriptor, source, ingest, report)
            except (TransportError, Refusal) as error:
                delay_s = self._retry.delay_s(error, attempt)
                if delay_s is None:
                    raise _gave_up(descriptor, ingest, error) from error
                self._metrics.retry()
                log.info("blob tried again", digest=descriptor.digest, error=str(error), delay_s=round(delay_s, 1))
                report(LayerProgress(descriptor.digest, Phase.RETRYING, round(delay_s), descriptor.size))
                resumed = resumed or ingest.offset > 0
                await asyncio.sleep(delay_s)
                continue
            if ingest.digest == descriptor.digest:
                return
            if not resumed:
                raise DataLossError(
                    f"filesystem layer verification failed for digest {descriptor.digest}: "
                    f"the registry sent content with digest {ingest.digest}"
                )
            # Glued from two answers, perhaps of two storage hosts: one try in a single piece before it is damage.
            resumed = False
            await ingest.truncate()

    async def _attempt(self, descriptor: Descriptor, source: RegistryClient, ingest: Ingest, report: Report) -> None:
        if ingest.offset == descriptor.size:
            return  # empty, or all but the end of the connection had arrived
        async with source.blob(descriptor.digest, ingest.offset) as response:
            if ingest.offset and not _continues(response, ingest.offset):
                await ingest.truncate()
            announced = response.content_length
            if announced is not None and ingest.offset + announced != descriptor.size:
                raise DataLossError(
                    f"blob {descriptor.digest} has {ingest.offset + announced} bytes at the registry, "
                    f"its manifest says {descriptor.size}"
                )
            await self._copy(response, descriptor, ingest, report)
        if ingest.offset < descriptor.size:
            raise TransportError("unexpected EOF")

    async def _copy(
        self, response: "aiohttp.ClientResponse", descriptor: Descriptor, ingest: Ingest, report: Report
    ) -> None:
        pending = bytearray()
        report(LayerProgress(descriptor.digest, Phase.DOWNLOADING, ingest.offset, descriptor.size))
        try:
            async for chunk in response.content.iter_any():
                pending += chunk
                if ingest.offset + len(pending) > descriptor.size:
                    raise DataLossError(f"blob {descriptor.digest} is longer than the {descriptor.size} bytes it has")
                if len(pending) >= PIECE_BYTES:
                    piece, pending = bytes(pending), bytearray()
                    await self._append(ingest, piece)
                    report(LayerProgress(descriptor.digest, Phase.DOWNLOADING, ingest.offset, descriptor.size))
        finally:
            # What arrived before the connection broke need not be sent again.
            if pending and ingest.offset + len(pending) <= descriptor.size:
                await self._append(ingest, bytes(pending))

    async def _append(self, ingest: Ingest, piece: bytes) -> None:
        await ingest.write(piece)
        self._metrics.add_bytes("downloaded", len(piece))


def _continues(response: "aiohttp.ClientResponse", offset: int) -> bool:
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return response.status == 206 and match is not None and int(match[1]) == offset


def _gave_up(descriptor: Descriptor, ingest: Ingest, error: TransportError | Refusal) -> Exception:
    if isinstance(error, Refusal) and not error.retriable:
        return error
    return RemoteError(
        f"blob {descriptor.digest}: download ended after {ingest.offset} of {descriptor.size} bytes: {error}"
    )
