"""Queries of ``check``: what is recorded, and who needs it. Each runs in a transaction of ``Store``."""

import json
import sqlite3
from collections.abc import Iterable

from registryd.repositories.model import Manifest, Row
from sampan.oci.digest import Digest


def everything(db: sqlite3.Connection) -> list[Row]:
    """Return what all repositories hold, in the order of repairs: a manifest needs its blobs' rows."""
    blobs = db.execute("SELECT repository, digest, size_bytes, root FROM blobs ORDER BY 1, 2")
    found = [Row("blobs", *row) for row in blobs]
    manifests = db.execute("SELECT repository, digest, size_bytes, root, media_type FROM manifests ORDER BY 1, 2")
    return found + [Row("manifests", *row) for row in manifests]


def find(db: sqlite3.Connection, subject: str) -> Row | None:
    """Return the row that a finding is about."""
    table, _, rest = subject.partition("/")
    repository, _, digest = rest.partition("@")
    columns = "repository, digest, size_bytes, root" + (", media_type" if table == "manifests" else "")
    if table not in ("blobs", "manifests"):
        return None
    row = db.execute(
        f"SELECT {columns} FROM {table} WHERE repository = ? AND digest = ?",  # noqa: S608
        (repository, digest),
    ).fetchone()
    return None if row is None else Row(table, *row)


def set_size(db: sqlite3.Connection, row: Row, size: int) -> None:
    """Record another size."""
    db.execute(
        f"UPDATE {row.table} SET size_bytes = ? WHERE repository = ? AND digest = ?",  # noqa: S608
        (size, row.repository, row.digest),
    )


def is_used(db: sqlite3.Connection, repository: str, digest: Digest) -> bool:
    """Say whether a manifest of the repository refers to a blob."""
    query = "SELECT 1 FROM manifest_blobs WHERE repository = ? AND digest = ? LIMIT 1"
    return db.execute(query, (repository, digest)).fetchone() is not None


def affected(db: sqlite3.Connection, repository: str, digest: Digest) -> list[str]:
    """Return the tags that lead to a manifest or a blob, as users write them."""
    query = """
        WITH RECURSIVE above (digest) AS (
            SELECT ?2
            UNION SELECT manifest FROM manifest_blobs WHERE repository = ?1 AND manifest_blobs.digest = ?2
            UNION SELECT manifest FROM manifest_children JOIN above USING (digest) WHERE repository = ?1
        )
        SELECT tag FROM tags JOIN above USING (digest) WHERE repository = ?1 ORDER BY tag
    """
    return [f"{repository}:{tag}" for (tag,) in db.execute(query, (repository, digest))]


def dangling_tags(db: sqlite3.Connection) -> list[tuple[str, str, Digest]]:
    """Return tags that lead to a manifest that is not recorded: repository, tag, digest."""
    found = db.execute(
        "SELECT repository, tag, digest FROM tags WHERE NOT EXISTS (SELECT 1 FROM manifests WHERE"
        " manifests.repository = tags.repository AND manifests.digest = tags.digest) ORDER BY 1, 2"
    )
    return [(repository, tag, Digest(digest)) for repository, tag, digest in found]


def missing(db: sqlite3.Connection, repository: str, table: str, digests: Iterable[Digest]) -> list[Digest]:
    """Return those of ``digests`` that a repository does not hold."""
    query = f"SELECT 1 FROM {table} WHERE repository = ? AND digest = ?"  # noqa: S608
    return [digest for digest in digests if db.execute(query, (repository, digest)).fetchone() is None]


def differs(db: sqlite3.Connection, repository: str, manifest: Manifest) -> str:
    """Say how what is recorded of a manifest differs from its document; empty if it does not."""
    own = manifest.descriptor.digest
    row = db.execute(
        "SELECT subject, artifact_type, annotations FROM manifests WHERE repository = ? AND digest = ?",
        (repository, own),
    ).fetchone()
    if row is None:
        return ""  # removed meanwhile
    for table, descriptors in (("manifest_blobs", manifest.blobs), ("manifest_children", manifest.children)):
        query = f"SELECT digest FROM {table} WHERE repository = ? AND manifest = ?"  # noqa: S608
        if {digest for (digest,) in db.execute(query, (repository, own))} != {each.digest for each in descriptors}:
            return "its rows name other content than it does"
    if (row[0], row[1]) != (manifest.subject, manifest.artifact_type) or json.loads(row[2]) != dict(
        manifest.annotations
    ):
        return "its row says something else of it than it does itself"
    return ""


def describe_again(db: sqlite3.Connection, repository: str, manifest: Manifest) -> None:
    """Record what a manifest says of itself; what it refers to is forgotten, and to be recorded right after."""
    own = manifest.descriptor.digest
    for table in ("manifest_blobs", "manifest_children"):
        db.execute(f"DELETE FROM {table} WHERE repository = ? AND manifest = ?", (repository, own))  # noqa: S608
    db.execute(
        "UPDATE manifests SET subject = ?, artifact_type = ?, annotations = ? WHERE repository = ? AND digest = ?",
        (manifest.subject, manifest.artifact_type, json.dumps(manifest.annotations), repository, own),
    )
