"""Fetch an image: resolve its name, fetch everything it is made of, and hold it with a lease."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Final

from imaged.content.blobs import ContentStore
from imaged.content.leases import Leases
from imaged.metrics import PullMetrics
from imaged.registry.client import RegistryClient
from imaged.registry.errors import Refusal, TransportError
from imaged.registry.source import Source, Sources
from imaged.transfer.blob_fetch import Report
from imaged.transfer.download import Downloads
from imaged.transfer.progress import Progress, Step
from sampan.errors import DataLossError, InvalidArgumentError, RemoteError, SampanError, UnimplementedError
from sampan.log import log
from sampan.oci.config_document import check_sizes, parse_config
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.image_config import ConfigFile
from sampan.oci.manifest import MAX_CONFIG_BYTES, Manifest, choose, parse_document
from sampan.oci.platform import Platform, host_platform
from sampan.oci.reference import Reference
from sampan.resource.image import Credentials, Layer
from sampan.resource.transfer import Fetched, FetchPhase, FetchResolved, FetchStep

# An index may hold indexes; nobody nests them deeper than this.
_MAX_INDEX_DEPTH: Final = 2


@dataclass(frozen=True, slots=True)
class _Document:
    """A manifest or index as it came."""

    descriptor: Descriptor
    data: bytes


class Puller:
    """Pulls images."""

    def __init__(
        self,
        sources: Sources,
        content: ContentStore,
        leases: Leases,
        downloads: Downloads,
        metrics: PullMetrics,
        *,
        parallel: int = 3,
    ) -> None:
        self._sources = sources
        self._content = content
        self._leases = leases
        self._downloads = downloads
        self._metrics = metrics
        self.parallel = parallel  # of one pull; may be changed for those to come
        self._running: set[asyncio.Task[tuple[str, Fetched]]] = set()

    async def close(self) -> None:
        """Cancel the pulls that still run, and wait until they have cleaned up."""
        for task in tuple(self._running):
            task.cancel()
        if self._running:
            await asyncio.wait(tuple(self._running))

    async def fetch(
        self,
        reference: Reference,
        platform: Platform | None,
        credentials: Credentials,
        *,
        any_single: bool = False,
    ) -> AsyncGenerator[Step | Fetched, None]:
        """Yield ``FetchResolved``, then steps of the layers, each first waiting, and ``Fetched`` last.

        Closing the iterator, or cancelling, before the last step ends the pull. What it fetched is kept for a while
        without being visible, so that the next one goes on there; the same holds if the registry breaks off. Any
        other failure, and bytes that were refused, leave nothing. With ``any_single`` a manifest that no index leads
        to is taken whatever machine it is for.

        Raises:
            NotFoundError: no such name, no such repository, access denied, or nothing for the platform.
            InvalidArgumentError: a single manifest for another platform.
            UnauthenticatedError: credentials are missing or wrong.
            RemoteError: the registry does not answer, or answers with nonsense.
            DataLossError: content does not fit its digest.
            UnimplementedError: something that is no image for Linux, or uses a format that is not supported.
        """
        progress = Progress()
        work = self._run(reference, platform, credentials, any_single, progress)
        task = asyncio.create_task(work, name=f"pull {reference}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda _: progress.end())
        delivered = False
        try:
            async for step in progress.steps():
                yield step
            _, fetched = await task
            delivered = True
            yield fetched
        finally:
            if not delivered:
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled() and task.exception() is None:
                    await self._leases.abandon(task.result()[0])

    async def _run(
        self,
        reference: Reference,
        platform: Platform | None,
        credentials: Credentials,
        any_single: bool,
        progress: Progress,
    ) -> tuple[str, Fetched]:
        with self._metrics.pull(), self._metrics.tracked(str(reference)) as tracker:
            progress.watch(tracker)
            async with self._leases.held(reference.name, (asyncio.CancelledError, TransportError)) as lease:
                fetched = await self._bring(lease, reference, platform, credentials, any_single, progress)
            return lease, fetched

    async def _bring(
        self,
        lease: str,
        reference: Reference,
        platform: Platform | None,
        credentials: Credentials,
        any_single: bool,
        progress: Progress,
    ) -> Fetched:
        with self._metrics.timed("resolve"):
            source, documents, manifest = await self._resolve(reference, platform or host_platform(), credentials)
            for document in documents:
                await self._content.put(document.data, document.descriptor.media_type, lease)
            config = await self._config(lease, manifest.config, source.clients)
            _check_platform(reference, config, platform if len(documents) == 1 and not any_single else None)
        layers = pair_layers(manifest, config)
        target, own = documents[0].descriptor, documents[-1].descriptor
        await self._leases.expect(lease, [layer.diff_id for layer in layers])
        progress.resolved(FetchResolved(lease, reference, target, layers))
        await self._layers(lease, manifest, source.clients, progress)
        return Fetched(manifest.config.digest, target, own)

    async def _resolve(
        self, reference: Reference, platform: Platform, credentials: Credentials
    ) -> tuple[Source, list[_Document], Manifest]:
        """Ask one place after the other; return the first that has the image, with its index and manifest."""
        candidates = self._sources.of(reference, credentials)
        while True:
            source = next(candidates)
            try:
                await source.connect()
                documents, manifest = await _documents(source, reference, platform)
            except (SampanError, Refusal) as error:
                if source.last and isinstance(error, Refusal):
                    raise error.as_error(reference) from error
                if source.last:
                    raise
                log.warning("mirror cannot serve", mirror=source.client.url, image=str(reference), error=str(error))
            else:
                return source, documents, manifest

    async def _config(self, lease: str, descriptor: Descriptor, clients: Sequence[RegistryClient]) -> ConfigFile:
        await self._blob(lease, descriptor, clients, lambda _: None)
        data = await self._content.load(descriptor.digest, MAX_CONFIG_BYTES)
        config = parse_config(data, f"config {descriptor.digest}")
        check_sizes(config.run, f"config {descriptor.digest}")
        return config

    async def _layers(
        self, lease: str, manifest: Manifest, clients: Sequence[RegistryClient], progress: Progress
    ) -> None:
        slots = asyncio.Semaphore(self.parallel)

        async def fetch(descriptor: Descriptor) -> None:
            async with slots:
                await self._blob(lease, descriptor, clients, progress.post)

        # One layer may be in a stack several times: the empty one often is.
        different = {descriptor.digest: descriptor for descriptor in manifest.layers}
        try:
            async with asyncio.TaskGroup() as tasks:
                for descriptor in different.values():
                    tasks.create_task(fetch(descriptor), name=f"layer {descriptor.digest.short}")
        except ExceptionGroup as group:
            failure = group.exceptions[0]
            if not isinstance(failure, TransportError):
                await self._downloads.forget(different)
            raise failure from group

    async def _blob(
        self, lease: str, descriptor: Descriptor, clients: Sequence[RegistryClient], report: Report
    ) -> None:
        """Hold a blob and fetch it if it is not here, or not whole any more."""
        here = await self._leases.hold(lease, [descriptor.digest])
        size = here.get(descriptor.digest)
        if size is None or not await asyncio.to_thread(self._content.is_whole, descriptor.digest, size):
            self._metrics.miss()
            await self._downloads.fetch(descriptor, clients, report)
            phase = FetchPhase.COMMITTED
        elif size == descriptor.size:
            self._metrics.hit(size)
            phase = FetchPhase.EXISTED
        else:
            raise DataLossError(f"blob {descriptor.digest} has {size} bytes, the manifest says {descriptor.size}")
        report(FetchStep(descriptor.digest, phase, descriptor.size, descriptor.size))


async def _documents(source: Source, reference: Reference, platform: Platform) -> tuple[list[_Document], Manifest]:
    """Return what the name points to and, if that is an index, what it leads to, ending with the manifest."""
    wanted = str(reference.digest or reference.tag)
    documents = [await _document(source, wanted, reference.digest)]
    while True:
        newest = documents[-1]
        what = f"{reference.familiar_name}@{newest.descriptor.digest}"
        parsed = parse_document(newest.data, newest.descriptor.media_type, what)
        if isinstance(parsed, Manifest):
            return documents, parsed
        if len(documents) > _MAX_INDEX_DEPTH:
            raise RemoteError(f"{what}: indexes are nested more than {_MAX_INDEX_DEPTH} deep")
        chosen = choose(parsed, platform)
        document = await _document(source, chosen.digest, chosen.digest)
        if document.descriptor != chosen:
            found = document.descriptor
            raise RemoteError(
                f"{what}: says {chosen.media_type} of {chosen.size} bytes for {chosen.digest}, "
                f"which is {found.media_type} of {found.size} bytes"
            )
        documents.append(document)


async def _document(source: Source, wanted: str, digest: Digest | None) -> _Document:
    data, media_type = await source.manifest(wanted)
    found = Digest.of(data)
    if digest is not None and found != digest:
        raise DataLossError(f"manifest verification failed for digest {digest}: the registry sent {found}")
    return _Document(Descriptor(media_type, found, len(data)), data)


def pair_layers(manifest: Manifest, config: ConfigFile) -> tuple[Layer, ...]:
    """Return blobs with the diff IDs that the config gives them.

    Raises:
        RemoteError: there are more of one than of the other.
    """
    blobs, diff_ids = manifest.layers, config.diff_ids
    if len(blobs) != len(diff_ids):
        raise RemoteError(
            f"config {manifest.config.digest} has {len(diff_ids)} diff IDs and its manifest {len(blobs)} layers"
        )
    return tuple(Layer(blob, diff_id) for blob, diff_id in zip(blobs, diff_ids, strict=True))


def _check_platform(reference: Reference, config: ConfigFile, wanted: Platform | None) -> None:
    """Refuse what cannot run here, and, where somebody asked for a platform, any other one."""
    found = config.platform
    if found.os != "linux":
        raise UnimplementedError(f'image operating system "{found.os}" cannot be used on this platform')
    if wanted is not None and not wanted.runs(found):
        raise InvalidArgumentError(
            f"image with reference {reference.familiar} was found but does not match the specified platform: "
            f"wanted {wanted}, actual: {found}"
        )
