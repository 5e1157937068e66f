"""A result as an image: configs, manifests and an index, in the content store.

Reference: OCI image spec 1.1; moby/buildkit, docs/attestations/attestation-storage.md.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from buildd.content import Content, put
from buildd.deferred import as_tar, is_deferred
from buildd.exporters.attestations import (
    ARTIFACT,
    EMPTY_CONFIG,
    STATEMENT,
    UNKNOWN,
    image_subjects,
    reference_annotations,
    render_attestation_config,
    render_statement,
    statement_annotations,
)
from buildd.exporters.attributes import ExportAttributes
from buildd.exporters.config import Times, finish_config, parse_base
from buildd.exporters.layers import LayerConverter
from buildd.exporters.protocol import Attestation, BuildResult
from buildd.frontend.options import parse_epoch
from buildd.protocol import FileWorker, Tree, Trees
from sampan.errors import InvalidArgumentError
from sampan.oci import descriptor as media
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.json_documents import load_json
from sampan.oci.manifest_document import AnnotatedLayer, Entry, render_index, render_manifest
from sampan.oci.platform import Platform, host_platform

_DOCKER_TYPES: Final = {
    media.OCI_INDEX: media.DOCKER_INDEX,
    media.OCI_MANIFEST: media.DOCKER_MANIFEST,
    media.OCI_CONFIG: media.DOCKER_CONFIG,
    media.OCI_LAYER: media.DOCKER_LAYER,
    media.OCI_LAYER_GZIP: media.DOCKER_LAYER_GZIP,
}
_CONFIG_KEY: Final = "containerimage.config"
_BASE_KEY: Final = "containerimage.base.config"
_EPOCH_KEY: Final = "source.date.epoch"
_PLATFORMS_KEY: Final = "refs.platforms"


@dataclass(frozen=True, slots=True)
class PlatformImage:
    """The image for one platform."""

    platform: Platform
    tree: Tree
    config: Descriptor
    manifest: Descriptor


@dataclass(frozen=True, slots=True)
class AssembledImage:
    """What was made, kept by the lease that it was made under."""

    target: Descriptor  # an index, or the manifest of the only platform
    images: tuple[PlatformImage, ...]
    # All of them, the target included: what refers to others comes after them.
    documents: Mapping[Descriptor, bytes] = field(default_factory=dict, repr=False)
    annotations: Mapping[str, str] = field(default_factory=dict)  # of the target, where something refers to it

    @property
    def deferred(self) -> frozenset[Digest]:
        """Diff IDs of layers that have no blob yet."""
        layers = (layer for image in self.images for layer in image.tree.layers)
        return frozenset(layer.diff_id for layer in layers if is_deferred(layer))

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """All layers, each once."""
        return tuple(dict.fromkeys(layer.descriptor for image in self.images for layer in image.tree.layers))


class _Documents:
    """Documents of one image on their way to the content store, where ``lease`` keeps them."""

    def __init__(self, content: Content, lease: str) -> None:
        self._content = content
        self.lease = lease
        self.put: dict[Descriptor, bytes] = {}

    async def add(self, data: bytes, media_type: str, children: Sequence[Descriptor] = ()) -> Descriptor:
        """Store a document that refers to ``children``."""
        descriptor = await put(self._content, data, media_type, self.lease, _children(children))
        self.put[descriptor] = data
        return descriptor


class ImageAssembler:
    """Makes images of results."""

    def __init__(
        self,
        content: Content,
        trees: Trees,
        files: FileWorker,
        layers: LayerConverter,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._content = content
        self._layers = layers
        self._trees = trees
        self._files = files
        self._now_ns = now_ns

    async def assemble(
        self,
        result: BuildResult,
        attributes: ExportAttributes,
        inline_cache: Mapping[str, bytes],
        lease: str,
        *,
        inline: bool = False,
        defer: bool = False,
    ) -> AssembledImage:
        """Store what the image consists of, beside its layers, which are there.

        ``inline`` makes an index for attestations that are for images alone, too. With ``defer``, deferred layers of an
        image that is a manifest alone stay so.

        Raises:
            InvalidArgumentError: the result's metadata are not what a frontend says.
            NotFoundError: a layer is not there any more.
        """
        documents = _Documents(self._content, lease)
        platforms = platforms_of(result)
        several = len(platforms) > 1 or any(result.outputs.keys() - {""})
        # An index that is there anyway has all attestations; one is made for those alone that ask for it.
        attested = [
            [each for each in result.attestations.get(key, ()) if several or inline or not each.inline_only]
            for key, _ in platforms
        ]
        alone = not several and not any(attested) and not attributes.annotations_on("index")
        attributes = replace(attributes, layers=replace(attributes.layers, defer=defer and alone))
        images = [
            await self._image(key, platform, result, attributes, inline_cache.get(key, b""), documents)
            for key, platform in platforms
        ]
        if alone:
            (image,) = images
            annotations = attributes.annotations_on("manifest-descriptor", image.platform)
            return AssembledImage(image.manifest, (image,), documents.put, annotations)
        entries = [
            Entry(image.manifest, image.platform, attributes.annotations_on("manifest-descriptor", image.platform))
            for image in images
        ]
        for image, several_said in zip(images, attested, strict=True):
            if several_said:
                entries.append(await self._attested(image, several_said, attributes, documents))
        index_type = _typed(media.OCI_INDEX, attributes)
        data = render_index(entries, attributes.annotations_on("index"), index_type)
        index = await documents.add(data, index_type, [entry.descriptor for entry in entries])
        annotations = attributes.annotations_on("index-descriptor")
        return AssembledImage(index, tuple(images), documents.put, annotations)

    async def _attested(
        self,
        image: PlatformImage,
        said: Sequence[Attestation],
        attributes: ExportAttributes,
        documents: "_Documents",
    ) -> Entry:
        """Store what is said of an image, and return how an index has it."""
        if attributes.docker_types:
            raise InvalidArgumentError('cannot export attestations with "oci-mediatypes=false"')
        subjects = image_subjects(attributes.names, image.platform, image.manifest.digest)
        layers = []
        for each in said:
            data = json.dumps(render_statement(each, subjects), ensure_ascii=False, separators=(",", ":")).encode()
            layers.append(AnnotatedLayer(await documents.add(data, STATEMENT), statement_annotations(each)))
        statements = [layer.descriptor for layer in layers]
        if attributes.oci_artifact:
            config = await documents.add(EMPTY_CONFIG, media.OCI_EMPTY)
            manifest = render_manifest(config, layers, artifact_type=ARTIFACT, subject=image.manifest)
        else:
            config = await documents.add(render_attestation_config(statements), media.OCI_CONFIG)
            manifest = render_manifest(config, layers)
        descriptor = await documents.add(manifest, media.OCI_MANIFEST, [config, *statements])
        return Entry(descriptor, UNKNOWN, reference_annotations(image.manifest.digest))

    async def _image(
        self,
        key: str,
        platform: Platform,
        result: BuildResult,
        attributes: ExportAttributes,
        inline_cache: bytes,
        documents: "_Documents",
    ) -> PlatformImage:
        output = result.outputs[key]
        tree = await self._files.flatten(output) if output is not None else Tree()
        said = result.metadata.get(f"{_CONFIG_KEY}/{key}" if key else _CONFIG_KEY, b"")
        base = parse_base(result.metadata.get(f"{_BASE_KEY}/{key}" if key else _BASE_KEY, b""))
        epoch_s = epoch_of(result, attributes)
        rewritten_ns = epoch_s * 10**9 if epoch_s is not None and attributes.rewrite_timestamp else None
        wanted = replace(attributes.layers, latest_ns=rewritten_ns)
        own = base.unchanged_layers(tree)
        tree = await self._layers.formed(tree, wanted, result.taken, own, documents.lease)
        await self._trees.ready(tree)
        config_type = _typed(media.OCI_CONFIG, attributes)
        times = Times(self._now_ns(), result.made_ns, epoch_s, len(base.history))
        finished = finish_config(said, tree, platform, times, inline_cache)
        config = await documents.add(finished, config_type)
        blobs = [as_tar(each).descriptor for each in tree.layers]
        layers = [replace(blob, media_type=_typed(blob.media_type, attributes)) for blob in blobs]
        manifest_type = _typed(media.OCI_MANIFEST, attributes)
        document = render_manifest(config, layers, attributes.annotations_on("manifest", platform), manifest_type)
        manifest = await documents.add(document, manifest_type, [config, *layers])
        return PlatformImage(platform, tree, config, manifest)


def epoch_of(result: BuildResult, attributes: ExportAttributes) -> int | None:
    """Return the latest time that an image may tell, in seconds since the epoch; None: any.

    Raises:
        InvalidArgumentError: the frontend says something else than a number.
    """
    if attributes.epoch_s is not None:
        return attributes.epoch_s
    return parse_epoch(result.metadata.get(_EPOCH_KEY, b"").decode(errors="replace"))


def platforms_of(result: BuildResult) -> Sequence[tuple[str, Platform]]:
    """Return the keys of a result's outputs with their platforms, in the frontend's order.

    Raises:
        InvalidArgumentError: its metadata name an output that is not there, or none of one that is.
    """
    said = result.metadata.get(_PLATFORMS_KEY, b"")
    if not said:
        if result.outputs.keys() != {""}:
            raise InvalidArgumentError("the result has several outputs and does not say which platforms they are for")
        return [("", _said_platform(result.metadata.get(_CONFIG_KEY, b"")))]
    listed = load_json(said, _PLATFORMS_KEY)
    if not isinstance(listed, dict):
        raise InvalidArgumentError(f"{_PLATFORMS_KEY} is not an object")
    found: list[tuple[str, Platform]] = []
    for each in listed.get("Platforms") or []:
        members = each.get("Platform") or {}
        parts = (members.get("os", ""), members.get("architecture", ""), members.get("variant", ""))
        found.append(("" if result.outputs.keys() == {""} else each.get("ID", ""), Platform(*map(str, parts))))
    if sorted(key for key, _ in found) != sorted(result.outputs):
        raise InvalidArgumentError(f"{_PLATFORMS_KEY} does not name the outputs of the result")
    return found


def _said_platform(config: bytes) -> Platform:
    document = load_json(config, "the image's config") if config else {}
    if not isinstance(document, dict) or not document.get("architecture"):
        return host_platform()
    return Platform(
        str(document.get("os") or "linux"), str(document["architecture"]), str(document.get("variant") or "")
    )


def _typed(media_type: str, attributes: ExportAttributes) -> str:
    return _DOCKER_TYPES.get(media_type, media_type) if attributes.docker_types else media_type


def _children(children: Sequence[Descriptor]) -> Mapping[str, str]:
    """Return the labels by which containerd's garbage collection finds what a document refers to."""
    return {f"containerd.io/gc.ref.content.{number}": child.digest for number, child in enumerate(children)}


def descriptor_json(image: AssembledImage, created: str) -> str:
    """Return the target as clients are told of it: ``containerimage.descriptor``, before base64."""
    annotations = {**image.annotations, "org.opencontainers.image.created": created}
    if len(image.images) == 1:
        annotations["config.digest"] = image.images[0].config.digest
    members = {
        "mediaType": image.target.media_type,
        "digest": image.target.digest,
        "size": image.target.size,
        "annotations": annotations,
    }
    return json.dumps(members, separators=(",", ":"))
