"""The images that an archive's documents describe, whichever layout it has."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from imaged.archive.files import File, Files
from sampan.errors import DataLossError, InvalidArgumentError, RemoteError, UnimplementedError
from sampan.oci import descriptor as media
from sampan.oci.config_document import check_sizes, parse_config
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.image_config import ConfigFile
from sampan.oci.manifest import MAX_CONFIG_BYTES, MAX_LAYERS
from sampan.oci.reference import Reference, parse_reference
from sampan.tar.compression import Compression, compression

Read = Callable[[File], bytes]  # a small file's content

_MEDIA_TYPES: Final = {
    None: media.OCI_LAYER,
    Compression.GZIP: media.OCI_LAYER_GZIP,
    Compression.ZSTD: media.OCI_LAYER_ZSTD,
}
# An archive of everything that a host has is far below: each image and each name costs a transaction or more.
MAX_IMAGES: Final = 4096
MAX_NAMES: Final = 4096


@dataclass(frozen=True, slots=True)
class Document:
    """Content that is kept as it is: a manifest or an index, and what else belongs to one."""

    descriptor: Descriptor
    file: File


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """An image of the archive. ``documents`` are empty if it has no manifest of its own: then one is made."""

    config: bytes
    parsed: ConfigFile
    layers: tuple[tuple[Descriptor, File], ...]  # base first
    names: tuple[Reference, ...] = ()
    documents: tuple[Document, ...] = ()  # outermost first
    others: tuple[Document, ...] = ()  # what else its index leads to and is in the archive: documents and blobs

    @property
    def id(self) -> Digest:
        """The config's digest."""
        return Digest.of(self.config)


def read_json(content: bytes, what: str) -> Any:
    """Parse JSON. Raises InvalidArgumentError."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"{what} is not JSON: {error}") from error


def read_config(content: bytes, what: str) -> ConfigFile:
    """Parse an image's config. Raises InvalidArgumentError."""
    try:
        config = parse_config(content, what)
    except RemoteError as error:
        raise InvalidArgumentError(str(error)) from error
    check_sizes(config.run, what)
    return config


def small(file: File, read: Read, what: str, most: int = MAX_CONFIG_BYTES) -> bytes:
    """Return a document's bytes. Raises InvalidArgumentError if it is too large to be one."""
    if file.size > most:
        raise InvalidArgumentError(f"{what} has {file.size} bytes, the most is {most}")
    return read(file)


def layer_descriptor(file: File, what: str) -> Descriptor:
    """Return a layer's descriptor by what it begins with.

    Raises:
        UnimplementedError: it is packed in a way that no image has.
    """
    kind = compression(file.head)
    if kind is not None and kind not in _MEDIA_TYPES:
        raise UnimplementedError(f"{what} is packed with {kind.value}: layers are plain, gzip or zstd")
    return Descriptor(_MEDIA_TYPES[kind], file.digest, file.size)


def from_manifest_json(files: Files, read: Read) -> list[ArchivedImage]:
    """Return what a docker-archive's ``manifest.json`` lists.

    Raises:
        InvalidArgumentError: it is malformed, or names what is not there.
        DataLossError: a plain layer is not the one that the config names.
    """
    what = "manifest.json"
    listed = read_json(small(files.get(what, "the archive"), read, what), what)
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise InvalidArgumentError(f"{what} is not a list of images")
    if not listed:
        raise InvalidArgumentError(f"{what} lists no images")
    if len(listed) > MAX_IMAGES:
        raise InvalidArgumentError(f"{what} lists {len(listed)} images, the most is {MAX_IMAGES}")
    return [_listed_image(files, read, item) for item in listed]


def _listed_image(files: Files, read: Read, item: dict[str, Any]) -> ArchivedImage:
    what = "manifest.json"
    config_name, tags, layer_names = item.get("Config"), item.get("RepoTags") or [], item.get("Layers") or []
    if not isinstance(config_name, str) or not _texts(tags) or not _texts(layer_names):
        raise InvalidArgumentError(f"{what}: Config, RepoTags or Layers of an image is not text")
    config = small(files.get(config_name, what), read, config_name)
    parsed = read_config(config, config_name)
    if len(layer_names) > MAX_LAYERS:
        raise InvalidArgumentError(f"{what}: {config_name} has {len(layer_names)} layers, the most is {MAX_LAYERS}")
    if len(parsed.diff_ids) != len(layer_names):
        raise InvalidArgumentError(
            f"{what} lists {len(layer_names)} layers for {config_name}, which has {len(parsed.diff_ids)} diff IDs"
        )
    layers = []
    for name, diff_id in zip(layer_names, parsed.diff_ids, strict=True):
        file = files.get(name, what)
        layers.append((check_layer(layer_descriptor(file, f"layer {name!r}"), diff_id, name), file))
    return ArchivedImage(config, parsed, tuple(layers), tuple(dict.fromkeys(_name(tag, what) for tag in tags)))


def check_layer(layer: Descriptor, diff_id: Digest, name: str) -> Descriptor:
    """Return a layer; a plain one must be what its config says. A packed one is verified when it is unpacked."""
    if layer.media_type in (media.OCI_LAYER, media.DOCKER_LAYER) and layer.digest != diff_id:
        raise DataLossError(f"layer {name!r} has the digest {layer.digest}, its image says {diff_id}")
    return layer


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _name(text: str, what: str) -> Reference:
    try:
        reference = parse_reference(text).with_default_tag()
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{what}: {error}") from error
    if reference.digest is not None:
        raise InvalidArgumentError(f"{what}: name {text[:300]!r} holds a digest where a tag belongs")
    return reference


def check_names(images: Sequence[ArchivedImage]) -> None:
    """Raise InvalidArgumentError if two different images have one name, or if there are too many names."""
    owners: dict[str, Digest] = {}
    for image in images:
        for name in image.names:
            owner = owners.setdefault(str(name), image.id)
            if owner != image.id:
                raise InvalidArgumentError(
                    f"the archive gives the name {name.familiar} to two images: {owner.short} and {image.id.short}"
                )
    if len(owners) > MAX_NAMES:
        raise InvalidArgumentError(f"the archive gives {len(owners)} names, the most is {MAX_NAMES}")
