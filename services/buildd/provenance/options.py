"""What a client wants to have attested: ``--provenance``, ``--sbom``, ``--attest``.

Reference: moby/buildkit, docs/attestations/README.md and slsa-provenance.md.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sampan.docker.booleans import parse_bool
from sampan.errors import InvalidArgumentError, UnimplementedError
from sampan.oci.reference import parse_reference

_PREFIXES: Final = ("attest:", "build-arg:BUILDKIT_ATTEST_")
_PROVENANCE: Final = "provenance"
_SBOM: Final = "sbom"
_GENERATOR: Final = "docker/buildkit-syft-scanner:stable-1"  # which clients mean that name none
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MODES: Final = {"min": False, "max": True, "full": True}
_VERSIONS: Final = ("v1", "v0.2")
_KNOWN: Final = frozenset(
    (
        "type", "mode", "version", "builder-id", "reproducible", "inline-only", "filename", "disabled", "capture-usage",
        "complete-materials",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProvenanceOptions:
    """How a result's provenance is told."""

    everything: bool = True  # mode=max: arguments, the graph and the Dockerfile, too
    version: str = "v1"  # of SLSA's predicate: "v1", "v0.2"
    builder_id: str = ""
    reproducible: bool = False
    inline_only: bool = False  # in images alone, and only where an index costs nobody anything
    file_name: str = "provenance.json"
    complete: bool = False  # refuse a build whose materials are not all known


@dataclass(frozen=True, slots=True)
class SbomOptions:
    """How a bill of materials is made."""

    generator: str  # image
    parameters: Mapping[str, str] = field(default_factory=dict)  # variables of its, without their prefix
    ignore_cache: bool = False


def parse_attestations(attributes: Mapping[str, str]) -> ProvenanceOptions | None:
    """Read a frontend's attributes; None if no provenance is asked for.

    Raises:
        InvalidArgumentError: an unknown attestation, or a value that cannot be.
        UnimplementedError: something of it that cannot be made here.
    """
    wanted = _wanted(attributes)
    return _provenance(wanted[_PROVENANCE]) if _PROVENANCE in wanted else None


def parse_sbom(attributes: Mapping[str, str]) -> SbomOptions | None:
    """Read a frontend's attributes; None if no bill of materials is asked for. Raises as ``parse_attestations``."""
    wanted = _wanted(attributes)
    if _SBOM not in wanted:
        return None
    parameters = {name: value for name, value in wanted[_SBOM].items() if name not in ("generator", "type", "disabled")}
    generator = wanted[_SBOM].get("generator", _GENERATOR)
    if not generator:
        raise InvalidArgumentError("sbom scanner cannot be empty")
    for name in parameters:
        if not _VARIABLE.fullmatch(name):
            raise InvalidArgumentError(f"invalid attribute {name!r} of attestation sbom: it is no variable's name")
    try:
        parse_reference(generator)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"failed to parse sbom scanner {generator}: {error}") from error
    return SbomOptions(generator, parameters, "no-cache" in attributes)


def _wanted(attributes: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
    asked = {
        name.removeprefix(prefix).lower(): value
        for prefix in _PREFIXES
        for name, value in attributes.items()
        if name.startswith(prefix)
    }
    for kind in asked:
        if kind not in (_PROVENANCE, _SBOM):
            raise InvalidArgumentError(f'unknown attestation type "{kind}"')
    fields = {kind: _fields(kind, text) for kind, text in asked.items()}
    return {kind: each for kind, each in fields.items() if not _truth(kind, each, "disabled")}


def _provenance(fields: Mapping[str, str]) -> ProvenanceOptions:
    for name in fields:
        if name not in _KNOWN:
            raise InvalidArgumentError(f"unknown attribute {name!r} of attestation provenance")
    if (mode := fields.get("mode", "max")) not in _MODES:
        raise InvalidArgumentError(f'invalid mode "{mode}"')
    if (version := fields.get("version", _VERSIONS[0])) not in _VERSIONS:
        raise InvalidArgumentError(f"invalid provenance SLSA version: {version}")
    if _truth(_PROVENANCE, fields, "capture-usage"):
        raise UnimplementedError("capture-usage of attestation provenance is not supported: leave it out")
    file_name = fields.get("filename", "provenance.json")
    if file_name in ("", ".", "..") or "/" in file_name or "\0" in file_name:
        raise InvalidArgumentError(f"invalid filename {file_name!r} of attestation provenance")
    return ProvenanceOptions(
        everything=_MODES[mode],
        version=version,
        builder_id=fields.get("builder-id", ""),
        reproducible=_truth(_PROVENANCE, fields, "reproducible"),
        inline_only=_truth(_PROVENANCE, fields, "inline-only"),
        file_name=file_name,
        complete=_truth(_PROVENANCE, fields, "complete-materials"),
    )


def _fields(kind: str, text: str) -> Mapping[str, str]:
    try:
        parts = next(csv.reader([text], strict=True), []) if text else []
    except csv.Error as error:
        raise InvalidArgumentError(f"failed to parse {kind}: {error}") from error
    # Compose's own builder names the kind where a field belongs, and means nothing by it.
    split = (part.partition("=") for part in parts if part not in ("", kind))
    return {name: value for name, _, value in split}


def _truth(kind: str, fields: Mapping[str, str], name: str) -> bool:
    text = fields.get(name)
    if not text:
        return text == ""
    try:
        return parse_bool(text, f"{name} of attestation {kind}")
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            f'failed to parse {name} flag "{text}": strconv.ParseBool: parsing "{text}": invalid syntax'
        ) from error
