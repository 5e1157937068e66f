"""Finds results of earlier builds elsewhere: ``--cache-from``. What is hit is brought here, layers and all.

Reference: moby/buildkit, README, "Import cache".
"""

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass
from typing import Final, Protocol

from buildd.exporters.content import Content
from buildd.protocol import StepContext, Tree
from buildd.remote_cache.document import CacheDocument, parse_document
from buildd.remote_cache.exports import LOCAL, REGISTRY
from buildd.session.protocol import ClientContent, Sessions
from sampan.build.request import CacheOption
from sampan.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, SampanError, UnimplementedError
from sampan.json_types import JsonObject
from sampan.log import log
from sampan.oci.descriptor import LAYERS, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.json_documents import load_json
from sampan.resource.content import Action, WriteStep
from sampan.resource.image import Layer

_ATTRIBUTES: Final = {REGISTRY: frozenset(("ref", "digest")), LOCAL: frozenset(("src", "digest", "tag"))}
_MAX_DOCUMENT_BYTES: Final = 8 << 20
_PIECE_BYTES: Final = 1 << 20


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


def check_import(option: CacheOption) -> None:
    """Refuse what cannot be.

    Raises:
        InvalidArgumentError: an unknown attribute, or one that is missing; named.
        UnimplementedError: a kind of store that there is none for.
    """
    known = _ATTRIBUTES.get(option.type)
    if known is None:
        raise UnimplementedError(f"cache import of type {option.type} is not supported: use registry or local")
    for name in option.attributes:
        if name not in known:
            raise InvalidArgumentError(f"unknown attribute {name!r} of cache import {option.type}")
    needed = "ref" if option.type == REGISTRY else "src"
    if not option.attributes.get(needed):
        raise InvalidArgumentError(f"cache import of type {option.type} names no {needed}")


class CacheImports:
    """The caches that one build was given. As a context manager it keeps what was brought here."""

    def __init__(self, images: RemoteImages, content: Content, sessions: Sessions) -> None:
        self._images = images
        self._content = content
        self._sessions = sessions
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
            SampanError: it is not there, or damaged; the build goes on without it.
        """
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

    async def _local(self, option: CacheOption, context: StepContext) -> _Imported:
        sessions = context.sessions()
        digest = option.attributes.get("digest", "")
        if not sessions or not digest:
            raise NotFoundError(f"cache in {option.attributes['src']}: the client has found none there")
        store = (await self._sessions.get(sessions[0])).content(f"local:{option.attributes['src']}")
        what = f"cache in {option.attributes['src']}"
        manifest = load_json(await _document(store, Digest.parse(digest), what), what)
        if not isinstance(manifest, dict):
            raise InvalidArgumentError(f"{what}: the manifest is not an object")
        config = await _document(store, _descriptor(manifest.get("config"), what).digest, what)
        said = load_json(config, what)
        diff_ids = (said.get("rootfs") or {}).get("diff_ids") if isinstance(said, dict) else None
        listed = manifest.get("layers")
        if not isinstance(listed, list) or not isinstance(diff_ids, list) or len(listed) != len(diff_ids):
            raise InvalidArgumentError(f"{what}: the manifest's layers are not those of the config")
        layers = [
            Layer(_descriptor(each, what), Digest.parse(str(diff_id)))
            for each, diff_id in zip(listed, diff_ids, strict=True)
        ]
        if not all(layer.descriptor.media_type in LAYERS for layer in layers):
            raise InvalidArgumentError(f"{what}: a layer is of an unknown type")
        return _Imported(parse_document(config, layers, what), store)

    async def _bring(self, tree: Tree, store: ClientContent | None) -> None:
        if store is None:
            return
        for layer in tree.layers:
            descriptor = layer.descriptor
            async with self._bringing.setdefault(descriptor.digest, asyncio.Lock()):
                try:
                    await self._content.info(descriptor.digest)
                except NotFoundError:
                    await self._copy(descriptor, store)

    async def _copy(self, descriptor: Descriptor, store: ClientContent) -> None:
        """Copy a blob here, where a lease of this import keeps it. Its digest is verified as it is committed."""
        ref = f"build-cache-{secrets.token_hex(8)}-{descriptor.digest}"  # other imports may bring the same blob
        async with self._content.write() as conversation:
            with suppress(AlreadyExistsError):
                offset = 0
                async with aclosing(store.read(descriptor.digest)) as pieces:
                    async for piece in pieces:
                        for start in range(0, len(piece), _PIECE_BYTES):
                            part = piece[start : start + _PIECE_BYTES]
                            step = WriteStep(Action.WRITE, ref, descriptor.size, descriptor.digest, offset, part)
                            await conversation.ask(step)
                            offset += len(part)
                await conversation.ask(
                    WriteStep(Action.COMMIT, ref, descriptor.size, descriptor.digest, offset, labels={})
                )
                await conversation.hang_up()


async def _document(store: ClientContent, digest: Digest, what: str) -> bytes:
    data = bytearray()
    async with aclosing(store.read(digest)) as pieces:
        async for piece in pieces:
            data += piece
            if len(data) > _MAX_DOCUMENT_BYTES:
                raise InvalidArgumentError(f"{what}: {digest} is larger than {_MAX_DOCUMENT_BYTES} bytes")
    if Digest.of(bytes(data)) != digest:
        raise InvalidArgumentError(f"{what}: {digest} is damaged")
    return bytes(data)


def _descriptor(value: object, what: str) -> Descriptor:
    members: JsonObject = value if isinstance(value, dict) else {}
    media_type, digest, size = members.get("mediaType"), members.get("digest"), members.get("size")
    if not isinstance(media_type, str) or not isinstance(digest, str) or type(size) is not int or size < 0:
        raise InvalidArgumentError(f"{what}: a descriptor of the manifest is damaged")
    return Descriptor(media_type, Digest.parse(digest), size)
