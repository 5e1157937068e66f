"""imaged's nouns: frozen values that its parts hand to each other."""

from dataclasses import dataclass
from typing import Final

from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.image_config import ConfigFile
from sampan.oci.reference import Reference
from sampan.resource.image import Layer, RemovedImages

# Pieces in which blobs are read, hashed, written and sent.
PIECE_BYTES: Final = 1 << 20


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
    deferred: tuple[Digest, ...] = ()  # diff IDs of layers whose blobs are not made yet


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
class Removed(RemovedImages):
    """What a removal took away, with the records that are gone."""

    deleted: tuple[ImageRecord, ...] = ()

    @property
    def untagged(self) -> tuple[str, ...]:
        """Names that are gone, in familiar form."""
        return tuple(change.untagged for change in self.changes if change.untagged)
