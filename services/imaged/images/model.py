"""imaged's nouns: frozen values that its parts hand to each other."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.image_config import ConfigFile
from sampan.oci.reference import Reference

# Pieces in which blobs are read, hashed, written and sent.
PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Blob:
    """Content that is here, whole and verified."""

    digest: Digest
    size: int  # bytes
    created_ns: int  # since the epoch
    updated_ns: int  # when its labels last changed
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IngestStatus:
    """How far a write has come that is not yet committed."""

    ref: str
    offset: int  # bytes written so far
    total: int  # bytes expected, 0 if unknown
    expected: Digest | None
    started_ns: int
    updated_ns: int


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who asks a registry; all empty means nobody in particular."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)  # an OAuth2 refresh token
    registry_token: str = field(default="", repr=False)  # a bearer token, sent as it is

    def __post_init__(self) -> None:
        """Refuse a token that cannot stand in a header."""
        if not (self.registry_token.isascii() and (self.registry_token + "x").isprintable()):
            raise InvalidArgumentError("registry token holds characters that no token has")

    def __bool__(self) -> bool:
        return bool(self.username or self.password or self.identity_token or self.registry_token)


ANONYMOUS: Final = Credentials()


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer's blob, and the digest of the tar inside it."""

    descriptor: Descriptor
    diff_id: Digest


class Phase(enum.Enum):
    """What is happening to a layer."""

    WAITING = "waiting"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    COMMITTED = "committed"  # just arrived
    EXISTED = "existed"  # was here before
    RETRYING = "retrying"


@dataclass(frozen=True, slots=True)
class LayerProgress:
    """One step of one layer."""

    digest: Digest
    phase: Phase
    offset: int  # bytes so far; with RETRYING, seconds until the next try
    total: int  # bytes


@dataclass(frozen=True, slots=True)
class Resolved:
    """All layers are known."""

    lease: str
    reference: Reference
    target: Descriptor
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True)
class Fetched:
    """Everything is here, held by the lease."""

    image_id: Digest
    target: Descriptor
    manifest: Descriptor


@dataclass(frozen=True, slots=True)
class Imported:
    """An image made from a tar, held by the lease."""

    lease: str
    image_id: Digest
    target: Descriptor
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image as it is recorded: what it is made of, without what its config says."""

    id: Digest
    target: Descriptor
    manifest: Descriptor
    layers: tuple[Layer, ...]  # base first
    content_bytes: int  # compressed: manifest, config and layers
    tagged_ns: int
    names: tuple[Reference, ...]  # tags and digests
    parent: Digest | None = None  # image that it was committed from, which may be gone


@dataclass(frozen=True, slots=True)
class Image:
    """An image as it is shown."""

    record: ImageRecord
    config: ConfigFile

    @property
    def repo_tags(self) -> tuple[str, ...]:
        """Tags in familiar form, sorted."""
        return tuple(sorted(name.familiar for name in self.record.names if name.digest is None))

    @property
    def repo_digests(self) -> tuple[str, ...]:
        """Digests in familiar form, sorted."""
        return tuple(sorted(name.familiar for name in self.record.names if name.digest is not None))


@dataclass(frozen=True, slots=True)
class Created:
    """What naming an image came to."""

    image: Image
    moved: bool  # the name pointed elsewhere before
    existed: bool  # the name pointed here before


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a removal."""

    image: Digest
    untagged: str = ""  # a name in familiar form; empty: the image was deleted
    chain_ids: tuple[Digest, ...] = ()  # deleted: of its layers that nothing else needs any more, base first


@dataclass(frozen=True, slots=True)
class Removed:
    """What a removal took away."""

    changes: tuple[Change, ...] = ()  # in Docker's order
    deleted: tuple[ImageRecord, ...] = ()
    reclaimed_bytes: int = 0  # of blobs

    @property
    def untagged(self) -> tuple[str, ...]:
        """Names that are gone, in familiar form."""
        return tuple(change.untagged for change in self.changes if change.untagged)
