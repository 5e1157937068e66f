"""Queries on images and their names, and which image a user means. Each runs inside a transaction of ``Store``."""

import re
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from imaged.content import store as rows
from imaged.images.model import ImageRecord
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference, parse_reference
from sampan.resource.image import Layer

_ID: Final = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")


def find(db: sqlite3.Connection, text: str) -> tuple[ImageRecord, Reference | None]:
    """Return an image, and the name that it was found by, None if that was an ID.

    Raises:
        NotFoundError: in Docker's words.
        InvalidArgumentError: neither an ID nor a name.
    """
    match = _ID.fullmatch(text)
    whole = match is not None and len(match[1]) == 64
    if not whole:
        try:
            reference = parse_reference(text).with_default_tag()
        except InvalidArgumentError:
            if match is None:
                raise
        else:
            image = find_name(db, reference)
            if image is not None:
                if reference.digest is not None:
                    reference = replace(reference, tag=None)
                return existing(db, image), reference
    image = find_prefix(db, match[1]) if match else None
    if image is None:
        shown = f"sha256:{match[1]}" if whole and match else parse_reference(text).with_default_tag().familiar
        raise NotFoundError(f"No such image: {shown}")
    return existing(db, image), None


def existing(db: sqlite3.Connection, image: Digest) -> ImageRecord:
    """Return an image that a name refers to."""
    record = get_image(db, image)
    assert record is not None  # names refer to images
    return record


# Of one image: every list has them all. What one archive may give is a part of them.
MAX_NAMES: Final = 10_000


def upsert_image(db: sqlite3.Connection, record: ImageRecord, blobs: Iterable[Digest]) -> None:
    """Record an image, or that it came again by another manifest; its tag time and names stay.

    Raises:
        NotFoundError: one of ``blobs`` is not here.
    """
    target, manifest = record.target, record.manifest
    db.execute(
        "INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT (id) DO UPDATE SET"
        " target_type = excluded.target_type, target_digest = excluded.target_digest,"
        " target_size = excluded.target_size, manifest_type = excluded.manifest_type,"
        " manifest_digest = excluded.manifest_digest, manifest_size = excluded.manifest_size,"
        " content_bytes = excluded.content_bytes",
        (record.id, *_columns(target), *_columns(manifest), record.content_bytes),
    )
    db.execute("DELETE FROM image_layers WHERE image = ?", (record.id,))
    db.executemany(
        "INSERT INTO image_layers VALUES (?, ?, ?, ?, ?, ?)",
        [
            (record.id, position, *_columns(layer.descriptor), layer.diff_id)
            for position, layer in enumerate(record.layers)
        ],
    )
    for digest in blobs:
        try:
            db.execute("INSERT OR IGNORE INTO image_blobs VALUES (?, ?)", (record.id, digest))
        except sqlite3.IntegrityError:
            raise NotFoundError(f"content {digest}: not found") from None


def _columns(descriptor: Descriptor) -> tuple[str, str, int]:
    return descriptor.media_type, descriptor.digest, descriptor.size


def get_image(db: sqlite3.Connection, image: Digest) -> ImageRecord | None:
    """Return one image."""
    records = _images(db, "WHERE id = ?", (image,))
    return records[0] if records else None


def list_images(db: sqlite3.Connection) -> list[ImageRecord]:
    """Return all images."""
    return _images(db, "", ())


def _images(db: sqlite3.Connection, where: str, parameters: tuple[str, ...]) -> list[ImageRecord]:
    images = db.execute(f"SELECT * FROM images {where}", parameters).fetchall()  # noqa: S608
    narrowed = "WHERE image = ?" if parameters else ""
    layers: dict[str, list[Layer]] = {}
    for row in db.execute(f"SELECT * FROM image_layers {narrowed} ORDER BY image, position", parameters):  # noqa: S608
        descriptor = Descriptor(row["media_type"], Digest(row["digest"]), row["size_bytes"])
        layers.setdefault(row["image"], []).append(Layer(descriptor, Digest(row["diff_id"])))
    names: dict[str, list[Reference]] = {}
    for row in db.execute(f"SELECT image, reference FROM names {narrowed} ORDER BY reference", parameters):  # noqa: S608
        names.setdefault(row["image"], []).append(parse_reference(row["reference"]))
    deferred = rows.deferred(db)
    parents = dict(db.execute(f"SELECT image, parent FROM image_parents {narrowed}", parameters).fetchall())  # noqa: S608
    return [
        ImageRecord(
            id=Digest(row["id"]),
            target=Descriptor(row["target_type"], Digest(row["target_digest"]), row["target_size"]),
            manifest=Descriptor(row["manifest_type"], Digest(row["manifest_digest"]), row["manifest_size"]),
            layers=tuple(layers.get(row["id"], ())),
            content_bytes=row["content_bytes"],
            tagged_ns=row["tagged_ns"],
            names=tuple(names.get(row["id"], ())),
            parent=Digest(parents[row["id"]]) if row["id"] in parents else None,
            deferred=tuple(
                layer.diff_id for layer in layers.get(row["id"], ()) if deferred and layer.descriptor.digest in deferred
            ),
        )
        for row in images
    ]


def set_parent(db: sqlite3.Connection, image: Digest, parent: Digest) -> None:
    """Note what an image was committed from."""
    db.execute("INSERT OR REPLACE INTO image_parents VALUES (?, ?)", (image, parent))


def children(db: sqlite3.Connection, image: Digest) -> list[Digest]:
    """Return the images that were committed from one."""
    found = db.execute("SELECT image FROM image_parents WHERE parent = ? ORDER BY image", (image,))
    return [Digest(row[0]) for row in found]


def claimed(db: sqlite3.Connection, image: Digest) -> list[Digest]:
    """Return the blobs that an image keeps: its own, and what its index has of other platforms."""
    return [Digest(row[0]) for row in db.execute("SELECT digest FROM image_blobs WHERE image = ?", (image,))]


def claimants(db: sqlite3.Connection, blob: str) -> list[ImageRecord]:
    """Return the images that keep a blob."""
    found = db.execute("SELECT image FROM image_blobs WHERE digest = ? ORDER BY image", (blob,)).fetchall()
    return [existing(db, Digest(row[0])) for row in found]


def layers_of(db: sqlite3.Connection, diff_ids: Iterable[Digest]) -> dict[Digest, Layer]:
    """Return those of the layers that an image has, in the form that they are here."""
    found = {}
    for diff_id in diff_ids:
        row = db.execute(
            "SELECT media_type, digest, size_bytes FROM image_layers WHERE diff_id = ?"
            " AND digest NOT IN (SELECT digest FROM deferred_blobs) ORDER BY size_bytes LIMIT 1",
            (diff_id,),
        ).fetchone()
        if row is not None:
            found[diff_id] = Layer(Descriptor(row["media_type"], Digest(row["digest"]), row["size_bytes"]), diff_id)
    return found


def find_name(db: sqlite3.Connection, reference: Reference) -> Digest | None:
    """Return the image that a name points to; a digest outweighs a tag."""
    if reference.digest is not None:
        reference = Reference(reference.registry, reference.repository, digest=reference.digest)
    row = db.execute("SELECT image FROM names WHERE reference = ?", (str(reference),)).fetchone()
    return None if row is None else Digest(row[0])


def target_of(db: sqlite3.Connection, reference: Reference) -> Digest:
    """Return the manifest or index that a name points to; there is such a name."""
    row = db.execute("SELECT digest FROM names WHERE reference = ?", (str(reference),)).fetchone()
    return Digest(row[0])


def find_prefix(db: sqlite3.Connection, prefix: str) -> Digest | None:
    """Return the only image whose ID's hex digits begin so, or else those of its manifest or index, or a former one.

    Clients of BuildKit say what they built by the digest of its manifest, and expect that it is found by that.
    """
    bounds = {"low": f"sha256:{prefix}", "high": f"sha256:{prefix}g"}  # "g" follows every hex digit
    rows = db.execute("SELECT id FROM images WHERE id >= :low AND id < :high LIMIT 2", bounds).fetchall()
    if not rows:
        rows = db.execute(
            "SELECT id FROM images WHERE target_digest >= :low AND target_digest < :high"
            " OR manifest_digest >= :low AND manifest_digest < :high"
            " UNION SELECT image FROM former_manifests WHERE digest >= :low AND digest < :high LIMIT 2",
            bounds,
        ).fetchall()
    return Digest(rows[0][0]) if len(rows) == 1 else None


def set_name(db: sqlite3.Connection, reference: Reference, target: Digest, image: Digest, now_ns: int) -> str | None:
    """Point a name at an image; return the digest it pointed to before.

    Raises:
        InvalidArgumentError: the image has ``MAX_NAMES`` names already.
    """
    others = "SELECT count(*) FROM names WHERE image = ? AND reference != ?"
    (names,) = db.execute(others, (image, str(reference))).fetchone()
    if names >= MAX_NAMES:
        raise InvalidArgumentError(f"image {image.short} has {names} names, which is the most")
    before = db.execute("SELECT digest FROM names WHERE reference = ?", (str(reference),)).fetchone()
    canonical = int(reference.digest is not None)
    db.execute(
        "INSERT OR REPLACE INTO names VALUES (?, ?, ?, ?, ?, ?)",
        (str(reference), reference.name, target, canonical, image, now_ns),
    )
    if not canonical:
        db.execute("UPDATE images SET tagged_ns = ? WHERE id = ?", (now_ns, image))
    return None if before is None else str(before[0])


def names_beside(db: sqlite3.Connection, name: Reference) -> tuple[Reference, ...]:
    """Return the names, this one among them, of the same image by the same manifest or index."""
    same = "SELECT reference FROM names WHERE (image, digest) = (SELECT image, digest FROM names WHERE reference = ?)"
    return tuple(parse_reference(row["reference"]) for row in db.execute(same, (str(name),)))


def move_names(db: sqlite3.Connection, image: Digest, before: Digest, after: Digest) -> None:
    """Have those names of an image's that point to one manifest point to another; those by digest stay.

    The image is found by the digest of the first one as well.
    """
    db.execute("INSERT OR REPLACE INTO former_manifests VALUES (?, ?)", (before, image))
    db.execute("UPDATE names SET digest = ? WHERE image = ? AND digest = ? AND NOT canonical", (after, image, before))


def leave_targets(db: sqlite3.Connection, image: Digest, target: Digest, wanted: Iterable[Digest]) -> list[str]:
    """Give up what an image had of other targets, if none of its names points to one; return those blobs' digests."""
    others = db.execute("SELECT 1 FROM names WHERE image = ? AND digest != ? LIMIT 1", (image, target)).fetchone()
    if others is not None:
        return []
    kept = set(wanted)
    blobs = db.execute("SELECT digest FROM image_blobs WHERE image = ?", (image,))
    left = [row[0] for row in blobs if row[0] not in kept]
    db.executemany("DELETE FROM image_blobs WHERE image = ? AND digest = ?", [(image, digest) for digest in left])
    return left


def delete_names(db: sqlite3.Connection, references: Iterable[Reference]) -> None:
    """Take names away."""
    db.executemany("DELETE FROM names WHERE reference = ?", [(str(reference),) for reference in references])


def delete_image(db: sqlite3.Connection, image: Digest) -> list[str]:
    """Forget an image, its names and its claim to blobs; return the blobs' digests."""
    digests = [row[0] for row in db.execute("SELECT digest FROM image_blobs WHERE image = ?", (image,))]
    db.execute("DELETE FROM images WHERE id = ?", (image,))
    return digests
