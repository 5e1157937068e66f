"""Queries on blobs and leases. Each runs inside a transaction of ``Store``."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from sampan.oci.digest import Digest
from sampan.resource.content import Blob

# containerd's way to say "keep this although nothing refers to it". One that several may need to say at once ends in a
# dot and whatever tells them apart, and stays theirs to take back.
GC_ROOT_LABEL: Final = "containerd.io/gc.root"

# ``registryd.repositories.roots``: its labels' values are its repositories.
REGISTRY_LABEL: Final = f"{GC_ROOT_LABEL}.registry-"

# Set by a check on content that is not what its digest says; gone with the file that is put in its place.
DAMAGED_LABEL: Final = "sampan.damaged"

_HERE: Final = "digest NOT IN (SELECT digest FROM deferred_blobs)"

_UNUSED: Final = """
    held_until_ns <= :now
    AND NOT EXISTS (SELECT 1 FROM image_blobs WHERE image_blobs.digest = blobs.digest)
    AND NOT EXISTS (SELECT 1 FROM lease_blobs WHERE lease_blobs.digest = blobs.digest)
    AND NOT EXISTS (
        SELECT 1 FROM blob_labels WHERE blob_labels.digest = blobs.digest AND (key = :root OR key GLOB :root || '.*')
    )
"""


def is_root(label: str) -> bool:
    """Say whether content with this label is kept although nothing refers to it."""
    return label == GC_ROOT_LABEL or label.startswith(f"{GC_ROOT_LABEL}.")


def insert_blob(db: sqlite3.Connection, blob: Blob, held_until_ns: int) -> None:
    """Record a blob whose file is in place; an older record of the same content stays."""
    db.execute(
        "INSERT INTO blobs VALUES (?, ?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE"
        " SET size_bytes = excluded.size_bytes, held_until_ns = max(held_until_ns, excluded.held_until_ns)",
        (blob.digest, blob.size, blob.created_ns, blob.updated_ns, held_until_ns),
    )
    db.execute("DELETE FROM deferred_blobs WHERE digest = ?", (blob.digest,))
    if blob.labels:
        set_labels(db, blob.digest, blob.labels)


def defer(db: sqlite3.Connection, digest: Digest, size: int, now_ns: int) -> None:
    """Record a blob that is not made yet, unless it is here: an image can need it, and nobody can read it."""
    if db.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?, 0)", (digest, size, now_ns, now_ns)).rowcount:
        db.execute("INSERT INTO deferred_blobs VALUES (?)", (digest,))


def deferred(db: sqlite3.Connection) -> set[Digest]:
    """Return the blobs that are not made yet."""
    return {Digest(row[0]) for row in db.execute("SELECT digest FROM deferred_blobs")}


def end_hold(db: sqlite3.Connection, digest: Digest) -> None:
    """Keep a blob from now on only for what refers to it."""
    db.execute("UPDATE blobs SET held_until_ns = 0 WHERE digest = ?", (digest,))


def get_blob(db: sqlite3.Connection, digest: Digest) -> Blob | None:
    """Return one blob that is here."""
    row = db.execute(f"SELECT * FROM blobs WHERE digest = ? AND {_HERE}", (digest,)).fetchone()  # noqa: S608
    if row is None:
        return None
    labels = db.execute("SELECT key, value FROM blob_labels WHERE digest = ? ORDER BY key", (digest,))
    return _blob(row, dict(labels.fetchall()))


def list_blobs(db: sqlite3.Connection) -> list[Blob]:
    """Return all blobs that are here, ordered by digest."""
    labels: dict[str, dict[str, str]] = {}
    for digest, key, value in db.execute("SELECT digest, key, value FROM blob_labels ORDER BY digest, key"):
        labels.setdefault(digest, {})[key] = value
    rows = db.execute(f"SELECT * FROM blobs WHERE {_HERE} ORDER BY digest")  # noqa: S608
    return [_blob(row, labels.get(row["digest"], {})) for row in rows]


def _blob(row: sqlite3.Row, labels: Mapping[str, str]) -> Blob:
    return Blob(Digest(row["digest"]), row["size_bytes"], row["created_ns"], row["updated_ns"], labels)


def set_labels(db: sqlite3.Connection, digest: Digest, labels: Mapping[str, str]) -> None:
    """Set some labels; an empty value removes one."""
    for key, value in labels.items():
        if value:
            db.execute("INSERT OR REPLACE INTO blob_labels VALUES (?, ?, ?)", (digest, key, value))
        else:
            db.execute("DELETE FROM blob_labels WHERE digest = ? AND key = ?", (digest, key))


def replace_labels(db: sqlite3.Connection, digest: Digest, labels: Mapping[str, str]) -> None:
    """Make ``labels`` all that the blob has."""
    db.execute("DELETE FROM blob_labels WHERE digest = ?", (digest,))
    set_labels(db, digest, labels)


def lost(db: sqlite3.Connection) -> set[Digest]:
    """Return what images need and no row has: damage, which ``sampan system check`` repairs."""
    query = "SELECT DISTINCT digest FROM image_blobs WHERE digest NOT IN (SELECT digest FROM blobs)"
    return {Digest(row[0]) for row in db.execute(query)}


def is_known(db: sqlite3.Connection, digest: Digest) -> bool:
    """Say whether a row knows the blob, or an image needs it whose row for it is lost."""
    query = "SELECT 1 FROM blobs WHERE digest = ?1 UNION SELECT 1 FROM image_blobs WHERE digest = ?1"
    return db.execute(query, (digest,)).fetchone() is not None


def damaged(db: sqlite3.Connection) -> set[Digest]:
    """Return the blobs that a check found damaged."""
    found = db.execute("SELECT digest FROM blob_labels WHERE key = ?", (DAMAGED_LABEL,))
    return {Digest(row[0]) for row in found}


def touch_blob(db: sqlite3.Connection, digest: Digest, now_ns: int) -> None:
    """Record that the blob's labels changed."""
    db.execute("UPDATE blobs SET updated_ns = ? WHERE digest = ?", (now_ns, digest))


def delete_blob(db: sqlite3.Connection, digest: Digest) -> bool:
    """Forget a blob; return whether it was known. sqlite3.IntegrityError if an image needs it."""
    return db.execute("DELETE FROM blobs WHERE digest = ?", (digest,)).rowcount > 0


def delete_unused(db: sqlite3.Connection, candidates: Iterable[str], now_ns: int) -> dict[Digest, int]:
    """Forget those of ``candidates`` that no image, lease, hold or label keeps; return their sizes."""
    gone = {}
    for digest in candidates:
        parameters = {"digest": digest, "now": now_ns, "root": GC_ROOT_LABEL}
        query = f"DELETE FROM blobs WHERE digest = :digest AND {_UNUSED} RETURNING size_bytes"  # noqa: S608
        for (size,) in db.execute(query, parameters).fetchall():
            gone[Digest(digest)] = int(size)
    return gone


def unknown(db: sqlite3.Connection, names: Sequence[str]) -> list[str]:
    """Return those of ``names``, the hex digits of digests in their order, that are not as ``is_known`` says."""
    span = f"sha256:{names[0]}", f"sha256:{names[-1]}"
    query = (
        "SELECT digest FROM blobs WHERE digest BETWEEN ?1 AND ?2"
        " UNION SELECT digest FROM image_blobs WHERE digest BETWEEN ?1 AND ?2"
    )
    known = {row[0] for row in db.execute(query, span)}
    return [name for name in names if f"sha256:{name}" not in known]


def unused(db: sqlite3.Connection, now_ns: int, after: str, most: int) -> tuple[list[str], str | None]:
    """Look at ``most`` blobs in the order of their digests, from behind ``after`` on.

    Returns those that nothing keeps, and where to go on, None at the end.
    """
    end = db.execute("SELECT digest FROM blobs WHERE digest > ? ORDER BY digest LIMIT 1 OFFSET ?", (after, most - 1))
    last = end.fetchone()
    parameters = {"after": after, "last": last[0] if last else "~", "now": now_ns, "root": GC_ROOT_LABEL}
    query = f"SELECT digest FROM blobs WHERE digest > :after AND digest <= :last AND {_UNUSED}"  # noqa: S608
    return [row[0] for row in db.execute(query, parameters)], last[0] if last else None


def insert_lease(db: sqlite3.Connection, lease: str, source: str, expires_ns: int) -> None:
    """Begin a lease, not yet complete."""
    db.execute("INSERT INTO leases (id, expires_ns, complete, source) VALUES (?, ?, 0, ?)", (lease, expires_ns, source))


def complete_lease(db: sqlite3.Connection, lease: str, expires_ns: int) -> None:
    """Say that all of it is here; from now on it outlives the process until it expires."""
    db.execute("UPDATE leases SET complete = 1, expires_ns = ? WHERE id = ? AND owner = ''", (expires_ns, lease))


def bind_lease(db: sqlite3.Connection, lease: str, expires_ns: int) -> None:
    """Put off the expiry of a complete lease, if it is still there."""
    query = "UPDATE leases SET expires_ns = ? WHERE id = ? AND complete AND NOT abandoned AND owner = ''"
    db.execute(query, (expires_ns, lease))


def cap_leases(db: sqlite3.Connection, expires_ns: int) -> None:
    """Have complete leases expire by then: whoever they were bound to has to come back."""
    db.execute(
        "UPDATE leases SET expires_ns = min(expires_ns, ?) WHERE complete AND NOT abandoned AND owner = ''",
        (expires_ns,),
    )


def abandon_lease(db: sqlite3.Connection, lease: str, expires_ns: int) -> None:
    """Say that a fetch broke off: what it fetched is kept for the next one, until it expires."""
    query = "UPDATE leases SET complete = 1, abandoned = 1, expires_ns = ? WHERE id = ? AND owner = ''"
    db.execute(query, (expires_ns, lease))


def abandoned_leases(db: sqlite3.Connection, source: str | None = None) -> list[str]:
    """Return the leases of fetches that broke off, all of them or those from one source."""
    found = db.execute("SELECT id FROM leases WHERE abandoned AND (?1 IS NULL OR source = ?1)", (source,))
    return [row[0] for row in found]


def hold(db: sqlite3.Connection, lease: str, digests: Iterable[Digest]) -> dict[Digest, int]:
    """Put ``digests`` under the lease; return the size of each that is here."""
    sizes = {}
    for digest in digests:
        db.execute("INSERT OR IGNORE INTO lease_blobs VALUES (?, ?)", (lease, digest))
        query = f"SELECT size_bytes FROM blobs WHERE digest = ? AND {_HERE}"  # noqa: S608
        row = db.execute(query, (digest,)).fetchone()
        if row is not None:
            sizes[digest] = row[0]
    return sizes


def set_lease_layers(db: sqlite3.Connection, lease: str, diff_ids: Iterable[Digest]) -> None:
    """Note what a lease's content is about to be unpacked to, if it is still there."""
    if lease_source(db, lease) is None:
        return
    replace_lease_layers(db, lease, diff_ids)


def replace_lease_layers(db: sqlite3.Connection, lease: str, diff_ids: Iterable[Digest]) -> None:
    """Make these layers, base first, all that a lease keeps unpacked."""
    db.execute("DELETE FROM lease_layers WHERE lease = ?", (lease,))
    rows = [(lease, position, diff_id) for position, diff_id in enumerate(diff_ids)]
    db.executemany("INSERT INTO lease_layers VALUES (?, ?, ?)", rows)


def leased_layers(db: sqlite3.Connection, bases: Iterable[Digest] | None = None) -> dict[str, list[Digest]]:
    """Return the layers, base first, of each lease that has some; of ``bases``, those that stand on one of them.

    Fetches that broke off have none.
    """
    query = "SELECT lease, diff_id FROM lease_layers JOIN leases ON leases.id = lease WHERE NOT abandoned"
    order = " ORDER BY lease, position"
    layers: dict[str, list[Digest]] = {}
    if bases is None:
        for lease, diff_id in db.execute(query + order):
            layers.setdefault(lease, []).append(Digest(diff_id))
        return layers
    query += " AND lease IN (SELECT lease FROM lease_layers WHERE position = 0 AND diff_id = ?)"
    for base in set(bases):
        for lease, diff_id in db.execute(query + order, (base,)):
            layers.setdefault(lease, []).append(Digest(diff_id))
    return layers


def lease_source(db: sqlite3.Connection, lease: str) -> str | None:
    """Return what a lease's content was fetched from, or None if there is no such lease of an operation's."""
    row = db.execute("SELECT source FROM leases WHERE id = ? AND owner = ''", (lease,)).fetchone()
    return None if row is None else str(row[0])


def has_lease(db: sqlite3.Connection, lease: str) -> bool:
    """Say whether there is such a lease, of an operation or a lasting one."""
    return db.execute("SELECT 1 FROM leases WHERE id = ?", (lease,)).fetchone() is not None


def delete_leases(db: sqlite3.Connection, leases: Iterable[str], owner: str = "") -> list[str]:
    """End leases of ``owner``'s, or of operations; return the digests that they held."""
    digests: dict[str, None] = {}
    for lease in leases:
        query = "SELECT digest FROM lease_blobs JOIN leases ON leases.id = lease WHERE lease = ? AND owner = ?"
        digests |= {digest: None for (digest,) in db.execute(query, (lease, owner))}
        db.execute("DELETE FROM leases WHERE id = ? AND owner = ?", (lease, owner))
    return list(digests)


def lease_owner(db: sqlite3.Connection, lease: str) -> str:
    """Return whose a lease is; empty for an operation's, and for one that is not there."""
    row = db.execute("SELECT owner FROM leases WHERE id = ?", (lease,)).fetchone()
    return "" if row is None else str(row[0])


def expired_leases(db: sqlite3.Connection, now_ns: int) -> list[str]:
    """Return complete leases whose time is up."""
    return [
        row[0]
        for row in db.execute("SELECT id FROM leases WHERE complete AND owner = '' AND expires_ns <= ?", (now_ns,))
    ]


def abandon_killed(db: sqlite3.Connection, expires_ns: int) -> None:
    """Abandon the leases of fetches that did not survive the process."""
    db.execute(
        "UPDATE leases SET complete = 1, abandoned = 1, expires_ns = ? WHERE NOT complete AND source != ''",
        (expires_ns,),
    )


def stale_leases(db: sqlite3.Connection, now_ns: int) -> list[str]:
    """Return leases that a new process need not honour: expired, or never completed."""
    return [
        row[0]
        for row in db.execute("SELECT id FROM leases WHERE owner = '' AND (NOT complete OR expires_ns <= ?)", (now_ns,))
    ]


def next_expiry_ns(db: sqlite3.Connection) -> int | None:
    """Return when the next complete lease expires."""
    (expires_ns,) = db.execute("SELECT min(expires_ns) FROM leases WHERE complete AND owner = ''").fetchone()
    return expires_ns if expires_ns is None else int(expires_ns)
