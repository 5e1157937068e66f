"""``oci-layout://``: images of OCI layouts that clients have."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from typing import Final, Protocol

from buildd.llb.ops import SourceOp
from buildd.protocol import ImageQuery, Output, Pinned, ResolvedImage, StepContext, Tree
from buildd.session.protocol import ClientContent
from buildd.sources.clients import Clients, check_attributes
from buildd.sources.documents import FoundImage, read_document, read_image
from buildd.sources.held import HeldImages
from sampan.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError
from sampan.oci.descriptor import INDEXES, OCI_INDEX, OCI_MANIFEST, Descriptor
from sampan.oci.json_documents import load_json
from sampan.oci.platform import Platform
from sampan.oci.reference import Reference, parse_reference
from sampan.resource.content import Action, Blob, WriteReply, WriteStep
from sampan.resource.storage import Images

SCHEME: Final = "oci-layout"

_ATTRIBUTES: Final = ("oci.store", "oci.session", "image.layerlimit")
_AT_ONCE: Final = 3  # layers


class Conversation(Protocol):
    """A write that goes on."""

    async def ask(self, step: WriteStep) -> WriteReply:
        """Send a message and return the answer. AlreadyExistsError: the content is here."""

    async def hang_up(self) -> None:
        """End it. Raises how it ended."""


class Content(Protocol):
    """imaged's store of blobs."""

    def write(self, *, lease: str = "") -> AbstractAsyncContextManager[Conversation]:
        """Talk about a write within; ``lease`` keeps what is committed."""

    async def info(self, digest: str) -> Blob:
        """Return one blob. NotFoundError."""


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
        return (await self._clients.first(context, session)).content(name)

    async def _bring(
        self,
        descriptor: Descriptor,
        store: ClientContent,
        lease: str,
        turns: asyncio.Semaphore,
        context: StepContext,
    ) -> None:
        async with turns, self._content.write(lease=lease) as conversation:
            ref = f"build-{lease}-{descriptor.digest}"  # other builds may bring the same blob
            with suppress(AlreadyExistsError):
                first = WriteStep(Action.STAT, ref, descriptor.size, descriptor.digest)
                offset = (await conversation.ask(first)).offset
                async with aclosing(store.read(descriptor.digest, offset)) as pieces:
                    async for piece in pieces:
                        step = WriteStep(Action.WRITE, ref, descriptor.size, descriptor.digest, offset, piece)
                        offset = (await conversation.ask(step)).offset
                        context.status(descriptor.digest, current=offset, total=descriptor.size)
                await conversation.ask(WriteStep(Action.COMMIT, ref, descriptor.size, descriptor.digest, offset))
                await conversation.hang_up()
        context.status(descriptor.digest, current=descriptor.size, total=descriptor.size, done=True)


class _Store:
    """A client's store as documents are read from one."""

    def __init__(self, content: ClientContent) -> None:
        self._content = content

    def read(self, digest: str, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes, None]:
        return self._content.read(digest, offset, size)


async def _read(content: ClientContent, reference: Reference, platform: Platform) -> FoundImage:
    store = _Store(content)
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
