"""Queries on what repositories hold. Each runs inside a transaction of ``Store``."""

import json
import sqlite3
from collections.abc import Iterable

from registryd.repositories.model import Manifest, Page, Referrer, Unkept
from registryd.repositories.refusal import Code, RefusedError
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest


def blob_size(db: sqlite3.Connection, repository: str, digest: Digest) -> int | None:
    """Return the size of a blob of the repository."""
    row = db.execute(
        "SELECT size_bytes FROM blobs WHERE repository = ? AND digest = ?", (repository, digest)
    ).fetchone()
    return None if row is None else int(row[0])


def is_held(db: sqlite3.Connection, digest: Digest) -> bool:
    """Say whether any repository has this blob."""
    return db.execute("SELECT 1 FROM blobs WHERE digest = ? LIMIT 1", (digest,)).fetchone() is not None


def put_blob(
    db: sqlite3.Connection, repository: str, digest: Digest, size: int, root: str, keep_until_ns: int
) -> list[Unkept]:
    """Record a blob that ``root`` keeps; return the label that kept it before."""
    before = _roots(db, "blobs", repository, digest)
    db.execute(
        "INSERT INTO blobs VALUES (?, ?, ?, ?, ?) ON CONFLICT (repository, digest) DO UPDATE SET"
        " size_bytes = excluded.size_bytes, root = excluded.root,"
        " keep_until_ns = max(keep_until_ns, excluded.keep_until_ns)",
        (repository, digest, size, root, keep_until_ns),
    )
    return before


def keep_blob(db: sqlite3.Connection, repository: str, digest: Digest, until_ns: int) -> None:
    """Let a blob stay without a manifest until then at least."""
    db.execute(
        "UPDATE blobs SET keep_until_ns = ? WHERE repository = ? AND digest = ? AND keep_until_ns < ?",
        (until_ns, repository, digest, until_ns),
    )


def delete_blob(db: sqlite3.Connection, repository: str, digest: Digest) -> list[Unkept]:
    """Forget a blob; return its label, or nothing if it was not there.

    Raises:
        sqlite3.IntegrityError: a manifest refers to it.
    """
    unkept = _roots(db, "blobs", repository, digest)
    db.execute("DELETE FROM blobs WHERE repository = ? AND digest = ?", (repository, digest))
    return unkept


def delete_unused_blobs(db: sqlite3.Connection, now_ns: int) -> list[Unkept]:
    """Forget blobs whose time without a manifest is up; return their labels."""
    rows = db.execute(
        "DELETE FROM blobs WHERE keep_until_ns <= ? AND NOT EXISTS (SELECT 1 FROM manifest_blobs WHERE"
        " manifest_blobs.repository = blobs.repository AND manifest_blobs.digest = blobs.digest)"
        " RETURNING digest, root",
        (now_ns,),
    )
    return [Unkept(Digest(digest), root) for digest, root in rows.fetchall()]


def find_manifest(db: sqlite3.Connection, repository: str, target: Digest | str) -> Descriptor | None:
    """Return the manifest of a digest or a tag."""
    if isinstance(target, Digest):
        where, value = "digest = ?", str(target)
    else:
        where = "digest = (SELECT digest FROM tags WHERE tags.repository = manifests.repository AND tag = ?)"
        value = target
    row = db.execute(
        f"SELECT media_type, digest, size_bytes FROM manifests WHERE repository = ? AND {where}",  # noqa: S608
        (repository, value),
    ).fetchone()
    return None if row is None else Descriptor(row[0], Digest(row[1]), row[2])


def put_manifest(
    db: sqlite3.Connection, repository: str, manifest: Manifest, root: str, tag: str | None
) -> list[Unkept]:
    """Record a manifest that ``root`` keeps, and its tag; return the label that kept it before.

    Raises:
        RefusedError: it refers to what is not in the repository, or has another size there.
    """
    own = manifest.descriptor
    before = _roots(db, "manifests", repository, own.digest)
    db.execute(
        "INSERT INTO manifests VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (repository, digest) DO UPDATE SET"
        " media_type = excluded.media_type, root = excluded.root",
        (repository, own.digest, own.media_type, own.size, root, manifest.subject, manifest.artifact_type,
         json.dumps(manifest.annotations)),
    )  # fmt: skip
    for table, source, descriptors in (
        ("manifest_blobs", "blobs", manifest.blobs),
        ("manifest_children", "manifests", manifest.children),
    ):
        for descriptor in descriptors:
            row = db.execute(
                f"SELECT size_bytes FROM {source} WHERE repository = ? AND digest = ?",  # noqa: S608
                (repository, descriptor.digest),
            ).fetchone()
            _check(descriptor, None if row is None else row[0], repository)
            db.execute(
                f"INSERT OR IGNORE INTO {table} VALUES (?, ?, ?)",  # noqa: S608
                (repository, own.digest, descriptor.digest),
            )
    if tag is not None:
        db.execute("INSERT OR REPLACE INTO tags VALUES (?, ?, ?)", (repository, tag, own.digest))
    return before


def _check(descriptor: Descriptor, size: int | None, repository: str) -> None:
    if size is None:
        raise RefusedError(
            Code.MANIFEST_BLOB_UNKNOWN,
            f"the manifest refers to {descriptor.digest}, which is not in repository {repository}: push it first",
        )
    if size != descriptor.size:
        raise RefusedError(
            Code.MANIFEST_INVALID,
            f"manifest invalid: it says that {descriptor.digest} has {descriptor.size} bytes, it has {size}",
        )


def delete_manifest(db: sqlite3.Connection, repository: str, digest: Digest, keep_until_ns: int) -> list[Unkept]:
    """Forget a manifest and its tags; return its label, or nothing if it was not there.

    Its blobs stay until ``keep_until_ns``, for a push that has seen them.

    Raises:
        sqlite3.IntegrityError: an index lists it.
    """
    unkept = _roots(db, "manifests", repository, digest)
    db.execute(
        "UPDATE blobs SET keep_until_ns = max(keep_until_ns, ?) WHERE repository = ? AND digest IN"
        " (SELECT digest FROM manifest_blobs WHERE repository = ? AND manifest = ?)",
        (keep_until_ns, repository, repository, digest),
    )
    db.execute("DELETE FROM manifests WHERE repository = ? AND digest = ?", (repository, digest))
    return unkept


def delete_tag(db: sqlite3.Connection, repository: str, tag: str) -> bool:
    """Take a tag away; return whether it was there."""
    return db.execute("DELETE FROM tags WHERE repository = ? AND tag = ?", (repository, tag)).rowcount > 0


def has_repository(db: sqlite3.Connection, repository: str) -> bool:
    """Say whether the repository holds a manifest."""
    found = db.execute("SELECT 1 FROM manifests WHERE repository = ? LIMIT 1", (repository,)).fetchone()
    return found is not None


def list_tags(db: sqlite3.Connection, repository: str) -> set[str]:
    """Return a repository's tags."""
    return {tag for (tag,) in db.execute("SELECT tag FROM tags WHERE repository = ?", (repository,))}


def list_repositories(db: sqlite3.Connection) -> set[str]:
    """Return the repositories that hold a manifest."""
    return {name for (name,) in db.execute("SELECT DISTINCT repository FROM manifests")}


def list_referrers(db: sqlite3.Connection, repository: str, subject: Digest, artifact_type: str) -> list[Referrer]:
    """Return the manifests that are about ``subject``, ordered by digest; of one type, if that is not empty."""
    rows = db.execute(
        "SELECT media_type, digest, size_bytes, artifact_type, annotations FROM manifests"
        " WHERE repository = ? AND subject = ? AND (? = '' OR artifact_type = ?) ORDER BY digest",
        (repository, subject, artifact_type, artifact_type),
    )
    return [
        Referrer(Descriptor(media_type, Digest(digest), size), kind, json.loads(annotations))
        for media_type, digest, size, kind, annotations in rows
    ]


def list_roots(db: sqlite3.Connection) -> set[str]:
    """Return every label that a row owns."""
    return {root for (root,) in db.execute("SELECT root FROM blobs UNION ALL SELECT root FROM manifests")}


def count(db: sqlite3.Connection) -> dict[str, int]:
    """Return how many rows of each kind there are."""
    tables = ("blobs", "manifests", "tags")
    return {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}  # noqa: S608


def page(items: Iterable[str], last: str, most: int | None) -> Page:
    """Return, in order, at most ``most`` of those that come after ``last``."""
    after = sorted(item for item in items if item > last)
    return Page(tuple(after[:most]), more=most is not None and most > 0 and len(after) > most)


def _roots(db: sqlite3.Connection, table: str, repository: str, digest: Digest) -> list[Unkept]:
    rows = db.execute(f"SELECT root FROM {table} WHERE repository = ? AND digest = ?", (repository, digest))  # noqa: S608
    return [Unkept(digest, root) for (root,) in rows]
