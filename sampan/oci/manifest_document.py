"""Manifests and indexes as JSON: the bytes that their digests name.

Reference: OCI image spec 1.1, "Image Manifest" and "Image Index"; Docker image manifest v2, schema 2.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sampan.json_types import JsonObject
from sampan.oci.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from sampan.oci.platform import Platform


@dataclass(frozen=True, slots=True)
class Entry:
    """One manifest of an index."""

    descriptor: Descriptor
    platform: Platform | None
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AnnotatedLayer:
    """A layer of a manifest, or what stands in its place in an artifact."""

    descriptor: Descriptor
    annotations: Mapping[str, str] = field(default_factory=dict)


def render_manifest(
    config: Descriptor,
    layers: Sequence[Descriptor | AnnotatedLayer],
    annotations: Mapping[str, str] | None = None,
    media_type: str = OCI_MANIFEST,
    *,
    artifact_type: str = "",
    subject: Descriptor | None = None,
) -> bytes:
    """Return a manifest; layers base first.

    ``artifact_type`` says what it is if it is no image, and ``subject`` which manifest it is about.
    """
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        **({"artifactType": artifact_type} if artifact_type else {}),
        "config": descriptor_members(config),
        "layers": [_layer(layer) for layer in layers],
        **({"subject": descriptor_members(subject)} if subject is not None else {}),
    }
    return _render(document, annotations)


def _layer(layer: Descriptor | AnnotatedLayer) -> JsonObject:
    if isinstance(layer, Descriptor):
        return descriptor_members(layer)
    return {**descriptor_members(layer.descriptor), "annotations": dict(layer.annotations)}


def render_index(
    entries: Sequence[Entry], annotations: Mapping[str, str] | None = None, media_type: str = OCI_INDEX
) -> bytes:
    """Return an index."""
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [_entry(entry) for entry in entries],
    }
    return _render(document, annotations)


def _entry(entry: Entry) -> JsonObject:
    members = descriptor_members(entry.descriptor)
    if entry.annotations:
        members["annotations"] = dict(entry.annotations)
    if entry.platform is not None:
        members["platform"] = platform_members(entry.platform)
    return members


def descriptor_members(descriptor: Descriptor) -> JsonObject:
    """Return a descriptor as an object."""
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}


def platform_members(platform: Platform) -> JsonObject:
    """Return a platform as an object; what is empty is left out."""
    members = {"architecture": platform.architecture, "os": platform.os, "variant": platform.variant}
    return {name: value for name, value in members.items() if value}


def _render(document: JsonObject, annotations: Mapping[str, str] | None) -> bytes:
    if annotations:
        document["annotations"] = dict(annotations)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
