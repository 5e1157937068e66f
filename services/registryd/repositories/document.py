"""Manifests and indexes: bytes from whoever pushes to values, with all that they refer to.

A registry holds what it does not understand: artifacts of any type, layers of any type. What it must understand is what
a document refers to, so that all of it is here.

Reference: OCI image spec 1.1, "Image Manifest" and "Image Index".
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from registryd.repositories.model import Manifest
from registryd.repositories.refusal import Code, RefusedError
from sampan.errors import InvalidArgumentError
from sampan.oci.descriptor import INDEXES, MANIFESTS, OCI_INDEX, OCI_MANIFEST, Descriptor
from sampan.oci.digest import Digest

# The distribution spec's limit, which clients rely on.
MAX_MANIFEST_BYTES: Final = 4 << 20

_MAX_MEDIA_TYPE: Final = 255

# Layers that may not be distributed stay where their URLs say.
_FOREIGN: Final = ("nondistributable", "foreign")


def parse_manifest(data: bytes, media_type: str) -> Manifest:
    """Parse what was pushed as ``media_type``.

    Raises:
        RefusedError: MANIFEST_INVALID.
    """
    if media_type not in MANIFESTS | INDEXES:
        raise _invalid(f"media type {media_type[:100]!r} is not one of a manifest or an index")
    try:
        document = _object(json.loads(data), "the document")
    except (ValueError, RecursionError) as error:
        raise _invalid(f"not JSON: {error}") from error
    if document.get("schemaVersion") != 2:
        raise _invalid(f"schemaVersion is {_shown(document.get('schemaVersion'))}, expected 2")
    stated = document.get("mediaType", media_type)
    if stated != media_type:
        raise _invalid(f"mediaType is {_shown(stated)}, pushed as {media_type!r}")
    if "manifests" in document and ("layers" in document or "config" in document):
        raise _invalid("it is both a manifest and an index")
    own = Descriptor(media_type, Digest.of(data), len(data))
    subject = document.get("subject")
    return Manifest(
        own,
        *(_of_index(document) if media_type in INDEXES else _of_manifest(document)),
        subject=None if subject is None else _descriptor(subject, "subject").digest,
        artifact_type=_artifact_type(document, media_type),
        annotations=_annotations(document.get("annotations")),
    )


def stated_media_type(data: bytes) -> str:
    """Return what a document says it is; one that does not say is an index if it looks like one.

    Raises:
        ValueError: it is no JSON.
    """
    document = json.loads(data)
    stated = document.get("mediaType") if isinstance(document, dict) else None
    if isinstance(stated, str):
        return stated
    return OCI_INDEX if isinstance(document, dict) and "manifests" in document else OCI_MANIFEST


def _of_manifest(document: dict[str, Any]) -> tuple[tuple[Descriptor, ...], tuple[Descriptor, ...]]:
    blobs = [_descriptor(document.get("config"), "config")]
    for position, item in enumerate(_list(document, "layers")):
        layer = _descriptor(item, f"layer {position}")
        if not (item.get("urls") and any(word in layer.media_type for word in _FOREIGN)):
            blobs.append(layer)
    return tuple(blobs), ()


def _of_index(document: dict[str, Any]) -> tuple[tuple[Descriptor, ...], tuple[Descriptor, ...]]:
    entries = [_descriptor(item, f"entry {i}") for i, item in enumerate(_list(document, "manifests"))]
    # Build caches are indexes of layers.
    blobs = tuple(entry for entry in entries if entry.media_type not in MANIFESTS | INDEXES)
    return blobs, tuple(entry for entry in entries if entry.media_type in MANIFESTS | INDEXES)


def _artifact_type(document: dict[str, Any], media_type: str) -> str:
    stated = document.get("artifactType") or ""
    if not isinstance(stated, str) or len(stated) > _MAX_MEDIA_TYPE:
        raise _invalid(f"artifactType is {_shown(stated)}")
    if stated or media_type in INDEXES:
        return stated
    return str(document["config"]["mediaType"])


def _annotations(value: object) -> Mapping[str, str]:
    if value is None:
        return {}
    annotations = _object(value, "annotations")
    if not all(isinstance(each, str) for each in annotations.values()):
        raise _invalid("annotations are not all text")
    return annotations


def _descriptor(value: object, what: str) -> Descriptor:
    fields = _object(value, what)
    media_type, digest, size = (fields.get(name) for name in ("mediaType", "digest", "size"))
    if not isinstance(media_type, str) or not media_type or len(media_type) > _MAX_MEDIA_TYPE:
        raise _invalid(f"{what}: mediaType is {_shown(media_type)}")
    if type(size) is not int or size < 0:
        raise _invalid(f"{what}: size is {_shown(size)}")
    try:
        return Descriptor(media_type, Digest.parse(str(digest)), size)
    except InvalidArgumentError as error:
        raise _invalid(f"{what}: {error}") from error


def _list(document: dict[str, Any], name: str) -> list[Any]:
    value = document.get(name)
    if not isinstance(value, list):
        raise _invalid(f"{name} is {_shown(value)}, expected a list")
    return value


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _invalid(f"{what} is {_shown(value)}, expected an object")
    return value


def _invalid(why: str) -> RefusedError:
    return RefusedError(Code.MANIFEST_INVALID, f"manifest invalid: {why}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
