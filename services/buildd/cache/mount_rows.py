"""Rows of cache mounts: read and written within the transaction of whoever calls."""

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from buildd.cache.model import Record, RecordType


@dataclass(frozen=True, slots=True)
class MountRow:
    """A directory that is there."""

    id: str
    description: str
    created_ns: int
    used_ns: int
    uses: int = 0
    size_bytes: int = 0  # as last measured
    measured_ns: int = 0  # 0: never

    def record(self, size_bytes: int, *, in_use: bool) -> Record:
        """Return it as a record of the cache."""
        return Record(
            self.id,
            RecordType.CACHE_MOUNT,
            self.description,
            self.created_ns,
            self.used_ns,
            self.uses,
            size_bytes=size_bytes,
            in_use=in_use,
            mutable=True,
        )


def _row(row: sqlite3.Row) -> MountRow:
    return MountRow(
        row["id"],
        row["description"],
        row["created_ns"],
        row["used_ns"],
        row["uses"],
        row["size_bytes"],
        row["measured_ns"],
    )


def every(db: sqlite3.Connection) -> list[MountRow]:
    """Return all of them."""
    return [_row(row) for row in db.execute("SELECT * FROM cache_mounts ORDER BY created_ns, id")]


def named(db: sqlite3.Connection, name: str, base: str) -> list[MountRow]:
    """Return the directories of one mount, the last one used first."""
    query = "SELECT * FROM cache_mounts WHERE name = ? AND base = ? ORDER BY used_ns DESC, id"
    return [_row(row) for row in db.execute(query, (name, base))]


def insert(db: sqlite3.Connection, id: str, place: tuple[str, str], description: str, now_ns: int) -> MountRow:
    """Add one; ``place`` is its name and what it began with."""
    db.execute(
        "INSERT INTO cache_mounts (id, name, base, description, created_ns, used_ns) VALUES (?, ?, ?, ?, ?, ?)",
        (id, *place, description, now_ns, now_ns),
    )
    return MountRow(id, description, now_ns, now_ns)


def used(db: sqlite3.Connection, id: str, now_ns: int) -> bool:
    """Note that one is used; say whether it is there."""
    query = "UPDATE cache_mounts SET used_ns = max(used_ns, ?), uses = uses + 1 WHERE id = ?"
    return db.execute(query, (now_ns, id)).rowcount > 0


def measured(db: sqlite3.Connection, id: str, size_bytes: int, now_ns: int) -> None:
    """Note what one takes."""
    db.execute("UPDATE cache_mounts SET size_bytes = ?, measured_ns = ? WHERE id = ?", (size_bytes, now_ns, id))


def delete(db: sqlite3.Connection, gone: Collection[str]) -> None:
    """Remove some."""
    db.executemany("DELETE FROM cache_mounts WHERE id = ?", [(one,) for one in gone])
