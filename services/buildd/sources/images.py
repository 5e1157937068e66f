"""``docker-image://``: images that are here by name, and others from their registries.

What is fetched for a build gets no name. It is held for the build, and a while longer for the next one; what steps made
of it is in the cache by then.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Final, Protocol
from weakref import WeakValueDictionary

from buildd.deferred import deferred
from buildd.llb.ops import SourceOp
from buildd.protocol import ImageQuery, Output, Pinned, ResolvedImage, StepContext, Tree
from buildd.session.clients import Clients
from buildd.source_metadata import AttestationChain, AttestationQuery
from buildd.sources.attestations import Attestations
from buildd.sources.attributes import check_attributes, number
from buildd.sources.documents import FoundImage, read_document, read_image
from buildd.sources.held import HeldImages, Key, NamedImages
from sampan.errors import (
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    RemoteError,
    SampanError,
    UnavailableError,
    reworded,
)
from sampan.oci.descriptor import INDEXES
from sampan.oci.digest import Digest
from sampan.oci.manifest import MAX_CONFIG_BYTES
from sampan.oci.platform import Platform, host_platform
from sampan.oci.reference import Reference, parse_reference
from sampan.resource.content import Blob
from sampan.resource.image import ImageDetails, Layer
from sampan.resource.storage.images import Images
from sampan.resource.storage.snapshots import Layers
from sampan.resource.transfer import Fetched, FetchPhase, FetchResolved, FetchStep

MODES: Final = ("default", "pull", "local")
SCHEME: Final = "docker-image"

_ATTRIBUTES: Final = ("image.resolvemode", "image.recordtype", "image.layerlimit", "image.checksum")
_APPLIED_AT_ONCE: Final = 8
_RELEASE_S: Final = 5.0
_CONFIGS: Final = 64  # that are remembered
_DENIED: Final = "pull access denied"
_NO_PLATFORM: Final = "no matching manifest for"
_ARRIVED: Final = frozenset({FetchPhase.COMMITTED, FetchPhase.EXISTED})


class Content(Protocol):
    """imaged's store of blobs."""

    def read(self, digest: str, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield a blob's bytes. NotFoundError before the first piece."""

    async def info(self, digest: str) -> Blob:
        """Return one blob. NotFoundError."""


class ImageSource:
    """Finds images and their layers."""

    def __init__(
        self,
        images: Images,
        content: Content,
        layers: Layers,
        clients: Clients,
        held: HeldImages,
        named: NamedImages,
    ) -> None:
        self._attestations = Attestations(images, content, clients)
        self._images = images
        self._content = content
        self._layers = layers
        self._clients = clients
        self._held = held
        self._named = named
        self._asking: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        self._configs: OrderedDict[Digest, bytes] = OrderedDict()

    async def resolve_config(self, query: ImageQuery, context: StepContext) -> ResolvedImage:
        """See ``Sources.resolve_config``."""
        reference = _parse(query.reference)
        found = await self._found(reference, query.platform, query.mode, context)
        return ResolvedImage(str(reference), found.target.digest, found.config)

    async def pin(self, op: SourceOp, platform: Platform, context: StepContext) -> Pinned:
        """See ``Sources.pin``."""
        image = await self._of(op, platform, context)
        return Pinned(_limited(image, op.attrs).key, image.target.digest)

    async def fetch(self, op: SourceOp, platform: Platform, context: StepContext) -> Output:
        """See ``Sources.fetch``."""
        image = await self._of(op, platform, context)
        return Tree(_limited(image, op.attrs).layers)

    async def attestations(
        self, op: SourceOp, query: AttestationQuery, platform: Platform, context: StepContext
    ) -> AttestationChain:
        """See ``Sources.attestations``."""
        image = await self._of(op, platform, context)
        reference = _parse(op.identifier.partition("://")[2])
        return await self._attestations.of(reference, image.target, platform, query, context)

    async def bring(self, reference: str, context: StepContext, stack: AsyncExitStack) -> tuple[bytes, Sequence[Layer]]:
        """Return an image's config and layers as its registry has it now; held until ``stack`` is closed."""
        image = await self._find(_parse(reference), host_platform(), "pull", context)
        await stack.enter_async_context(self._held.used(image))
        return image.config, image.layers

    async def _of(self, op: SourceOp, platform: Platform, context: StepContext) -> FoundImage:
        check_attributes(SCHEME, op.attrs, _ATTRIBUTES)
        reference = _parse(op.identifier.partition("://")[2])
        image = await self._found(reference, platform, op.attrs.get("image.resolvemode") or "default", context)
        wanted = op.attrs.get("image.checksum")
        if wanted and wanted not in (image.target.digest, image.manifest.digest):
            raise DataLossError(f"image digest {image.target.digest} for {reference} does not match {wanted}")
        return image

    async def _found(self, reference: Reference, platform: Platform, mode: str, context: StepContext) -> FoundImage:
        """Return an image that stays as long as ``context`` holds what it is given.

        A build reads what was said of an image long before it needs the layers. By then the name may be another
        image's, or nobody's.
        """
        image = await self._find(reference, platform, mode, context)
        try:
            await context.hold(self._used(image, reference, platform))
        except NotFoundError:  # it went in between: see what there is now
            image = await self._find(reference, platform, mode, context)
            with suppress(NotFoundError):  # unpacked, and not every blob is here: usable, though nothing can keep it
                await context.hold(self._used(image, reference, platform))
        return image

    @asynccontextmanager
    async def _used(self, image: FoundImage, reference: Reference, platform: Platform) -> AsyncGenerator[Output, None]:
        if self._held.has(image):
            async with self._held.used(image):
                yield Tree(image.layers)
        else:
            key = _key(replace(reference, digest=image.target.digest), platform)
            async with self._named.used(key, image):
                yield Tree(image.layers)

    async def _find(self, reference: Reference, platform: Platform, mode: str, context: StepContext) -> FoundImage:
        if mode not in MODES:
            raise InvalidArgumentError(f"invalid resolve mode {mode!r}: expected {', '.join(MODES)}")
        key = _key(reference, platform)
        lock = self._asking.setdefault(key, asyncio.Lock())
        async with lock:
            # A digest leads to the same everywhere.
            if mode != "pull" or reference.digest is not None:
                if (held := self._held.get(key) or self._named.get(key)) is not None:
                    return held
                any_single = mode == "local" or reference.digest is not None
                if (here := await self._here(reference, platform, any_single=any_single)) is not None:
                    return here
            try:
                return await self._fetch(reference, platform, context)
            except SampanError as error:
                # The registry would have known best whether there is one for the platform.
                if mode == "default" and (here := await self._here(reference, platform, any_single=True)) is not None:
                    return here
                raise _explained(error, reference) from error

    async def _here(self, reference: Reference, platform: Platform, *, any_single: bool) -> FoundImage | None:
        """Return an image that is here by name, if it is for the platform or, with ``any_single``, has no index."""
        names = [str(reference)]
        if reference.digest is not None and reference.tag is not None:
            names.append(str(replace(reference, digest=None)))
        for name in names:
            try:
                details = await self._images.get(name)
            except NotFoundError:
                continue
            if reference.digest not in (None, details.target.digest, details.manifest.digest):
                continue
            try:
                return await self._read(_as_named(details, reference), platform, name, any_single=any_single)
            except (NotFoundError, DataLossError, RemoteError):  # not here for the platform, or not whole
                continue
        return None

    async def _read(self, details: ImageDetails, platform: Platform, name: str, *, any_single: bool) -> FoundImage:
        single = details.target.media_type not in INDEXES
        if platform.runs(details.platform) or (single and any_single):
            config = self._configs.get(details.id)
            if config is None:
                config = await read_document(self._content, details.id, MAX_CONFIG_BYTES)
                self._configs[details.id] = config
                if len(self._configs) > _CONFIGS:
                    self._configs.popitem(last=False)
            layers = tuple(deferred(each) if each.diff_id in details.deferred else each for each in details.layers)
            return FoundImage(details.target, details.manifest, config, layers)
        if single:
            raise NotFoundError(f"{name} is for {details.platform}")
        image = await read_image(self._content, details.target, platform, name)
        for layer in image.layers:
            await self._content.info(layer.descriptor.digest)
        return image

    async def _fetch(self, reference: Reference, platform: Platform, context: StepContext) -> FoundImage:
        credentials = await self._clients.credentials(reference, context)
        fetching = _Fetching(self._layers, context)
        name = f"resolve {reference}"
        context.status(name)
        try:
            async with (
                aclosing(self._images.fetch(str(reference), platform, credentials, any_single=True)) as steps,
                asyncio.TaskGroup() as tasks,
            ):
                async for step in steps:
                    fetching.take(step, tasks)
                    if isinstance(step, FetchResolved):
                        context.status(name, done=True)
        except BaseExceptionGroup as failures:
            await self._release(fetching)
            raise _first(failures) from failures
        except BaseException:
            await self._release(fetching)
            raise
        resolved, fetched = fetching.resolved, fetching.fetched
        if resolved is None or fetched is None:
            raise UnavailableError("imaged has ended the fetch early")
        config = await read_document(self._content, fetched.image_id, MAX_CONFIG_BYTES)
        await self._layers.stack([layer.diff_id for layer in resolved.layers])
        image = FoundImage(fetched.target, fetched.manifest, config, resolved.layers)
        keys = (_key(reference, platform), _key(replace(reference, digest=fetched.target.digest), platform))
        await self._held.add(keys, image, self._images.kept(resolved.lease))
        return image

    async def _release(self, fetching: "_Fetching") -> None:
        """Leave what a failed fetch has brought to the next one."""
        if fetching.resolved is None:
            return
        try:
            async with asyncio.timeout(_RELEASE_S):
                await self._images.release(fetching.resolved.lease, abandon=True)
        except (SampanError, TimeoutError):
            return


class _Fetching:
    """A fetch, and its layers being unpacked while others still come."""

    def __init__(self, layers: Layers, context: StepContext) -> None:
        self._layers = layers
        self._context = context
        self._turns = asyncio.Semaphore(_APPLIED_AT_ONCE)
        self._begun: set[Digest] = set()
        self.resolved: FetchResolved | None = None
        self.fetched: Fetched | None = None

    def take(self, step: object, tasks: asyncio.TaskGroup) -> None:
        """Take note of a step, and have a layer that has come unpacked."""
        if isinstance(step, FetchResolved):
            self.resolved = step
        elif isinstance(step, Fetched):
            self.fetched = step
        elif isinstance(step, FetchStep) and step.phase is not FetchPhase.RETRYING:
            arrived = step.phase in _ARRIVED
            if step.phase is not FetchPhase.EXISTED:
                self._context.status(step.digest, current=step.offset, total=step.total, done=arrived)
            if arrived and self.resolved is not None:
                for layer in self.resolved.layers:
                    if layer.descriptor.digest == step.digest and layer.diff_id not in self._begun:
                        self._begun.add(layer.diff_id)
                        tasks.create_task(self._apply(layer), name=f"apply {layer.diff_id}")

    async def _apply(self, layer: Layer) -> None:
        name = f"extracting {layer.descriptor.digest}"
        told = False
        async with self._turns, aclosing(self._layers.apply(layer.descriptor, layer.diff_id)) as steps:
            async for step in steps:
                if not step.existed:
                    told = True
                    self._context.status(name, current=step.read_bytes, total=layer.descriptor.size)
        if told:
            self._context.status(name, current=layer.descriptor.size, total=layer.descriptor.size, done=True)


def _parse(text: str) -> Reference:
    return parse_reference(text).with_default_tag()


def _as_named(details: ImageDetails, reference: Reference) -> ImageDetails:
    """Return an image as ``reference`` leads to it: by a manifest's own digest past the index that has it, too."""
    if reference.digest == details.manifest.digest:
        return replace(details, target=details.manifest)
    return details


def _key(reference: Reference, platform: Platform) -> Key:
    return str(replace(reference, tag=None) if reference.digest is not None else reference), platform


def _limited(image: FoundImage, attributes: Mapping[str, str]) -> FoundImage:
    most = number(attributes, "image.layerlimit")
    if not most:
        return image
    if most > len(image.layers):
        raise InvalidArgumentError(f"invalid image.layerlimit {most}: the image has {len(image.layers)} layers")
    return replace(image, layers=image.layers[:most])


def _explained(error: SampanError, reference: Reference) -> SampanError:
    """Return a registry's no in the words of builders."""
    before = f"failed to resolve source metadata for {reference}"
    text = str(error)
    if isinstance(error, NotFoundError):
        if text.startswith(_DENIED):
            why = text.rpartition(": ")[2]
            return PermissionDeniedError(
                f"{before}: {_DENIED}, repository does not exist or may require authorization: server message: {why}"
            )
        if text.startswith(_NO_PLATFORM):
            return NotFoundError(f"{before}: no match for platform in manifest: not found")
        return NotFoundError(f"{before}: {reference}: not found")
    return reworded(error, f"{before}: {text}")


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    leaves = [_first(each) if isinstance(each, BaseExceptionGroup) else each for each in failures.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, DataLossError)), leaves[0])
