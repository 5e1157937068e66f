"""What is told of a source besides its files: what signs a commit, what is attested of an image, checksums."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sampan.oci.digest import Digest
from sampan.resource.image import AnnotatedDescriptor


@dataclass(frozen=True, slots=True)
class GitObjects:
    """Objects of a repository as git(1) hashes them, but for their headers."""

    commit: bytes
    tag: bytes = b""  # the annotated tag that a source names
    tag_hash: str = ""


@dataclass(frozen=True, slots=True)
class AttestedBlob:
    """A document of a chain."""

    descriptor: AnnotatedDescriptor
    data: bytes


@dataclass(frozen=True, slots=True)
class AttestationChain:
    """How an image's name leads to what is said of it, and who has signed that; empty where there is no such thing."""

    root: Digest  # what the name points to
    image_manifest: str = ""
    attestation_manifest: str = ""
    signature_manifests: tuple[Digest, ...] = ()
    blobs: Mapping[Digest, AttestedBlob] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AttestationQuery:
    """Of which kinds the statements themselves are wanted: types of predicates; the chain is wanted in any case."""

    predicates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChecksumQuery:
    """A checksum of a file with something behind it, as signatures are made of them."""

    algorithm: str  # "sha256", "sha384", "sha512"
    suffix: bytes = b""


@dataclass(frozen=True, slots=True)
class Checksum:
    """The answer."""

    digest: str  # "sha512:…"
    suffix: bytes
