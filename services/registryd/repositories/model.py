"""registryd's nouns: frozen values that its parts hand to each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or an index, and what it refers to."""

    descriptor: Descriptor
    blobs: tuple[Descriptor, ...] = ()  # config and layers, or blobs that an index lists
    children: tuple[Descriptor, ...] = ()  # manifests that an index lists
    subject: Digest | None = None
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest that is about another one."""

    descriptor: Descriptor
    artifact_type: str
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Unkept:
    """A label that no row owns any more, to be taken off its content."""

    digest: Digest
    root: str


@dataclass(frozen=True, slots=True)
class Held:
    """Content that the engine has."""

    digest: Digest
    size: int  # bytes
    roots: Mapping[str, str]  # labels that a registry has set, with their repositories


@dataclass(frozen=True, slots=True)
class Row:
    """What a repository holds, as it is recorded."""

    table: str  # "blobs" or "manifests"
    repository: str
    digest: Digest
    size: int  # bytes
    root: str
    media_type: str = ""  # of a manifest

    @property
    def subject(self) -> str:
        """What a finding calls it."""
        return f"{self.table}/{self.repository}@{self.digest}"


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a list, in order; ``more`` says whether others follow."""

    items: tuple[str, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class EngineImage:
    """An image that the engine has under names of its own."""

    names: tuple[Reference, ...]
    target: Descriptor  # what the names point to: a manifest, or an index of which only part may be here
    manifest: Descriptor
    contents: Mapping[Digest, int]  # everything it is made of that is here, with sizes; not the documents above
    id: str = ""
    complete: bool = True  # else a layer has no blob yet: see ``Catalog.complete``


@dataclass(frozen=True, slots=True)
class UploadState:
    """How far an upload is."""

    offset: int  # bytes that have arrived
    digest: Digest  # of those bytes
