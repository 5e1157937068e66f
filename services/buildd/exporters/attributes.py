"""What clients say of an output: ``docker buildx build --output type=image,name=…``.

Reference: moby/buildkit, README, "Output". An attribute that has no effect here is refused by name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from buildd.exporters.layers import TYPES, Wanted
from buildd.frontend.options import parse_epoch
from buildd.protocol import GZIP, PLAIN, ZSTD
from sampan.docker.booleans import parse_bool
from sampan.dockerfile.words import quoted
from sampan.errors import InvalidArgumentError, UnimplementedError
from sampan.oci.platform import Platform, parse_platform
from sampan.oci.reference import parse_reference

IMAGE_TYPES: Final = frozenset(("image", "moby"))
ARCHIVE_TYPES: Final = frozenset(("docker", "oci"))
FILE_TYPES: Final = frozenset(("local", "tar"))

# Said to every exporter by some client, and true of all of ours, or of no consequence.
_INERT: Final = frozenset(
    (
        "dest", "context", "unpack", "buildinfo", "buildinfo-attrs", "id",
        "load",  # results are always in the store
        "prefer-image-digest",  # the digests of image and config are both told
    )
)  # fmt: skip
_TRUTHS: Final = frozenset(
    (
        "push", "push-by-digest", "registry.insecure", "store", "name-canonical", "oci-mediatypes", "force-compression",
        "rewrite-timestamp", "tar", "platform-split", "oci-artifact", "prefer-nondist-layers",
        "force-inline-attestations", "attestation-inline", "danging-name-empty-only",
    )
)  # fmt: skip
_TEXTS: Final = frozenset(
    (
        "name", "dangling-name-prefix", "compression", "compression-level", "attestation-prefix", "source-date-epoch",
    )
)  # fmt: skip
_MAX_LEVELS: Final = {GZIP: 9, ZSTD: 22, PLAIN: 22}

_ANNOTATION: Final = re.compile(
    r"annotation(?:-(?P<place>manifest|index|manifest-descriptor|index-descriptor))?(?:\[(?P<platform>[^\]]+)\])?"
    r"\.(?P<key>.+)"
)


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation, and what it is put on."""

    place: str  # "manifest", "index", "manifest-descriptor", "index-descriptor"
    key: str
    value: str
    platform: Platform | None = None  # of one image alone


@dataclass(frozen=True, slots=True)
class ExportAttributes:
    """An output's attributes."""

    names: tuple[str, ...] = ()  # complete, with tags
    push: bool = False
    push_by_digest: bool = False
    dangling_prefix: str = ""  # the image is called <prefix>@<digest>, too
    dangling_only: bool = False  # if it has no other name
    name_canonical: bool = False  # each name is there with the digest, too
    store: bool = True  # what is pushed stays here
    layers: Wanted = field(default_factory=Wanted)
    epoch_s: int | None = None  # the latest time that an image tells
    docker_types: bool = False  # Docker's media types instead of OCI's
    rewrite_timestamp: bool = False
    as_tar: bool = True  # of an OCI layout
    platform_split: bool | None = None  # a directory for each platform; None: if there are several
    attestation_prefix: str = ""
    oci_artifact: bool = True  # attestations are artifacts, not images in their form
    inline_attestations: bool | None = None  # those too that are for images alone; None: as the exporter does
    annotations: tuple[Annotation, ...] = field(default=())

    @property
    def may_defer(self) -> bool:
        """Whether nobody needs blobs of all layers now: the image stays here, and no name has its digest."""
        by_digest = self.push_by_digest or self.name_canonical or bool(self.dangling_prefix)
        return self.store and not self.push and not by_digest

    def annotations_on(self, place: str, platform: Platform | None = None) -> Mapping[str, str]:
        """Return what is put on something; ``platform`` is the image's."""
        return {
            each.key: each.value
            for each in self.annotations
            if each.place == place and (each.platform is None or platform is None or each.platform == platform)
        }


def parse_attributes(kind: str, attributes: Mapping[str, str]) -> ExportAttributes:
    """Read the attributes of an exporter of type ``kind``.

    Raises:
        InvalidArgumentError: an attribute or value that cannot be, or an unknown type.
        UnimplementedError: one that has no effect here.
    """
    if kind not in IMAGE_TYPES | ARCHIVE_TYPES | FILE_TYPES:
        raise InvalidArgumentError(f"exporter {quoted(kind)} could not be found")
    truths: dict[str, bool] = {}
    texts: dict[str, str] = {}
    annotations: list[Annotation] = []
    for name, value in attributes.items():
        if name in _INERT:
            continue
        if name in _TRUTHS:
            truths[name] = parse_bool(value, name) if value else True
        elif name in _TEXTS:
            texts[name] = value
        elif match := _ANNOTATION.fullmatch(name):
            asked = parse_platform(match["platform"]) if match["platform"] else None
            annotations.append(Annotation(match["place"] or "manifest", match["key"], value, asked))
        else:
            raise InvalidArgumentError(f"unknown attribute {name!r} of exporter {kind}")
    _refuse(kind, truths)
    by_digest = truths.get("push-by-digest", False)
    layers = parse_compression(texts, force=truths.get("force-compression", False))
    names = tuple(_name(part.strip(), by_digest=by_digest) for part in texts.get("name", "").split(",") if part.strip())
    if truths.get("push") and not names:
        raise InvalidArgumentError("can't push without a name: say name=registry/repository:tag")
    return ExportAttributes(
        names=names,
        push=truths.get("push", False),
        push_by_digest=by_digest,
        dangling_only=truths.get("danging-name-empty-only", False),
        name_canonical=truths.get("name-canonical", False),
        store=truths.get("store", True),
        layers=layers,
        epoch_s=parse_epoch(texts.get("source-date-epoch", "")),
        dangling_prefix=texts.get("dangling-name-prefix", ""),
        docker_types=not truths.get("oci-mediatypes", True) and layers.compression != ZSTD,  # OCI alone has a type
        rewrite_timestamp=truths.get("rewrite-timestamp", False),
        as_tar=truths.get("tar", True),
        platform_split=truths.get("platform-split"),
        attestation_prefix=texts.get("attestation-prefix", ""),
        oci_artifact=truths.get("oci-artifact", True),
        inline_attestations=truths.get("attestation-inline", truths.get("force-inline-attestations")),
        annotations=tuple(annotations),
    )


def parse_compression(attributes: Mapping[str, str], *, force: bool) -> Wanted:
    """Read how layers are to be compressed.

    Raises:
        InvalidArgumentError: an unknown compression, or a level that it does not have.
        UnimplementedError: estargz.
    """
    compression = attributes.get("compression") or GZIP
    if compression == "estargz":
        raise UnimplementedError("compression estargz of layers is not supported: use gzip, zstd or uncompressed")
    if compression not in TYPES:
        raise InvalidArgumentError(f'unsupported layer compression type "{compression}"')
    text = attributes.get("compression-level", "")
    if not text:
        return Wanted(compression, force=force)
    if not (text.isascii() and text.isdigit()) or int(text) > _MAX_LEVELS[compression]:
        most = _MAX_LEVELS[compression]
        raise InvalidArgumentError(f"compression-level {text!r} of {compression} is not a number from 0 to {most}")
    return Wanted(compression, int(text), force)


def _refuse(kind: str, truths: Mapping[str, bool]) -> None:
    if truths.get("prefer-nondist-layers"):
        raise UnimplementedError(f"prefer-nondist-layers of exporter {kind} is not supported")
    if truths.get("registry.insecure"):
        raise UnimplementedError(
            "registry.insecure is not supported: say in the configuration of imaged which registries are"
        )


def _name(text: str, *, by_digest: bool) -> str:
    reference = parse_reference(text)
    if by_digest:
        if reference.tag is not None or reference.digest is not None:
            raise InvalidArgumentError(f"can't push tagged ref {text} by digest")
        return str(reference)
    if reference.digest is not None:
        raise InvalidArgumentError(f"name {text!r} of an output cannot have a digest")
    return str(reference.with_default_tag())
