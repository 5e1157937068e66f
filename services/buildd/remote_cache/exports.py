"""Puts results of a build where the next one finds them: ``--cache-to``.

Reference: moby/buildkit, README, "Export cache".
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from buildd.content import Content, Images, put
from buildd.exporters.attributes import parse_compression
from buildd.exporters.config import Times, finish_config
from buildd.exporters.layers import LayerConverter, Wanted
from buildd.protocol import StepContext, Tree
from buildd.remote_cache.document import CacheDocument, CachedResult, render_document, whole, within
from buildd.session.clients import Clients
from sampan.build.request import CacheOption
from sampan.docker.booleans import parse_bool
from sampan.dockerfile.words import quoted
from sampan.errors import InvalidArgumentError, UnimplementedError
from sampan.oci.descriptor import OCI_CONFIG, OCI_MANIFEST, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.manifest_document import descriptor_members, render_manifest
from sampan.oci.platform import host_platform
from sampan.oci.reference import parse_reference

INLINE: Final = "inline"
REGISTRY: Final = "registry"
LOCAL: Final = "local"

_ATTRIBUTES: Final[Mapping[str, frozenset[str]]] = {
    INLINE: frozenset(),
    REGISTRY: frozenset(
        ("ref", "mode", "oci-mediatypes", "image-manifest", "compression", "compression-level", "force-compression")
    ),
    LOCAL: frozenset(
        ("dest", "mode", "tag", "oci-mediatypes", "image-manifest", "compression", "compression-level",
         "force-compression")
    ),
}  # fmt: skip
_ELSEWHERE: Final = frozenset(("gha", "s3", "azblob"))  # BuildKit's, which there are none of here
_IGNORES_ERROR: Final = "ignore-error"


def check_export(option: CacheOption) -> None:
    """Refuse what cannot be.

    Raises:
        InvalidArgumentError: an unknown type, attribute or mode, or one that is missing; named.
        UnimplementedError: a kind of store that there is none for.
    """
    known = _ATTRIBUTES.get(option.type)
    if known is None and option.type in _ELSEWHERE:
        raise UnimplementedError(f"cache export of type {option.type} is not supported: use inline, registry or local")
    if known is None:
        raise InvalidArgumentError(f"unknown cache exporter: {quoted(option.type)}")
    for name in option.attributes:
        if name not in known and name != _IGNORES_ERROR:
            raise InvalidArgumentError(f"unknown attribute {name!r} of cache export {option.type}")
    if (mode := option.attributes.get("mode", "min")) not in ("min", "max"):
        raise InvalidArgumentError(f"invalid mode {mode!r} of cache export: use min or max")
    wanted_layers(option)
    if option.type == REGISTRY:
        parse_reference(_required(option, "ref"))
    if option.type == LOCAL:
        _required(option, "dest")


def wanted_layers(option: CacheOption) -> Wanted:
    """Return how a cache's layers are to be. InvalidArgumentError, UnimplementedError: as ``parse_compression``."""
    force = option.attributes.get("force-compression", "")
    return parse_compression(option.attributes, force=parse_bool(force, "force-compression") if force else False)


def inline(trees: Mapping[str, Tree], results: Sequence[CachedResult]) -> Mapping[str, bytes]:
    """Return what goes into the config of each image: the results that its own layers are enough for."""
    return {key: render_document(within(tree, results)) for key, tree in trees.items()}


class CacheExports:
    """Exports of caches."""

    def __init__(
        self, content: Content, images: Images, layers: LayerConverter, clients: Clients, now_ns: Callable[[], int]
    ) -> None:
        self._content = content
        self._layers = layers
        self._images = images
        self._clients = clients
        self._now_ns = now_ns

    async def export(
        self,
        option: CacheOption,
        trees: Sequence[Tree],
        results: Sequence[CachedResult],
        taken: Collection[Digest],
        context: StepContext,
    ) -> Mapping[str, str]:
        """Export what ``option`` says and return what the client is told.

        Args:
            option: of type registry or local, checked.
            trees: what the build came to; with ``mode=min`` only results of their layers go along.
            results: of all steps.
            taken: diff IDs of layers that are other images'.
            context: the step that shows it.

        Raises:
            SampanError: as pushing an image does, or a client's store.
        """
        if option.attributes.get("mode", "min") == "max":
            document = whole(results)
        else:
            everything = Tree(tuple(dict.fromkeys(layer for tree in trees for layer in tree.layers)))
            document = within(everything, results)
        wanted = wanted_layers(option)
        async with self._images.kept() as lease:
            context.status("preparing build cache for export")
            document = await self._formed(document, wanted, taken, lease)
            config, manifest = await self._assemble(document, lease)
            context.status("preparing build cache for export", done=True)
            if option.type == LOCAL:
                return await self._to_client(option, document, config, manifest, context)
            await self._push(_required(option, "ref"), manifest, context)
            return {}

    async def _formed(
        self, document: CacheDocument, wanted: Wanted, taken: Collection[Digest], lease: str
    ) -> CacheDocument:
        tree = await self._layers.formed(Tree(document.layers), wanted, taken, (), lease)
        return replace(document, layers=tree.layers)

    async def _assemble(self, document: CacheDocument, lease: str) -> tuple[Descriptor, Descriptor]:
        tree = Tree(document.layers)
        data = finish_config(b"", tree, host_platform(), Times(self._now_ns()), render_document(document))
        config = await put(self._content, data, OCI_CONFIG, lease)
        listed = render_manifest(config, [layer.descriptor for layer in document.layers])
        return config, await put(self._content, listed, OCI_MANIFEST, lease)

    async def _push(self, name: str, manifest: Descriptor, context: StepContext) -> None:
        """Push under ``name``, which is no name here."""
        reference = str(parse_reference(name).with_default_tag())
        said = f"writing cache manifest {manifest.digest}"
        context.status(said)
        credentials = await self._clients.credentials(parse_reference(reference), context)
        async with aclosing(self._images.push(reference, credentials, None, manifest)) as steps:
            async for _ in steps:
                pass
        context.status(said, done=True)

    async def _to_client(
        self,
        option: CacheOption,
        document: CacheDocument,
        config: Descriptor,
        manifest: Descriptor,
        context: StepContext,
    ) -> Mapping[str, str]:
        store = (await self._clients.first(context)).content(f"local:{_required(option, 'dest')}")
        for blob in (*(layer.descriptor for layer in document.layers), config, manifest):
            said = f"writing layer {blob.digest}"
            context.status(said, total=blob.size)
            async with aclosing(self._content.read(blob.digest)) as pieces:
                await store.write(blob.digest, blob.size, pieces)
            context.status(said, current=blob.size, total=blob.size, done=True)
        return {"cache.manifest": json.dumps(descriptor_members(manifest), separators=(",", ":"))}


def ignores_errors(option: CacheOption) -> bool:
    """Say whether the build succeeds even if the export fails. InvalidArgumentError: no boolean."""
    return parse_bool(option.attributes.get(_IGNORES_ERROR, "false"), _IGNORES_ERROR)


def _required(option: CacheOption, name: str) -> str:
    value = option.attributes.get(name, "")
    if not value:
        raise InvalidArgumentError(f"cache {option.type} needs {name}: say type={option.type},{name}=…")
    return value
