"""Finds results of earlier builds elsewhere: ``--cache-from``. What is hit is brought here, layers and all.

Reference: moby/buildkit, README, "Import cache".
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Final, Protocol

from buildd.content import Content, copy_blob
from buildd.protocol import Output, StepContext, Tree
from buildd.remote_cache.document import CacheDocument, parse_document
from buildd.remote_cache.exports import LOCAL, REGISTRY
from buildd.session.clients import Clients
from buildd.session.protocol import ClientContent
from buildd.sources.documents import read_image
from sampan.build.request import CacheOption
from sampan.errors import DataLossError, InvalidArgumentError, NotFoundError, RemoteError, SampanError
from sampan.log import log
from sampan.oci.descriptor import OCI_MANIFEST, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.platform import host_platform
from sampan.resource.image import Layer

_ATTRIBUTES: Final = {REGISTRY: frozenset(("ref", "digest")), LOCAL: frozenset(("src", "digest", "tag"))}


class RemoteImages(Protocol):
    """Images that a registry has."""

    async def bring(self, reference: str, context: StepContext, stack: AsyncExitStack) -> tuple[bytes, Sequence[Layer]]:
        """Return an image's config and layers, which are here, and stay for as long as ``stack`` is not closed.

        Raises:
            SampanError: as ``Images.fetch``.
        """


@dataclass(frozen=True, slots=True)
class _Imported:
    """One cache that was found."""

    document: CacheDocument
    store: ClientContent | None = None  # where its layers are, if they are not here


def _check(option: CacheOption, context: StepContext) -> None:
    """Say what is passed over.

    Raises:
        InvalidArgumentError: a kind of store that there is none for, or an attribute that is missing.
    """
    known = _ATTRIBUTES.get(option.type)
    if known is None:
        raise InvalidArgumentError(f"unknown cache importer: {option.type}")
    if not option.attributes.get(needed := "ref" if option.type == REGISTRY else "src"):
        raise InvalidArgumentError(f"failed to configure {option.type} cache importer: it needs {needed}")
    for name in sorted(option.attributes.keys() - known):
        context.log(f"attribute {name} of a {option.type} cache is not known here, and passed over\n".encode())


class CacheImports:
    """The caches that one build was given. As a context manager it keeps what was brought here."""

    def __init__(
        self,
        images: RemoteImages,
        content: Content,
        clients: Clients,
        kept: Callable[[], AbstractAsyncContextManager[str]],
        prove: Callable[[Tree, Collection[Layer]], Awaitable[None]],
    ) -> None:
        """Read them; ``prove`` is ``LayerProofs.prove``.

        ``kept`` keeps a new lease within: by it stays what comes from clients, until a record keeps it.
        """
        self._prove = prove
        self._images = images
        self._content = content
        self._clients = clients
        self._kept = kept
        self._lease = ""
        self._leasing = asyncio.Lock()
        self._imported: list[_Imported] = []
        self._stack = AsyncExitStack()
        self._bringing: dict[Digest, asyncio.Lock] = {}

    async def __aenter__(self) -> "CacheImports":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def load(self, option: CacheOption, context: StepContext) -> None:
        """Look into one cache; ``context`` is the step that shows it.

        Raises:
            SampanError: it is not there, damaged, or of a kind that there is none of; the build goes on without it.
        """
        _check(option, context)
        if option.type == REGISTRY:
            reference = option.attributes["ref"]
            if digest := option.attributes.get("digest"):
                reference = f"{reference}@{digest}"
            config, layers = await self._images.bring(reference, context, self._stack)
            self._imported.append(_Imported(parse_document(config, layers, f"cache {reference}")))
            return
        self._imported.append(await self._local(option, context))

    async def find(self, key: Digest) -> tuple[Tree, ...] | None:
        """Return a step's outputs, whose layers are here; None if no cache has them, or they cannot be had."""
        for imported in self._imported:
            outputs = imported.document.results.get(key)
            if outputs is None:
                continue
            try:
                for tree in outputs:
                    await self._bring(tree, imported.store)
            except SampanError as error:
                log.warning("a result of an imported cache cannot be had", error=str(error))
                continue
            return outputs
        return None

    async def proven(self, outputs: Sequence[Tree], inputs: Sequence[Output]) -> bool:
        """Make outputs ready, and say whether all blobs but those of ``inputs`` are the layers they are said to be."""
        trusted = {layer for each in inputs if isinstance(each, Tree) for layer in each.layers}
        try:
            for tree in outputs:
                await self._prove(tree, trusted)
        except (DataLossError, InvalidArgumentError, NotFoundError, RemoteError) as error:
            log.warning("a result of an imported cache is no such thing", error=str(error))
            return False
        return True

    async def _local(self, option: CacheOption, context: StepContext) -> _Imported:
        what = f"cache in {option.attributes['src']}"
        digest = option.attributes.get("digest", "")
        if not digest:
            raise NotFoundError(f"{what}: the client has found none there")
        store = (await self._clients.first(context)).content(f"local:{option.attributes['src']}")
        target = Descriptor(OCI_MANIFEST, Digest.parse(digest), 0)
        found = await read_image(store, target, host_platform(), what)
        return _Imported(parse_document(found.config, found.layers, what), store)

    async def _bring(self, tree: Tree, store: ClientContent | None) -> None:
        if store is None:
            return
        for layer in tree.layers:
            descriptor = layer.descriptor
            async with self._bringing.setdefault(descriptor.digest, asyncio.Lock()):
                try:
                    await self._content.info(descriptor.digest)
                except NotFoundError:
                    lease = await self._leased()
                    await copy_blob(self._content, store, descriptor, f"cache-{secrets.token_hex(8)}", lease=lease)

    async def _leased(self) -> str:
        async with self._leasing:
            if not self._lease:
                self._lease = await self._stack.enter_async_context(self._kept())
        return self._lease
