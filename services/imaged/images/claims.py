"""What an image gives up when a name goes: the blobs of indexes that nothing leads to any more.

An image claims what its index has of other platforms, see ``index.py``. The claim lasts as long as one of the image's
names leads to that index, and as long as nobody removes the other platform's image by itself.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace

from imaged.content.blobs import ContentStore
from imaged.images import index
from imaged.images import store as image_store
from imaged.images.index import Member, Tree, describe, survey
from imaged.images.model import ImageRecord
from sampan.errors import SampanError
from sampan.log import log
from sampan.oci.descriptor import INDEXES, MANIFESTS
from sampan.oci.digest import Digest
from sampan.resource.image import Layer
from sampan.store.database import Store


@dataclass(frozen=True, slots=True)
class Claimed:
    """What an image leads to, read before the transaction that needs it."""

    targets: frozenset[Digest]  # of its names
    trees: tuple[Tree, ...] | None  # None: a document cannot be read, and nothing is given up on its account


async def look(store: Store, content: ContentStore, image: Digest, targets: frozenset[Digest]) -> Claimed:
    """Read what an image that has these targets leads to."""
    record = await store.read(lambda db: image_store.get_image(db, image))
    own = () if record is None else (record.target, record.manifest)
    trees = []
    for digest in sorted(targets):
        try:
            known = next((each for each in own if each.digest == digest), None)
            tree = await survey(store, content, known or await describe(content, digest))
        except SampanError as error:
            log.warning("what a name leads to cannot be read", image=image, digest=digest, error=str(error))
            return Claimed(targets, None)
        if not _is_read(tree):
            return Claimed(targets, None)
        trees.append(tree)
    return Claimed(targets, tuple(trees))


def _is_read(tree: Tree) -> bool:
    """Say whether the outermost document and each manifest that is here could be read."""
    if tree.target.media_type in INDEXES and tree.target not in tree.indexes:
        return False
    return not any(
        member.references is None
        and member.descriptor.media_type in MANIFESTS
        and member.descriptor.digest not in member.missing
        for member in tree.members
    )


def targets(db: sqlite3.Connection, record: ImageRecord) -> frozenset[Digest]:
    """Return what an image's names lead to; without a name, what it was made of last."""
    found = db.execute("SELECT DISTINCT digest FROM names WHERE image = ?", (record.id,))
    return frozenset(Digest(row[0]) for row in found) or frozenset((record.target.digest,))


def has_more(db: sqlite3.Connection, record: ImageRecord) -> bool:
    """Say whether an image claims more than what it is made of itself."""
    (count,) = db.execute("SELECT count(*) FROM image_blobs WHERE image = ?", (record.id,)).fetchone()
    return int(count) > len(_own(record))


def sharers(db: sqlite3.Connection, record: ImageRecord) -> list[Digest]:
    """Return the other images that claim an image's manifest because of the same index."""
    found = db.execute(
        "SELECT image FROM image_blobs WHERE digest = ?1 AND image != ?2 AND EXISTS"
        " (SELECT 1 FROM names WHERE names.image = image_blobs.image AND names.digest = ?3"
        "  UNION SELECT 1 FROM images WHERE id = image_blobs.image AND target_digest = ?3)",
        (record.manifest.digest, record.id, record.target.digest),
    )
    return [Digest(row[0]) for row in found]


def give_up(
    db: sqlite3.Connection, record: ImageRecord, claimed: Claimed, without: Mapping[Digest, Digest]
) -> list[str]:
    """Leave an image what it is made of and what its names lead to; return the digests of the rest.

    ``without`` are images that have gone, with their manifests: their platforms are no longer claimed.
    """
    if claimed.trees is None:
        return []
    record = _moved(db, record, claimed.trees)
    kept: set[str] = _own(record)
    for tree in claimed.trees:
        here = [member for member in tree.members if not _is_gone(member, without)]
        kept |= {tree.target.digest, *index.claims(db, replace(tree, members=tuple(here)))}
    blobs = db.execute("SELECT digest FROM image_blobs WHERE image = ?", (record.id,))
    left = [row[0] for row in blobs if row[0] not in kept]
    db.executemany("DELETE FROM image_blobs WHERE image = ? AND digest = ?", [(record.id, digest) for digest in left])
    return left


def _is_gone(member: Member, without: Mapping[Digest, Digest]) -> bool:
    if member.attested:
        return member.attested in without.values()
    references = member.references or ()
    return bool(references) and without.get(references[0].digest) == member.descriptor.digest


def _moved(db: sqlite3.Connection, record: ImageRecord, trees: tuple[Tree, ...]) -> ImageRecord:
    """Have an image refer to what its names lead to, if what it came by last is no longer among that."""
    if any(tree.target.digest == record.target.digest for tree in trees):
        return record
    for tree in trees:
        for member in tree.members:
            references = member.references or ()
            if member.available and references and references[0].digest == record.id:
                blobs = zip(references[1:], record.layers, strict=True)
                layers = tuple(Layer(descriptor, layer.diff_id) for descriptor, layer in blobs)
                sizes = {each.digest: each.size for each in member.blobs}
                moved = replace(
                    record,
                    target=tree.target,
                    manifest=member.descriptor,
                    layers=layers,
                    content_bytes=sum(sizes.values()),
                )
                image_store.upsert_image(db, moved, ())
                return moved
    return record


def _own(record: ImageRecord) -> set[str]:
    return {record.id, record.manifest.digest, *(layer.descriptor.digest for layer in record.layers)}
