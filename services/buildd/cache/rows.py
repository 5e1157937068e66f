"""Rows of results: read and written within the transaction of whoever calls."""

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from buildd.cache.model import About, Record, RecordType
from buildd.protocol import Tree
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.resource.image import Layer

# A step that is copied from a tree that always changes would be remembered once for each of its states.
_MAX_QUICK_KEYS: Final = 16


def insert(
    db: sqlite3.Connection, key: Digest, results: Sequence[tuple[str, Tree]], about: About, now_ns: int
) -> list[str]:
    """Add a step's results by their IDs, and return the IDs of those whose place they take."""
    old = [row["id"] for row in db.execute("SELECT id FROM records WHERE key = ? AND superseded = 0", (key,))]
    db.execute("UPDATE records SET superseded = 1 WHERE key = ? AND superseded = 0", (key,))
    for output, (name, tree) in enumerate(results):
        db.execute(
            "INSERT INTO records (id, key, output, outputs, type, description, created_ns, used_ns)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (name, key, output, len(results), about.type.value, about.description, now_ns, now_ns),
        )
        db.executemany(
            "INSERT INTO record_layers VALUES (?, ?, ?, ?, ?, ?)",
            [
                (name, n, each.descriptor.media_type, each.descriptor.digest, each.descriptor.size, each.diff_id)
                for n, each in enumerate(tree.layers)
            ],
        )
        parents = dict.fromkeys(about.parents)
        db.executemany("INSERT INTO record_parents VALUES (?, ?)", [(name, parent) for parent in parents])
    return old


def find(db: sqlite3.Connection, key: Digest) -> list[tuple[str, Tree]]:
    """Return a step's results by their IDs, in order; nothing unless all of them are there."""
    rows = db.execute(
        "SELECT id, outputs FROM records WHERE key = ? AND superseded = 0 ORDER BY output", (key,)
    ).fetchall()
    if not rows or len(rows) != rows[0]["outputs"]:
        return []
    return [(row["id"], Tree(_layers(db, row["id"]))) for row in rows]


def _layers(db: sqlite3.Connection, name: str) -> tuple[Layer, ...]:
    rows = db.execute("SELECT * FROM record_layers WHERE record = ? ORDER BY position", (name,))
    return tuple(map(_layer, rows))


def _layer(row: sqlite3.Row) -> Layer:
    return Layer(Descriptor(row["media_type"], Digest(row["digest"]), row["size_bytes"]), Digest(row["diff_id"]))


def every(db: sqlite3.Connection) -> list[Record]:
    """Return all records."""
    layers: dict[str, list[Layer]] = {}
    for row in db.execute("SELECT * FROM record_layers ORDER BY record, position"):
        layers.setdefault(row["record"], []).append(_layer(row))
    parents: dict[str, list[str]] = {}
    query = (
        "SELECT p.record AS child, r.id AS parent FROM record_parents p"
        " JOIN records r ON r.key = p.key AND r.superseded = 0 WHERE r.id <> p.record ORDER BY p.record, r.id"
    )
    for row in db.execute(query):
        parents.setdefault(row["child"], []).append(row["parent"])
    return [
        Record(
            row["id"],
            RecordType(row["type"]),
            row["description"],
            row["created_ns"],
            row["used_ns"],
            row["uses"],
            tuple(parents.get(row["id"], ())),
            tuple(layers.get(row["id"], ())),
        )
        for row in db.execute("SELECT * FROM records ORDER BY created_ns, id")
    ]


def created(db: sqlite3.Connection, names: Collection[str]) -> dict[str, int]:
    """Return when records were made, by their IDs, in nanoseconds since the epoch."""
    rows = (db.execute("SELECT created_ns FROM records WHERE id = ?", (name,)).fetchone() for name in names)
    return {name: row["created_ns"] for name, row in zip(names, rows, strict=True) if row is not None}


def ids(db: sqlite3.Connection) -> list[tuple[str, bool, bool]]:
    """Return the ID of every record, whether it has layers, and whether it is superseded."""
    query = "SELECT id, superseded, EXISTS (SELECT 1 FROM record_layers WHERE record = id) AS filled FROM records"
    return [(row["id"], bool(row["filled"]), bool(row["superseded"])) for row in db.execute(query)]


def delete(db: sqlite3.Connection, gone: Collection[str]) -> None:
    """Remove records, and the quick keys that led to them."""
    keys = [db.execute("SELECT key FROM records WHERE id = ?", (name,)).fetchone() for name in gone]
    db.executemany("DELETE FROM records WHERE id = ?", [(name,) for name in gone])
    for key in {row["key"] for row in keys if row is not None}:
        if db.execute("SELECT 1 FROM records WHERE key = ?", (key,)).fetchone() is None:
            db.execute("DELETE FROM quick_keys WHERE key = ?", (key,))


def used(db: sqlite3.Connection, those: Sequence[str], now_ns: int) -> list[str]:
    """Note that records were used, and return those whose place others have taken."""
    rows = [(now_ns, name) for name in those]
    db.executemany("UPDATE records SET used_ns = max(used_ns, ?), uses = uses + 1 WHERE id = ?", rows)
    query = "SELECT 1 FROM records WHERE id = ? AND superseded = 1"
    return [name for name in those if db.execute(query, (name,)).fetchone() is not None]


def remember_quick(db: sqlite3.Connection, quick: Digest, key: Digest, now_ns: int) -> None:
    """Note what a quick key leads to."""
    db.execute("INSERT OR REPLACE INTO quick_keys VALUES (?, ?, ?)", (quick, key, now_ns))
    db.execute(
        "DELETE FROM quick_keys WHERE key = ? AND quick NOT IN"
        " (SELECT quick FROM quick_keys WHERE key = ? ORDER BY made_ns DESC, quick LIMIT ?)",
        (key, key, _MAX_QUICK_KEYS),
    )


def quick(db: sqlite3.Connection, quick: Digest) -> Digest | None:
    """Return the key that a quick key leads to."""
    row = db.execute("SELECT key FROM quick_keys WHERE quick = ?", (quick,)).fetchone()
    return None if row is None else Digest(row["key"])


def supersede(db: sqlite3.Connection, those: Iterable[str]) -> None:
    """Let nobody find records any more."""
    db.executemany("UPDATE records SET superseded = 1 WHERE id = ?", [(name,) for name in those])
