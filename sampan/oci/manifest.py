"""Manifests and indexes: bytes from strangers to values that can be trusted to be what they say.

Reference: OCI image spec 1.1, "Image Manifest" and "Image Index"; Docker image manifest v2, schema 2.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from sampan.errors import InvalidArgumentError, NotFoundError, RemoteError, UnimplementedError
from sampan.json_types import JsonObject
from sampan.oci.descriptor import CONFIGS, INDEXES, LAYERS, MANIFESTS, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.json_documents import load_json
from sampan.oci.platform import Platform

MAX_CONFIG_BYTES: Final = 8 << 20

# Docker's and the kernel's practical limits are lower; these stop only nonsense.
MAX_LAYERS: Final = 500
MAX_INDEX_ENTRIES: Final = 1000
MAX_LAYER_BYTES: Final = 1 << 42

_SCHEMA_1: Final = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one platform's image is made of."""

    config: Descriptor
    layers: tuple[Descriptor, ...]  # base first


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One of an index's images; ``platform`` is None where the index does not say."""

    descriptor: Descriptor
    platform: Platform | None
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""  # what it is, if that is no image


def parse_document(data: bytes, media_type: str, what: str) -> Manifest | tuple[IndexEntry, ...]:
    """Parse a manifest, or an index's entries; ``what`` names it in errors.

    The media type that it was served with decides, and what the document says of itself must agree: one that could
    be read as both would be two images under one digest.

    Raises:
        UnimplementedError: Docker's schema 1, artifacts, or foreign layers.
        RemoteError: anything that is not a manifest or an index.
    """
    if media_type in _SCHEMA_1:
        raise UnimplementedError(
            f"{what}: Docker image format v1 and manifest version 2, schema 1 are not supported: push it again with a"
            " newer client"
        )
    if media_type not in MANIFESTS | INDEXES:
        raise RemoteError(f"{what}: unsupported manifest media type {media_type[:100]!r}")
    document = _object(load_json(data, what), what)
    if document.get("schemaVersion") != 2:
        raise RemoteError(f"{what}: schemaVersion is {_shown(document.get('schemaVersion'))}, expected 2")
    stated = document.get("mediaType", media_type)
    if stated != media_type:
        raise RemoteError(f"{what}: mediaType is {_shown(stated)}, served as {media_type!r}")
    if "manifests" in document and ("layers" in document or "config" in document):
        raise RemoteError(f"{what}: is both a manifest and an index")
    return _index(document, what) if media_type in INDEXES else _manifest(document, what)


def parse_references(data: bytes, media_type: str, what: str) -> tuple[Descriptor, ...]:
    """Return what a manifest of whatever refers to, config first: indexes hold attestations besides images.

    Raises:
        RemoteError: not a manifest.
    """
    document = _object(load_json(data, what), what)
    listed = document.get("layers")
    if media_type not in MANIFESTS or "manifests" in document or not isinstance(listed, list):
        raise RemoteError(f"{what}: is not a manifest")
    if len(listed) > MAX_LAYERS:
        raise RemoteError(f"{what}: has {len(listed)} layers, the most is {MAX_LAYERS}")
    config = _descriptor(document.get("config"), f"{what}: config", MAX_CONFIG_BYTES)
    layers = (_descriptor(item, f"{what}: layer {number}", MAX_LAYER_BYTES) for number, item in enumerate(listed))
    return config, *layers


def parse_artifact(data: bytes, media_type: str, what: str) -> tuple[IndexEntry, ...]:
    """Return the layers of a manifest of whatever, with what it says of each.

    Raises:
        RemoteError: not a manifest.
    """
    parse_references(data, media_type, what)
    return _entries(_object(load_json(data, what), what)["layers"], f"{what}: layer")


def _manifest(document: JsonObject, what: str) -> Manifest:
    config = _descriptor(document.get("config"), f"{what}: config", MAX_CONFIG_BYTES)
    if config.media_type not in CONFIGS:
        raise UnimplementedError(f"{what}: config has media type {config.media_type!r}: this is not a container image")
    listed = document.get("layers")
    if not isinstance(listed, list):
        raise RemoteError(f"{what}: layers is not a list")
    if len(listed) > MAX_LAYERS:
        raise RemoteError(f"{what}: has {len(listed)} layers, the most is {MAX_LAYERS}")
    layers = []
    for position, item in enumerate(listed):
        layer = _descriptor(item, f"{what}: layer {position}", MAX_LAYER_BYTES)
        if layer.media_type not in LAYERS:
            kind = "foreign layers" if "foreign" in layer.media_type or "nondistributable" in layer.media_type else ""
            raise UnimplementedError(
                f"{what}: layer {layer.digest} has media type {layer.media_type!r}: "
                f"{kind or 'layers of this type'} are not supported"
            )
        layers.append(layer)
    return Manifest(config, tuple(layers))


def _index(document: JsonObject, what: str) -> tuple[IndexEntry, ...]:
    listed = document.get("manifests")
    if not isinstance(listed, list):
        raise RemoteError(f"{what}: manifests is not a list")
    if len(listed) > MAX_INDEX_ENTRIES:
        raise RemoteError(f"{what}: has {len(listed)} entries, the most is {MAX_INDEX_ENTRIES}")
    return _entries(listed, f"{what}: entry")


def _entries(listed: Iterable[object], what: str) -> tuple[IndexEntry, ...]:
    entries = []
    for position, item in enumerate(listed):
        where = f"{what} {position}"
        entry = _object(item, where)
        descriptor = _descriptor(entry, where, MAX_LAYER_BYTES)
        annotations, artifact_type = entry.get("annotations"), entry.get("artifactType")
        kept = annotations.items() if isinstance(annotations, dict) else ()
        texts = {key: value for key, value in kept if isinstance(value, str)}
        kind = artifact_type if isinstance(artifact_type, str) else ""
        entries.append(IndexEntry(descriptor, _platform(entry.get("platform"), where), texts, kind))
    return tuple(entries)


def _platform(value: object, what: str) -> Platform | None:
    if value is None:
        return None
    fields = _object(value, f"{what}: platform")
    parts = [fields.get(name) or "" for name in ("os", "architecture", "variant")]
    if not all(isinstance(part, str) and len(part) <= 64 for part in parts):
        raise RemoteError(f"{what}: platform is {_shown(value)}")
    return Platform(*parts)


def _descriptor(value: object, what: str, most: int) -> Descriptor:
    fields = _object(value, what)
    media_type, digest, size = (fields.get(name) for name in ("mediaType", "digest", "size"))
    if not isinstance(media_type, str) or len(media_type) > 255:
        raise RemoteError(f"{what}: mediaType is {_shown(media_type)}")
    if not isinstance(digest, str):
        raise RemoteError(f"{what}: digest is {_shown(digest)}")
    if type(size) is not int or not 0 <= size <= most:
        raise RemoteError(f"{what}: size is {_shown(size)}, expected 0 to {most}")
    try:
        return Descriptor(media_type, Digest.parse(digest), size)
    except InvalidArgumentError as error:
        raise RemoteError(f"{what}: {error}") from error


def _object(value: object, what: str) -> JsonObject:
    if not isinstance(value, dict):
        raise RemoteError(f"{what}: is {_shown(value)}, expected an object")
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def choose(entries: tuple[IndexEntry, ...], platform: Platform) -> Descriptor:
    """Return the index's image for ``platform``.

    What runs best wins, see ``Platform.preference``; of several, the entry listed first. Entries that are not images
    (attestations carry the platform "unknown") are passed over.

    Raises:
        NotFoundError: there is none; in Docker's words.
    """
    fitting = [
        (preference, position, entry.descriptor)
        for position, entry in enumerate(entries)
        if entry.descriptor.media_type in MANIFESTS | INDEXES
        and entry.platform is not None
        and (preference := platform.preference(entry.platform)) is not None
    ]
    if fitting:
        return min(fitting, key=lambda each: each[:2])[2]
    # An index of one image that does not say what it is for is taken at its word, as Docker does.
    match entries:
        case (IndexEntry(descriptor, None),) if descriptor.media_type in MANIFESTS:
            return descriptor
    raise NotFoundError(f"no matching manifest for {platform} in the manifest list entries")
