"""The snapshotter's queries: plain functions on a connection, for ``Store`` to run.

Each is one step of a transaction; rules that span rows are kept here, next to the rows.
"""

import sqlite3
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Final

from sampan.errors import AlreadyExistsError, ConflictError, InvalidArgumentError, NotFoundError
from sampan.oci.digest import Digest
from sampan.resource.snapshot import Kind
from sampan.sys.measuring import Usage
from snapshotter.gc.mark import Node
from snapshotter.layers.formats import LayerFormat
from snapshotter.model import Layer, Snapshot, SnapshotFormat

# As of content: "keep this although nothing refers to it".
GC_ROOT_LABEL: Final = "containerd.io/gc.root"

_SELECT = """
SELECT s.*, p.key AS parent_key FROM snapshots s LEFT JOIN snapshots p ON p.id = s.parent
"""

_CHAIN = """
WITH RECURSIVE chain (depth, id) AS (
    SELECT 0, id FROM snapshots WHERE key = ?
    UNION ALL
    SELECT chain.depth + 1, s.parent FROM chain JOIN snapshots s ON s.id = chain.id WHERE s.parent IS NOT NULL
)
SELECT s.kind, s.dir_id, s.format, l.dir_id AS layer_dir_id, l.format AS layer_format, l.complete
FROM chain JOIN snapshots s ON s.id = chain.id LEFT JOIN layers l ON l.diff_id = s.diff_id
ORDER BY chain.depth
"""


def find(db: sqlite3.Connection, key: str) -> Snapshot | None:
    """Return the snapshot ``key``, if there is one."""
    row = db.execute(_SELECT + "WHERE s.key = ?", (key,)).fetchone()
    return _snapshot(row, _labels(db, row["id"])) if row else None


def get(db: sqlite3.Connection, key: str) -> Snapshot:
    """Return the snapshot ``key``. Raises NotFoundError."""
    snapshot = find(db, key)
    if snapshot is None:
        raise NotFoundError(f"snapshot {key!r} does not exist")
    return snapshot


def everything(db: sqlite3.Connection) -> list[Snapshot]:
    """Return all snapshots, parents before children."""
    labels: dict[int, dict[str, str]] = {}
    for row in db.execute("SELECT * FROM labels"):
        labels.setdefault(row["snapshot"], {})[row["name"]] = row["value"]
    return [_snapshot(row, labels.get(row["id"], {})) for row in db.execute(_SELECT + "ORDER BY s.id")]


def chain(db: sqlite3.Connection, key: str) -> Sequence[sqlite3.Row]:
    """Return the snapshot ``key`` and its ancestors, nearest first, with where each is on disk."""
    return db.execute(_CHAIN, (key,)).fetchall()


def parent_id(db: sqlite3.Connection, parent: str | None) -> int | None:
    """Return the row of a snapshot that may be a parent.

    Raises:
        NotFoundError: there is none of this name.
        ConflictError: it is not committed.
    """
    if parent is None:
        return None
    row = db.execute("SELECT id, kind FROM snapshots WHERE key = ?", (parent,)).fetchone()
    if row is None:
        raise NotFoundError(f"parent snapshot {parent!r} does not exist")
    if row["kind"] != Kind.COMMITTED.value:
        raise ConflictError(f"snapshot {parent!r} is not committed, so it cannot be a parent: commit it first")
    found: int = row["id"]
    return found


def refuse_existing(db: sqlite3.Connection, key: str) -> None:
    """Raise AlreadyExistsError if ``key`` is taken, InvalidArgumentError if it is no name."""
    if not key or "\0" in key:
        raise InvalidArgumentError("a snapshot's key must not be empty or contain a NUL")
    if db.execute("SELECT 1 FROM snapshots WHERE key = ?", (key,)).fetchone():
        raise AlreadyExistsError(f"snapshot {key!r} exists already")


def insert(db: sqlite3.Connection, snapshot: Snapshot) -> None:
    """Add a snapshot. Raises as ``refuse_existing`` and ``parent_id`` do."""
    refuse_existing(db, snapshot.key)
    db.execute("DELETE FROM frozen WHERE key = ?", (snapshot.key,))
    cursor = db.execute(
        "INSERT INTO snapshots (key, kind, parent, diff_id, dir_id, format, created_at_ns, updated_at_ns)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            snapshot.key,
            snapshot.kind.value,
            parent_id(db, snapshot.parent),
            snapshot.diff_id,
            snapshot.dir_id,
            snapshot.format.value if snapshot.format else "",
            snapshot.created_at_ns,
            snapshot.updated_at_ns,
        ),
    )
    _set_labels(db, cursor.lastrowid, snapshot.labels)


def owns(db: sqlite3.Connection, dir_id: int) -> bool:
    """Say whether a snapshot has this directory."""
    return db.execute("SELECT 1 FROM snapshots WHERE dir_id = ?", (dir_id,)).fetchone() is not None


def commit(db: sqlite3.Connection, name: str, key: str, usage: Usage, labels: Mapping[str, str], now_ns: int) -> None:
    """Turn the active snapshot ``key`` into the committed one ``name``."""
    refuse_existing(db, name)
    row = db.execute("SELECT id FROM snapshots WHERE key = ? AND kind = 'active'", (key,)).fetchone()
    if row is None:
        raise NotFoundError(f"active snapshot {key!r} does not exist")
    db.execute(
        "UPDATE snapshots SET key = ?, kind = 'committed', made_from = ?, size_bytes = ?, inodes = ?,"
        " created_at_ns = ?, updated_at_ns = ? WHERE id = ?",
        (name, key, usage.size_bytes, usage.inodes, now_ns, now_ns, row["id"]),
    )
    _set_labels(db, row["id"], labels)


def made_from(db: sqlite3.Connection, name: str) -> str | None:
    """Return the key that ``name`` was committed from, if it was."""
    row = db.execute("SELECT made_from FROM snapshots WHERE key = ?", (name,)).fetchone()
    return row["made_from"] or None if row else None


def has_children(db: sqlite3.Connection, key: str) -> bool:
    """Say whether a snapshot is anybody's parent."""
    query = "SELECT 1 FROM snapshots c JOIN snapshots p ON p.id = c.parent WHERE p.key = ? LIMIT 1"
    return db.execute(query, (key,)).fetchone() is not None


def delete(db: sqlite3.Connection, key: str) -> Snapshot:
    """Remove a row and return it. Raises NotFoundError, or ConflictError while it has children."""
    snapshot = get(db, key)
    child = db.execute(
        "SELECT c.key FROM snapshots c JOIN snapshots p ON p.id = c.parent WHERE p.key = ? LIMIT 1", (key,)
    ).fetchone()
    if child:
        raise ConflictError(f"snapshot {key!r} is the parent of {child['key']!r}: remove that first")
    db.execute("DELETE FROM snapshots WHERE key = ?", (key,))
    return snapshot


def relabel(db: sqlite3.Connection, key: str, labels: Mapping[str, str], now_ns: int) -> Snapshot:
    """Replace a snapshot's labels and return it. Raises NotFoundError."""
    row = db.execute("SELECT id FROM snapshots WHERE key = ?", (key,)).fetchone()
    if row is None:
        raise NotFoundError(f"snapshot {key!r} does not exist")
    db.execute("UPDATE snapshots SET updated_at_ns = ? WHERE id = ?", (now_ns, row["id"]))
    _set_labels(db, row["id"], labels)
    return get(db, key)


def layer(db: sqlite3.Connection, diff_id: Digest) -> Layer | None:
    """Return a stored layer, if it is there."""
    row = db.execute("SELECT * FROM layers WHERE diff_id = ?", (diff_id,)).fetchone()
    return _layer(row) if row else None


def layers(db: sqlite3.Connection) -> list[Layer]:
    """Return all stored layers."""
    return [_layer(row) for row in db.execute("SELECT * FROM layers")]


def put_layer(db: sqlite3.Connection, new: Layer, now_ns: int, holds: int, until_ns: int) -> Layer | None:
    """Add a layer, with so many holds, or give one another directory; return what it was before."""
    before = layer(db, new.diff_id)
    db.execute(
        "INSERT INTO layers (diff_id, dir_id, format, size_bytes, inodes, complete, applied_at_ns, holds,"
        " held_until_ns, erofs_digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (diff_id) DO UPDATE SET"
        " dir_id = excluded.dir_id, format = excluded.format, size_bytes = excluded.size_bytes,"
        " inodes = excluded.inodes, complete = excluded.complete, applied_at_ns = excluded.applied_at_ns,"
        " holds = excluded.holds, held_until_ns = excluded.held_until_ns, erofs_digest = excluded.erofs_digest,"
        " damaged = ''",
        (
            new.diff_id,
            new.dir_id,
            new.format.value,
            new.usage.size_bytes,
            new.usage.inodes,
            int(new.complete),
            now_ns,
            holds,
            until_ns,
            new.erofs_digest,
        ),
    )
    return before


def owns_layer(db: sqlite3.Connection, dir_id: int) -> bool:
    """Say whether a layer has this directory."""
    return db.execute("SELECT 1 FROM layers WHERE dir_id = ?", (dir_id,)).fetchone() is not None


def hold(db: sqlite3.Connection, diff_id: Digest, until_ns: int) -> Layer | None:
    """Keep a layer for one caller who will stack it; return it, unless it is gone."""
    db.execute("UPDATE layers SET holds = holds + 1, held_until_ns = ? WHERE diff_id = ?", (until_ns, diff_id))
    return layer(db, diff_id)


def any_held(db: sqlite3.Connection, diff_ids: Iterable[Digest]) -> bool:
    """Say whether somebody holds one of the layers."""
    query = "SELECT 1 FROM layers WHERE diff_id = ? AND holds > 0"
    return any(db.execute(query, (diff_id,)).fetchone() for diff_id in set(diff_ids))


def release(db: sqlite3.Connection, diff_ids: Iterable[Digest]) -> None:
    """End one caller's hold on each."""
    query = "UPDATE layers SET frozen = frozen AND holds > 1, holds = max(holds - 1, 0) WHERE diff_id = ?"
    db.executemany(query, [(diff_id,) for diff_id in diff_ids])


def collect_layers(db: sqlite3.Connection, now_ns: int, most: int) -> list[Layer]:
    """Remove the rows of ``most`` layers that no snapshot uses and nobody holds, and return them."""
    query = (
        "SELECT * FROM layers WHERE NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.diff_id = layers.diff_id)"
        " AND (holds = 0 OR held_until_ns <= ?) LIMIT ?"
    )
    found = [_layer(row) for row in db.execute(query, (now_ns, most))]
    db.executemany("DELETE FROM layers WHERE diff_id = ?", [(layer.diff_id,) for layer in found])
    return found


def nodes(db: sqlite3.Connection) -> list[Node]:
    """Return all snapshots, as far as marking goes."""
    labels = dict(
        db.execute(
            "SELECT snapshot, name FROM labels WHERE name = ?1 OR name GLOB ?1 || '.*'", (GC_ROOT_LABEL,)
        ).fetchall()
    )
    found = db.execute("SELECT id, key, parent, diff_id FROM snapshots")
    return [Node(row["id"], row["key"], row["parent"], row["diff_id"], labels.get(row["id"])) for row in found]


def with_directories(db: sqlite3.Connection) -> list[Snapshot]:
    """Return the snapshots that have a directory of their own, without their labels."""
    return [_snapshot(row, {}) for row in db.execute(_SELECT + "WHERE s.dir_id IS NOT NULL ORDER BY s.id")]


def numbers(db: sqlite3.Connection) -> tuple[set[int], set[int]]:
    """Return the directory names of layers, and of snapshots."""
    layers = {row[0] for row in db.execute("SELECT dir_id FROM layers")}
    return layers, {row[0] for row in db.execute("SELECT dir_id FROM snapshots WHERE dir_id IS NOT NULL")}


def delete_stacked(db: sqlite3.Connection, keys: Iterable[str], wanted: Container[str]) -> int:
    """Remove those of ``keys`` that are stacked, have no child and are not ``wanted``; return how many there were."""
    query = (
        "DELETE FROM snapshots WHERE key = ? AND diff_id IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM snapshots c WHERE c.parent = snapshots.id)"
    )
    return sum(db.execute(query, (key,)).rowcount for key in keys if key not in wanted)


def held(db: sqlite3.Connection, now_ns: int) -> dict[str, int]:
    """Return until when somebody may still stack a layer, by diff ID."""
    query = "SELECT diff_id, held_until_ns FROM layers WHERE holds > 0 AND held_until_ns > ?"
    return dict(db.execute(query, (now_ns,)).fetchall())


def end_holds(db: sqlite3.Connection, needed: Container[str], wanted: Container[str], now_ns: int) -> None:
    """End holds on layers that are neither ``needed`` nor ``wanted``; not before their time if one was just frozen."""
    query = "SELECT diff_id FROM layers WHERE holds > 0 AND NOT (frozen AND held_until_ns > ?)"
    found = [row[0] for row in db.execute(query, (now_ns,))]
    ended = [(diff_id,) for diff_id in found if diff_id not in needed and diff_id not in wanted]
    db.executemany("UPDATE layers SET holds = 0, frozen = 0 WHERE diff_id = ?", ended)


def next_hold_end_ns(db: sqlite3.Connection) -> int | None:
    """Return when the first hold on an unused layer runs out."""
    (found,) = db.execute(
        "SELECT min(held_until_ns) FROM layers WHERE holds > 0"
        " AND NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.diff_id = layers.diff_id)"
    ).fetchone()
    return int(found) if found is not None else None


def layer_users(db: sqlite3.Connection) -> dict[str, int]:
    """Return how many snapshots share each layer."""
    return dict(
        db.execute("SELECT diff_id, count(*) FROM snapshots WHERE diff_id IS NOT NULL GROUP BY diff_id").fetchall()
    )


def kinds(db: sqlite3.Connection) -> dict[str, int]:
    """Return how many snapshots there are of each kind."""
    return dict(db.execute("SELECT kind, count(*) FROM snapshots GROUP BY kind").fetchall())


def reserve_numbers(db: sqlite3.Connection, count: int) -> int:
    """Return the first of ``count`` directory names that nobody else will get."""
    (first,) = db.execute("SELECT next_dir_id FROM numbers").fetchone()
    db.execute("UPDATE numbers SET next_dir_id = next_dir_id + ?", (count,))
    return int(first)


def _labels(db: sqlite3.Connection, snapshot: int) -> dict[str, str]:
    return dict(db.execute("SELECT name, value FROM labels WHERE snapshot = ?", (snapshot,)).fetchall())


def _set_labels(db: sqlite3.Connection, snapshot: int | None, labels: Mapping[str, str]) -> None:
    db.execute("DELETE FROM labels WHERE snapshot = ?", (snapshot,))
    db.executemany("INSERT INTO labels VALUES (?, ?, ?)", [(snapshot, *item) for item in labels.items()])


def _snapshot(row: sqlite3.Row, labels: dict[str, str]) -> Snapshot:
    return Snapshot(
        key=row["key"],
        kind=Kind(row["kind"]),
        parent=row["parent_key"],
        created_at_ns=row["created_at_ns"],
        updated_at_ns=row["updated_at_ns"],
        labels=labels,
        diff_id=Digest(row["diff_id"]) if row["diff_id"] else None,
        dir_id=row["dir_id"],
        format=SnapshotFormat(row["format"]) if row["format"] else None,
        own=Usage(row["size_bytes"], row["inodes"]),
    )


def _layer(row: sqlite3.Row) -> Layer:
    return Layer(
        diff_id=Digest(row["diff_id"]),
        dir_id=row["dir_id"],
        format=LayerFormat(row["format"]),
        usage=Usage(row["size_bytes"], row["inodes"]),
        complete=bool(row["complete"]),
        erofs_digest=row["erofs_digest"],
        damaged=row["damaged"],
    )
