"""What clients say of an output: ``docker buildx build --output type=image,name=…``.

Reference: moby/buildkit, README, "Output". An attribute that has no effect here is refused by name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sampan.docker.booleans import parse_bool
from sampan.errors import InvalidArgumentError, UnimplementedError
from sampan.oci.platform import Platform, parse_platform
from sampan.oci.reference import parse_reference

IMAGE_TYPES: Final = frozenset(("image", "moby"))
ARCHIVE_TYPES: Final = frozenset(("docker", "oci"))
FILE_TYPES: Final = frozenset(("local", "tar"))

# Said to every exporter by some client, and true of all of ours, or of no consequence.
_INERT: Final = frozenset(
    (
        "dest", "context", "unpack", "buildinfo", "buildinfo-attrs", "compression-level", "id",
        "load",  # results are always in the store
        "prefer-image-digest",  # the digests of image and config are both told
    )
)  # fmt: skip
_TRUTHS: Final = frozenset(
    (
        "push", "push-by-digest", "registry.insecure", "store", "name-canonical", "oci-mediatypes", "force-compression",
        "rewrite-timestamp", "tar", "platform-split", "oci-artifact", "prefer-nondist-layers",
        "force-inline-attestations",
    )
)  # fmt: skip
_TEXTS: Final = frozenset(("name", "dangling-name-prefix", "compression", "attestation-prefix", "source-date-epoch"))

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
    dangling_prefix: str = ""  # an image without a name is called <prefix>@<digest>
    docker_types: bool = False  # Docker's media types instead of OCI's
    rewrite_timestamp: bool = False
    as_tar: bool = True  # of an OCI layout
    platform_split: bool | None = None  # a directory for each platform; None: if there are several
    attestation_prefix: str = ""
    oci_artifact: bool = True  # attestations are artifacts, not images in their form
    inline_attestations: bool | None = None  # those too that are for images alone; None: as the exporter does
    annotations: tuple[Annotation, ...] = field(default=())

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
        raise InvalidArgumentError(f"exporter {kind!r} could not be found")
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
    _refuse(kind, truths, texts)
    names = tuple(_name(part.strip()) for part in texts.get("name", "").split(",") if part.strip())
    if truths.get("push") and not names:
        raise InvalidArgumentError("can't push without a name: say name=registry/repository:tag")
    return ExportAttributes(
        names=names,
        push=truths.get("push", False),
        push_by_digest=truths.get("push-by-digest", False),
        dangling_prefix=texts.get("dangling-name-prefix", ""),
        docker_types=not truths.get("oci-mediatypes", True),
        rewrite_timestamp=truths.get("rewrite-timestamp", False),
        as_tar=truths.get("tar", True),
        platform_split=truths.get("platform-split"),
        attestation_prefix=texts.get("attestation-prefix", ""),
        oci_artifact=truths.get("oci-artifact", True),
        inline_attestations=truths.get("force-inline-attestations"),
        annotations=tuple(annotations),
    )


def _refuse(kind: str, truths: Mapping[str, bool], texts: Mapping[str, str]) -> None:
    if (compression := texts.get("compression", "gzip")) not in ("", "gzip"):
        raise UnimplementedError(f"compression {compression} of layers is not supported: use gzip")
    for name in ("push-by-digest", "rewrite-timestamp", "prefer-nondist-layers"):
        if truths.get(name):
            raise UnimplementedError(f"{name} of exporter {kind} is not supported")
    if truths.get("store") is False:
        raise UnimplementedError(f"store=false of exporter {kind} is not supported: images are always kept")
    if truths.get("registry.insecure"):
        raise UnimplementedError(
            "registry.insecure is not supported: say in the configuration of imaged which registries are"
        )


def _name(text: str) -> str:
    reference = parse_reference(text)
    if reference.digest is not None:
        raise InvalidArgumentError(f"name {text!r} of an output cannot have a digest")
    return str(reference.with_default_tag())
