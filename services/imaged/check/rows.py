"""Queries of ``check``: who needs a blob, and which rows refer to nothing."""

import sqlite3
from dataclasses import dataclass
from typing import Final

from imaged.content import store as rows
from imaged.images import store
from imaged.images.model import ImageRecord
from sampan import check as kinds
from sampan.check import Finding
from sampan.oci.descriptor import OCI_CONFIG, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.reference import parse_reference


@dataclass(frozen=True, slots=True)
class Claims:
    """Who needs a blob, and where it may be had."""

    images: tuple[str, ...]  # names, or short IDs
    sources: tuple[str, ...]  # "<registry>/<repository>", those that it was pulled from first
    rooted: bool  # kept by a label
    repositories: tuple[str, ...] = ()  # of the private registry
    cached: bool = False  # a lasting lease holds it


def claims(db: sqlite3.Connection, digest: Digest) -> Claims:
    """Return who needs a blob, and where it may be had."""
    images = [row[0] for row in db.execute("SELECT image FROM image_blobs WHERE digest = ?", (digest,))]
    shown: list[str] = []
    sources: dict[str, None] = {}
    for image in images:
        names = db.execute(
            "SELECT reference, name, canonical FROM names WHERE image = ? ORDER BY canonical DESC, reference", (image,)
        ).fetchall()
        tags = [parse_reference(row["reference"]).familiar for row in names if not row["canonical"]]
        shown += tags or [Digest(image).short]
        sources |= {row["name"]: None for row in names}
    leased = db.execute(
        "SELECT source FROM leases JOIN lease_blobs ON lease = id WHERE digest = ? AND source != ''", (digest,)
    )
    sources |= {row[0]: None for row in leased}
    labels = db.execute("SELECT key, value FROM blob_labels WHERE digest = ?", (digest,)).fetchall()
    rooted = any(rows.is_root(key) for key, _ in labels)
    repositories = {value for key, value in labels if key.startswith(rows.REGISTRY_LABEL)}
    lasting = "SELECT 1 FROM leases JOIN lease_blobs ON lease = id WHERE digest = ? AND owner != '' LIMIT 1"
    cached = db.execute(lasting, (digest,)).fetchone() is not None
    return Claims(tuple(sorted(shown)), tuple(sources), rooted, tuple(sorted(repositories)), cached)


def images(db: sqlite3.Connection) -> list[ImageRecord]:
    """Return all images."""
    return store.list_images(db)


def shown(record: ImageRecord) -> list[str]:
    """Return what users call an image."""
    return [name.familiar for name in record.names if name.digest is None] or [record.id.short]


# Rows that refer to one that is not there, by table: what to say of one, and how to find it.
_BROKEN: Final = (
    ("names", "reference", "it names an image that is not recorded", "image NOT IN (SELECT id FROM images)"),
    ("image_layers", "image", "its layers are recorded, and it is not", "image NOT IN (SELECT id FROM images)"),
    ("image_blobs", "image", "its content is recorded, and it is not", "image NOT IN (SELECT id FROM images)"),
    ("image_parents", "image", "its parent is recorded, and it is not", "image NOT IN (SELECT id FROM images)"),
    ("lease_blobs", "lease", "its content is recorded, and it is not", "lease NOT IN (SELECT id FROM leases)"),
    ("lease_layers", "lease", "its layers are recorded, and it is not", "lease NOT IN (SELECT id FROM leases)"),
    ("blob_labels", "digest", "it has labels, and is not recorded",
     "digest NOT IN (SELECT digest FROM blobs) AND digest NOT IN (SELECT digest FROM image_blobs)"),
)  # fmt: skip

_LEASES: Final = """
    SELECT DISTINCT id FROM leases JOIN lease_blobs ON lease = id
    WHERE complete AND NOT abandoned AND digest NOT IN (SELECT digest FROM blobs)
"""


def broken(db: sqlite3.Connection) -> list[Finding]:
    """Return rows that refer to nothing, and leases that promise what is not here."""
    found = [
        Finding(kinds.ROW_BROKEN, f"{table}/{row[0]}", problem, "remove the row")
        for table, key, problem, condition in _BROKEN
        for row in db.execute(f"SELECT DISTINCT {key} FROM {table} WHERE {condition} ORDER BY 1")  # noqa: S608
    ]
    found += [
        Finding(kinds.LEASE_BROKEN, row[0], "it holds content that is not here", "end the lease")
        for row in db.execute(_LEASES)
    ]
    return found


def drop(db: sqlite3.Connection, finding: Finding) -> bool:
    """Remove what a finding of ``broken`` names, if it is still so; say whether it was."""
    if finding.kind == kinds.LEASE_BROKEN:
        if finding.subject not in {row[0] for row in db.execute(_LEASES)}:
            return False
        # A pass of garbage collection removes what only it held.
        rows.delete_leases(db, [finding.subject], rows.lease_owner(db, finding.subject))
        return True
    named, _, value = finding.subject.partition("/")
    for table, key, _, condition in _BROKEN:
        if table == named:
            found = db.execute(f"DELETE FROM {table} WHERE {key} = ? AND {condition}", (value,))  # noqa: S608
            return found.rowcount > 0
    return False


def describe(db: sqlite3.Connection, digest: Digest) -> Descriptor | None:
    """Return what a blob is, as far as rows say; without a media type if it is part of an index and nobody knows."""
    for kind in ("target", "manifest"):
        row = db.execute(
            f"SELECT {kind}_type, {kind}_size FROM images WHERE {kind}_digest = ? LIMIT 1",  # noqa: S608  # constant
            (digest,),
        ).fetchone()
        if row is not None:
            return Descriptor(row[0], digest, row[1])
    row = db.execute("SELECT media_type, size_bytes FROM image_layers WHERE digest = ? LIMIT 1", (digest,)).fetchone()
    if row is not None:
        return Descriptor(row[0], digest, row[1])
    row = db.execute("SELECT size_bytes FROM blobs WHERE digest = ?", (digest,)).fetchone()
    if row is None:
        return None
    is_config = db.execute("SELECT 1 FROM images WHERE id = ?", (digest,)).fetchone() is not None
    return Descriptor(OCI_CONFIG if is_config else "", digest, row[0])
