"""Queries of ``check``: what is said to be on disk, who stands on it, and which rows refer to nothing."""

import sqlite3
from dataclasses import dataclass

from sampan.oci.chain import chain_ids
from sampan.oci.digest import Digest
from sampan.resource.snapshot import Kind
from snapshotter.model import Layer, Snapshot
from snapshotter.snapshots import store as rows

_ABOVE = """
WITH RECURSIVE above (id) AS (
    SELECT id FROM snapshots WHERE diff_id = ?1 OR key = ?1
    UNION
    SELECT s.id FROM above JOIN snapshots s ON s.parent = above.id
)
SELECT key FROM above JOIN snapshots USING (id) WHERE kind != 'committed' ORDER BY key
"""


@dataclass(frozen=True, slots=True)
class Rows:
    """What is said to be on disk."""

    layers: tuple[Layer, ...]
    snapshots: tuple[Snapshot, ...]
    lost_layers: tuple[str, ...]  # diff IDs that snapshots show, and no row has
    lost_parents: tuple[str, ...]  # keys of snapshots whose parent's row is gone
    stray_labels: tuple[int, ...]  # rows of snapshots that labels are of, and that are gone
    misnamed: tuple[str, ...]  # stacked ones whose name is not what their layers come to


def look(db: sqlite3.Connection) -> Rows:
    """Return everything, as one transaction left it."""
    snapshots = tuple(rows.everything(db))
    lost_layers = db.execute(
        "SELECT DISTINCT diff_id FROM snapshots WHERE diff_id IS NOT NULL"
        " AND diff_id NOT IN (SELECT diff_id FROM layers) ORDER BY 1"
    )
    lost_parents = db.execute(
        "SELECT key FROM snapshots WHERE parent IS NOT NULL AND parent NOT IN (SELECT id FROM snapshots) ORDER BY 1"
    ).fetchall()
    stray_labels = db.execute("SELECT DISTINCT snapshot FROM labels WHERE snapshot NOT IN (SELECT id FROM snapshots)")
    broken = {row[0] for row in lost_parents}
    return Rows(
        tuple(rows.layers(db)),
        snapshots,
        tuple(row[0] for row in lost_layers),
        tuple(row[0] for row in lost_parents),
        tuple(row[0] for row in stray_labels),
        tuple(one.key for one in snapshots if one.key not in broken and not _is_named_rightly(one)),
    )


def _is_named_rightly(snapshot: Snapshot) -> bool:
    if snapshot.diff_id is None:
        return True
    if snapshot.parent is None:
        return snapshot.key == snapshot.diff_id
    below = Digest(snapshot.parent)
    return snapshot.key == chain_ids([below, snapshot.diff_id])[-1]


def users(db: sqlite3.Connection, layer_or_key: str) -> tuple[str, ...]:
    """Return the keys of active snapshots and views that stand on a layer, or a snapshot."""
    return tuple(row[0] for row in db.execute(_ABOVE, (layer_or_key,)))


def mark_damaged(db: sqlite3.Connection, layer: Layer, problem: str) -> bool:
    """Note that a layer is damaged; return False if it is not what it was any more."""
    found = db.execute(
        "UPDATE layers SET damaged = ? WHERE diff_id = ? AND dir_id = ?", (problem, layer.diff_id, layer.dir_id)
    )
    return found.rowcount > 0


def drop_labels(db: sqlite3.Connection, snapshot: int) -> None:
    """Remove labels of a snapshot that is not there."""
    db.execute(
        "DELETE FROM labels WHERE snapshot = ?1 AND NOT EXISTS (SELECT 1 FROM snapshots WHERE id = ?1)", (snapshot,)
    )


def drop_chain(db: sqlite3.Connection, key: str) -> bool:
    """Remove a stacked snapshot that nothing stands on; return False if something does."""
    snapshot = rows.find(db, key)
    if snapshot is None:
        return True
    if snapshot.kind is not Kind.COMMITTED or rows.has_children(db, key):
        return False
    db.execute("DELETE FROM snapshots WHERE key = ?", (key,))
    return True
