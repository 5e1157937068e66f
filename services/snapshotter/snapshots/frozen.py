"""Queries on snapshots that have become layers, and what each became; see ``Differ.freeze``."""

import sqlite3
from dataclasses import dataclass
from typing import Final

from sampan.oci.digest import Digest
from snapshotter.model import Layer
from snapshotter.snapshots import store as rows

# From Freeze to Stack, and as long a lost answer can be asked for again.
HOLD_NS: Final = 3600 * 10**9


@dataclass(frozen=True, slots=True)
class Frozen:
    """What a snapshot has become."""

    key: str
    diff_id: Digest | None = None  # None: nothing differed
    digest: Digest | None = None  # of the blob
    blob_bytes: int = 0


def find(db: sqlite3.Connection, key: str) -> tuple[Frozen, Layer | None] | None:
    """Return what ``key`` has become, and the layer if it is stored; None if no such snapshot was frozen."""
    row = db.execute("SELECT * FROM frozen WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    if not row["diff_id"]:
        return Frozen(key), None
    frozen = Frozen(key, Digest(row["diff_id"]), Digest(row["digest"]), row["blob_bytes"])
    return frozen, rows.layer(db, Digest(row["diff_id"]))


def drop(db: sqlite3.Connection, key: str, now_ns: int) -> None:
    """Record that nothing differed: there is only a snapshot less. Raises NotFoundError, ConflictError."""
    rows.delete(db, key)
    _note(db, Frozen(key), now_ns)


def adopt(
    db: sqlite3.Connection, frozen: Frozen, layer: Layer, stored: int | None, now_ns: int
) -> tuple[Layer | None, Layer]:
    """Record that a snapshot's directory is a layer from now on, and that somebody will stack it.

    ``stored`` is the directory of a layer of that diff ID that is good as it is: then that stays. Returns a layer that
    was there before and is not good, whose directory has to be discarded, and the one that there is now.

    Raises:
        NotFoundError, ConflictError: as ``store.delete``.
    """
    rows.delete(db, frozen.key)
    until_ns = now_ns + HOLD_NS
    before = rows.layer(db, layer.diff_id)
    replaced = None
    if before is not None and before.dir_id == stored:
        layer = rows.hold(db, layer.diff_id, until_ns) or layer
    else:
        replaced = rows.put_layer(db, layer, now_ns, 1, until_ns)
    db.execute("UPDATE layers SET frozen = 1 WHERE diff_id = ?", (layer.diff_id,))
    _note(db, frozen, now_ns)
    return replaced, layer


def applied(db: sqlite3.Connection, frozen: Frozen, now_ns: int) -> None:
    """Record the same of a snapshot whose layer was unpacked, and is held by that. Raises as ``adopt``."""
    rows.delete(db, frozen.key)
    db.execute("UPDATE layers SET frozen = 1 WHERE diff_id = ?", (frozen.diff_id,))
    _note(db, frozen, now_ns)


def _note(db: sqlite3.Connection, frozen: Frozen, now_ns: int) -> None:
    db.execute("DELETE FROM frozen WHERE frozen_at_ns <= ?", (now_ns - HOLD_NS,))
    db.execute(
        "INSERT OR REPLACE INTO frozen VALUES (?, ?, ?, ?, ?)",
        (frozen.key, frozen.diff_id or "", frozen.digest or "", frozen.blob_bytes, now_ns),
    )
