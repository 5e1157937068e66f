"""``oci-layout://``: images of OCI layouts that clients have."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from buildd.content import Content, copy_blob
from buildd.llb.ops import SourceOp
from buildd.protocol import ImageQuery, Output, Pinned, ResolvedImage, StepContext, Tree
from buildd.session.clients import Clients
from buildd.session.protocol import ClientContent
from buildd.sources.attributes import check_attributes
from buildd.sources.documents import FoundImage, read_document, read_image
from buildd.sources.held import HeldImages
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.oci.descriptor import INDEXES, OCI_INDEX, OCI_MANIFEST, Descriptor
from sampan.oci.json_documents import load_json
from sampan.oci.platform import Platform
from sampan.oci.reference import Reference, parse_reference
from sampan.resource.storage.images import Images

SCHEME: Final = "oci-layout"

_ATTRIBUTES: Final = ("oci.store", "oci.session", "image.layerlimit")
_STORE: Final = "oci:"  # before the names of a client's layouts, among the stores of its session
_AT_ONCE: Final = 3  # layers


class LayoutSource:
    """Brings images of layouts into the content store, as far as they are not there."""

    def __init__(self, images: Images, content: Content, clients: Clients, held: HeldImages) -> None:
        self._images = images
        self._content = content
        self._clients = clients
        self._held = held

    async def resolve_config(self, query: ImageQuery, context: StepContext) -> ResolvedImage:
        """See ``Sources.resolve_config``."""
        reference = _parse(query.reference)
        store = await self._store(query.layout, "", context)
        found = await _read(store, reference, query.platform)
        return ResolvedImage(str(reference), found.target.digest, found.config)

    async def pin(self, op: SourceOp, platform: Platform, context: StepContext) -> Pinned:
        """See ``Sources.pin``."""
        image, _ = await self._of(op, platform, context)
        return Pinned(image.key, image.target.digest)

    async def fetch(self, op: SourceOp, platform: Platform, context: StepContext) -> Output:
        """See ``Sources.fetch``."""
        image, store = await self._of(op, platform, context)
        key = f"{SCHEME}://{image.manifest.digest}", platform
        if (known := self._held.get(key)) is None:
            await self._held.add([key], image, self._brought(image, store, context))
            known = image

        @asynccontextmanager
        async def held() -> AsyncIterator[Output]:
            async with self._held.used(known):
                yield Tree(known.layers)

        return await context.hold(held())

    @asynccontextmanager
    async def _brought(self, image: FoundImage, store: ClientContent, context: StepContext) -> AsyncIterator[str]:
        """Bring an image's layers, and keep them within."""
        async with self._images.kept() as lease:
            turns = asyncio.Semaphore(_AT_ONCE)
            try:
                async with asyncio.TaskGroup() as group:
                    for descriptor in {layer.descriptor for layer in image.layers}:
                        group.create_task(self._bring(descriptor, store, lease, turns, context))
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from failures
            yield lease

    async def _of(self, op: SourceOp, platform: Platform, context: StepContext) -> tuple[FoundImage, ClientContent]:
        check_attributes(SCHEME, op.attrs, _ATTRIBUTES)
        store = await self._store(op.attrs.get("oci.store", ""), op.attrs.get("oci.session", ""), context)
        return await _read(store, _parse(op.identifier.partition("://")[2]), platform), store

    async def _store(self, name: str, session: str, context: StepContext) -> ClientContent:
        if not name:
            raise InvalidArgumentError("an OCI layout needs the name of its store (oci.store)")
        return (await self._clients.first(context, session)).content(f"{_STORE}{name}")

    async def _bring(
        self,
        descriptor: Descriptor,
        store: ClientContent,
        lease: str,
        turns: asyncio.Semaphore,
        context: StepContext,
    ) -> None:
        def show(current: int) -> None:
            context.status(descriptor.digest, current=current, total=descriptor.size)

        async with turns:
            await copy_blob(self._content, store, descriptor, lease, lease=lease, progress=show)
        context.status(descriptor.digest, current=descriptor.size, total=descriptor.size, done=True)


async def _read(store: ClientContent, reference: Reference, platform: Platform) -> FoundImage:
    assert reference.digest is not None
    try:
        data = await read_document(store, reference.digest)
        # Nothing but the document says what it is.
        document = load_json(data, str(reference))
        stated = document.get("mediaType") if isinstance(document, dict) else None
        fallback = OCI_INDEX if isinstance(document, dict) and "manifests" in document else OCI_MANIFEST
        target = Descriptor(stated if isinstance(stated, str) else fallback, reference.digest, len(data))
        if fallback == OCI_INDEX and target.media_type not in INDEXES:
            raise InvalidArgumentError(f"{reference}: an index says that it is {target.media_type[:100]!r}")
        return await read_image(store, target, platform, str(reference))
    except NotFoundError as error:
        raise NotFoundError(f"failed to resolve source metadata for {reference}: {error}") from error


def _parse(text: str) -> Reference:
    reference = parse_reference(text)
    if reference.digest is None:
        raise InvalidArgumentError(f"OCI layout {text!r} must be named with its digest: name@sha256:...")
    return reference
