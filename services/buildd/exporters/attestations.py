"""Attestations beside a result: statements of in-toto, and the manifest by which an index has them.

Reference: moby/buildkit, docs/attestations/attestation-storage.md; in-toto attestation framework v1.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from buildd.exporters.protocol import Attestation
from buildd.provenance.materials import digest_set, package_url
from sampan.json_types import JsonObject
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform

STATEMENT: Final = "application/vnd.in-toto+json"
EMPTY_CONFIG: Final = b"{}"
ARTIFACT: Final = "application/vnd.docker.attestation.manifest.v1+json"
UNKNOWN: Final = Platform("unknown", "unknown")

_TYPE: Final = "https://in-toto.io/Statement/v1"
_PREDICATE: Final = "in-toto.io/predicate-type"
_REFERENCE_TYPE: Final = "vnd.docker.reference.type"
_REFERENCE_DIGEST: Final = "vnd.docker.reference.digest"


def render_statement(attestation: Attestation, subjects: Sequence[JsonObject]) -> JsonObject:
    """Return a statement that subjects, each with ``name`` and ``digest``, are what a predicate says."""
    return {
        "_type": _TYPE,
        "predicateType": attestation.predicate_type,
        "subject": list(attestation.subjects or subjects),
        "predicate": json.loads(attestation.predicate),
    }


def image_subjects(names: Sequence[str], platform: Platform, manifest: Digest) -> Sequence[JsonObject]:
    """Return an image as its statements call it: by each of its names."""
    return [{"name": package_url(name, platform), "digest": digest_set(manifest)} for name in names]


def statement_annotations(attestation: Attestation) -> Mapping[str, str]:
    """Return what a statement's descriptor says of it."""
    return {_PREDICATE: attestation.predicate_type}


def render_attestation_config(statements: Sequence[Descriptor]) -> bytes:
    """Return the config of a manifest that is an image in its form, of which the statements are the layers."""
    document = {
        "architecture": UNKNOWN.architecture,
        "os": UNKNOWN.os,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [each.digest for each in statements]},
    }
    return json.dumps(document, separators=(",", ":")).encode()


def reference_annotations(target: Digest) -> Mapping[str, str]:
    """Return by what an index says which of its manifests another one is about."""
    return {_REFERENCE_DIGEST: target, _REFERENCE_TYPE: "attestation-manifest"}
