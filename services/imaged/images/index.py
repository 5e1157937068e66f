"""What a tag points to, followed to its end: the indexes, and how much of what they list is here.

An image row stands for one platform. Around it there may be an index, and in that other platforms that are here too:
they belong to the image as long as it has that index, so that a tag can be pushed, saved and named by the digest that
it was pulled by.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from imaged.content.blobs import ContentStore
from imaged.registry.client import MAX_MANIFEST_BYTES
from sampan.errors import NotFoundError, RemoteError, SampanError
from sampan.log import log
from sampan.oci.descriptor import CONFIGS, INDEXES, MANIFESTS, OCI_INDEX, OCI_MANIFEST, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.json_documents import load_json
from sampan.oci.manifest import IndexEntry, Manifest, parse_document, parse_references
from sampan.oci.platform import Platform
from sampan.store.database import Store

_MAX_DEPTH: Final = 4
# Documents of one target: more is no index of anybody's, and each is read.
_MAX_DOCUMENTS: Final = 1000

_UNKNOWN: Final = "unknown"  # the platform of attestations, as BuildKit writes them
_KIND: Final = "vnd.docker.reference.type"
ATTESTED: Final = "vnd.docker.reference.digest"


@dataclass(frozen=True, slots=True)
class Member:
    """One manifest of an index."""

    descriptor: Descriptor
    platform: Platform | None  # as the index says
    references: tuple[Descriptor, ...] | None  # config first, then layers; None: the manifest is not here
    annotations: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[Digest, ...] = ()  # of all that it is made of
    here_bytes: int = 0  # of that, what is here

    @property
    def available(self) -> bool:
        """Whether it is here with everything it refers to."""
        return self.references is not None and not self.missing

    @property
    def is_attestation(self) -> bool:
        """Whether it says something about another manifest."""
        return _KIND in self.annotations or (
            self.platform is not None and _UNKNOWN in (self.platform.os, self.platform.architecture)
        )

    @property
    def is_image(self) -> bool:
        """Whether it can be run somewhere, as far as one can see."""
        if self.is_attestation:
            return False
        return self.references is None or self.references[0].media_type in CONFIGS

    @property
    def attested(self) -> str:
        """Digest of the manifest that an attestation is about."""
        return self.annotations.get(ATTESTED, "") if self.is_attestation else ""

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """The manifest, its config, its layers."""
        return (self.descriptor, *(self.references or ()))


@dataclass(frozen=True, slots=True)
class Tree:
    """Everything that a target leads to."""

    target: Descriptor
    indexes: tuple[Descriptor, ...]  # that are here, outermost first
    members: tuple[Member, ...]  # in the order of the indexes
    whole: bool  # nothing is missing

    def of_platform(self, platform: Platform) -> list[Member]:
        """Return the images for a platform that are here, those with exactly its variant first."""
        fitting = [
            each
            for each in self.members
            if each.available and each.is_image and each.platform is not None and platform.accepts(each.platform)
        ]
        return sorted(fitting, key=lambda each: each.platform != platform)


async def survey(store: Store, content: ContentStore, target: Descriptor) -> Tree:
    """Follow an index; reads documents, and of everything else only whether it is here.

    A target that is a manifest is a tree of one member without a platform. Damaged documents count as missing.
    """
    indexes: list[Descriptor] = []
    found: list[tuple[IndexEntry, tuple[Descriptor, ...] | None]] = []
    lost = False
    open_: list[tuple[IndexEntry, int]] = [(IndexEntry(target, None), 0)]
    seen: set[Digest] = set()
    while open_ and len(seen) < _MAX_DOCUMENTS:
        entry, depth = open_.pop(0)
        descriptor = entry.descriptor
        if descriptor.digest in seen:
            continue
        seen.add(descriptor.digest)
        if descriptor.media_type in INDEXES and depth < _MAX_DEPTH:
            entries = await _entries(content, descriptor)
            lost = lost or entries is None
            if entries is not None:
                indexes.append(descriptor)
                open_ = [*((inner, depth + 1) for inner in entries), *open_]
        else:
            found.append((entry, await _references(content, descriptor)))
    wanted = {each.digest for entry, references in found for each in (entry.descriptor, *(references or ()))}
    sizes = await store.read(lambda db: _sizes(db, wanted))
    members = tuple(_member(entry, references, sizes) for entry, references in found)
    whole = not lost and not open_ and all(member.available for member in members)
    return Tree(target, tuple(indexes), members, whole)


async def describe(content: ContentStore, digest: Digest) -> Descriptor:
    """Return the descriptor of a manifest or an index that is here, by what it says of itself.

    Raises:
        NotFoundError, DataLossError: it is not here, or damaged.
        RemoteError: it is neither.
    """
    data = await content.load(digest, MAX_MANIFEST_BYTES)
    document = load_json(data, f"content {digest}")
    if not isinstance(document, dict):
        raise RemoteError(f"content {digest}: is not a manifest")
    stated = document.get("mediaType")
    if not isinstance(stated, str):
        stated = OCI_INDEX if "manifests" in document else OCI_MANIFEST
    return Descriptor(stated, digest, len(data))


def _member(entry: IndexEntry, references: tuple[Descriptor, ...] | None, sizes: Mapping[Digest, int]) -> Member:
    parts = {each.digest: each.size for each in (entry.descriptor, *(references or ()))}
    missing = tuple(digest for digest, size in parts.items() if sizes.get(digest) != size)
    here_bytes = sum(size for digest, size in parts.items() if digest not in missing)
    return Member(entry.descriptor, entry.platform, references, entry.annotations, missing, here_bytes)


async def _entries(content: ContentStore, index: Descriptor) -> tuple[IndexEntry, ...] | None:
    data = await _load(content, index)
    try:
        parsed = parse_document(data, index.media_type, f"content {index.digest}") if data is not None else None
    except SampanError as error:
        log.warning("index cannot be read", digest=index.digest, error=str(error))
        return None
    return None if isinstance(parsed, Manifest) else parsed


async def _references(content: ContentStore, manifest: Descriptor) -> tuple[Descriptor, ...] | None:
    data = await _load(content, manifest) if manifest.media_type in MANIFESTS else None
    try:
        return parse_references(data, manifest.media_type, f"content {manifest.digest}") if data is not None else None
    except SampanError as error:
        log.warning("manifest cannot be read", digest=manifest.digest, error=str(error))
        return None


async def _load(content: ContentStore, document: Descriptor) -> bytes | None:
    try:
        return await content.load(document.digest, MAX_MANIFEST_BYTES)
    except NotFoundError:
        return None
    except SampanError as error:
        log.warning("document cannot be read", digest=document.digest, error=str(error))
        return None


def _sizes(db: sqlite3.Connection, digests: Iterable[Digest]) -> dict[Digest, int]:
    found = {}
    for digest in digests:
        row = db.execute("SELECT size_bytes FROM blobs WHERE digest = ?", (digest,)).fetchone()
        if row is not None:
            found[digest] = row[0]
    return found


def claims(db: sqlite3.Connection, tree: Tree) -> list[Digest]:
    """Return the digests that belong to an image because of its index, those of them that are here now.

    A member counts if all of it is here: half a platform is nothing to keep. Documents of indexes always do.
    """
    digests = [index.digest for index in tree.indexes]
    for member in tree.members:
        parts = [each.digest for each in member.blobs]
        if member.available and len(_sizes(db, parts)) == len(set(parts)):
            digests += parts
    return [digest for digest in dict.fromkeys(digests) if _sizes(db, [digest])]
