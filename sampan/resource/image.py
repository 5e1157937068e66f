"""Images as clients ask for them and see them."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.image_config import History, RunConfig
from sampan.oci.platform import Platform
from sampan.oci.reference import Reference

_NO_PLATFORM: Final = Platform("", "")


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


class ManifestKind(enum.Enum):
    """What a manifest of an index is."""

    UNKNOWN = "unknown"
    IMAGE = "image"
    ATTESTATION = "attestation"


@dataclass(frozen=True, slots=True)
class AnnotatedDescriptor(Descriptor):
    """A descriptor as an index has it."""

    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """What an index leads to."""

    descriptor: AnnotatedDescriptor
    kind: ManifestKind
    available: bool  # with everything it refers to
    content_bytes: int  # of what is here
    platform: Platform | None = None  # as the index says
    image_id: str = ""  # of an image whose config is here
    attested_digest: str = ""  # of an attestation: the manifest that it is about


@dataclass(frozen=True, slots=True)
class ImageDetails:
    """An image as it is shown. A brief one has no config, history, author and comment."""

    id: Digest  # of the config
    target: Descriptor  # what its names point to: a manifest or an index
    manifest: Descriptor
    repo_tags: tuple[str, ...] = ()  # familiar form: "debian:12"
    repo_digests: tuple[str, ...] = ()  # "debian@sha256:…"
    created_ns: int | None = None  # since 1970; None if the config does not say
    last_tagged_ns: int = 0  # 0: never
    platform: Platform = _NO_PLATFORM
    os_version: str = ""
    author: str = ""
    comment: str = ""
    config: RunConfig = field(default_factory=RunConfig)
    layers: tuple[Layer, ...] = ()  # base first
    history: tuple[History, ...] = ()  # oldest first
    content_bytes: int = 0  # compressed: manifest, config and layers
    parent: str = ""  # image ID that it was made from, if it was here
    docker_version: str = ""
    manifests: tuple[ImageManifest, ...] = ()  # what its index leads to, if that was asked for
    deferred: tuple[Digest, ...] = ()  # diff IDs of layers of which there is no blob yet


@dataclass(frozen=True, slots=True)
class NamedImage:
    """What naming an image came to."""

    image: ImageDetails
    moved: bool = False  # the name pointed elsewhere before
    existed: bool = False  # the name pointed here before


@dataclass(frozen=True, slots=True)
class Imported:
    """An image made here, held by the lease."""

    lease: str
    image_id: Digest
    target: Descriptor
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image of an archive that is here, held by a lease."""

    lease: str
    image_id: Digest
    target: Descriptor
    layers: tuple[Layer, ...]  # base first
    references: tuple[Reference, ...]
    platform: Platform


@dataclass(frozen=True, slots=True)
class ImageCommit:
    """What an image is to say that is made of a container's changes."""

    config: RunConfig  # of the container that it comes from
    changes: tuple[str, ...] = ()  # Dockerfile instructions
    author: str = ""
    message: str = ""
    created_by: str = ""  # the command that made the changes


@dataclass(frozen=True, slots=True)
class ImageChange:
    """One step of a removal."""

    image: Digest
    untagged: str = ""  # a name in familiar form; empty: the image was deleted
    chain_ids: tuple[Digest, ...] = ()  # deleted: of its layers that nothing else needs any more, base first
    # Untagged: of the image that was asked for, if it can be read.
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageUse:
    """An image that a container was made of."""

    image: str  # ID
    container: str  # ID of one of them: of one that runs, if any does
    running: bool = False  # it runs, is paused or is about to be restarted


@dataclass(frozen=True, slots=True)
class RemovedImages:
    """What a removal took away."""

    changes: tuple[ImageChange, ...] = ()  # in Docker's order
    reclaimed_bytes: int = 0  # of blobs


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """What a name points to at its registry, and what that can run on."""

    target: Descriptor
    platforms: tuple[Platform, ...]


@dataclass(frozen=True, slots=True)
class RemoteManifest:
    """A manifest or an index at its registry, byte for byte, and of a manifest also its config."""

    target: Descriptor
    content: bytes
    config: bytes = b""


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest that is about another one, as their registry lists it."""

    descriptor: AnnotatedDescriptor
    artifact_type: str = ""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One repository that a registry knows by a term."""

    name: str
    description: str
    stars: int
    official: bool
    automated: bool
