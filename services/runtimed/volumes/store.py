"""Volumes and their holders in the database."""

import enum
import json
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sampan.resource.volume import Volume
from sampan.store.database import Store

_SECOND_NS: Final = 1_000_000_000


class Filled(enum.IntEnum):
    """How far filling a volume from an image has come."""

    NO = 0
    BEGUN = 1
    DONE = 2


@dataclass(frozen=True, slots=True)
class Hold:
    """A container's use of a volume."""

    container_id: str
    target: str
    volume: str
    filled: Filled = Filled.NO
    mounted: bool = False  # by a plugin


class VolumeStore:
    """Queries; each is one transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, volume: Volume, hold: Hold | None = None) -> None:
        """Record a volume, and whoever holds it from the start; no error if there is one of that name."""
        row = (
            volume.name,
            volume.driver,
            round(volume.created.timestamp() * _SECOND_NS),
            json.dumps(dict(volume.labels)),
            json.dumps(dict(volume.options)),
            volume.anonymous,
        )

        def change(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR IGNORE INTO volumes VALUES (?, ?, ?, ?, ?, ?)", row)
            if hold is not None:
                _insert(db, hold)

        await self._store.write(change)

    async def get(self, name: str) -> Volume | None:
        """Return the volume, or None."""

        def query(db: sqlite3.Connection) -> Volume | None:
            row = db.execute("SELECT * FROM volumes WHERE name = ?", (name,)).fetchone()
            if row is None:
                return None
            users = db.execute("SELECT DISTINCT container_id FROM volume_holds WHERE volume = ? ORDER BY 1", (name,))
            return _volume(row, tuple(user["container_id"] for user in users))

        return await self._store.read(query)

    async def all(self) -> list[Volume]:
        """Return all, by name."""

        def query(db: sqlite3.Connection) -> list[Volume]:
            users: dict[str, list[str]] = {}
            for row in db.execute("SELECT DISTINCT volume, container_id FROM volume_holds ORDER BY container_id"):
                users.setdefault(row["volume"], []).append(row["container_id"])
            rows = db.execute("SELECT * FROM volumes ORDER BY name")
            return [_volume(row, tuple(users.get(row["name"], ()))) for row in rows]

        return await self._store.read(query)

    async def remove(self, name: str) -> tuple[str, ...]:
        """Forget the volume unless somebody holds it; return who does."""

        def change(db: sqlite3.Connection) -> tuple[str, ...]:
            users = db.execute("SELECT DISTINCT container_id FROM volume_holds WHERE volume = ? ORDER BY 1", (name,))
            holders = tuple(row["container_id"] for row in users)
            if not holders:
                db.execute("DELETE FROM volumes WHERE name = ?", (name,))
            return holders

        return await self._store.write(change)

    async def hold(self, hold: Hold) -> bool:
        """Record a hold; return whether the volume is there to be held. An earlier hold of the target stays."""

        def change(db: sqlite3.Connection) -> bool:
            if db.execute("SELECT 1 FROM volumes WHERE name = ?", (hold.volume,)).fetchone() is None:
                return False
            _insert(db, hold)
            return True

        return await self._store.write(change)

    async def holds(self, container_id: str) -> dict[str, Hold]:
        """Return the container's holds by target."""

        def query(db: sqlite3.Connection) -> dict[str, Hold]:
            rows = db.execute("SELECT * FROM volume_holds WHERE container_id = ?", (container_id,))
            return {
                row["target"]: Hold(
                    row["container_id"], row["target"], row["volume"], Filled(row["filled"]), bool(row["mounted"])
                )
                for row in rows
            }

        return await self._store.read(query)

    async def set_filled(self, container_id: str, target: str, filled: Filled) -> None:
        """Record how far filling has come."""
        await self._store.write(
            lambda db: db.execute(
                "UPDATE volume_holds SET filled = ? WHERE container_id = ? AND target = ?",
                (filled, container_id, target),
            )
        )

    async def set_mounted(self, container_id: str, target: str, mounted: bool) -> None:
        """Record that a plugin is about to mount it for the holder, or has unmounted it."""
        await self._store.write(
            lambda db: db.execute(
                "UPDATE volume_holds SET mounted = ? WHERE container_id = ? AND target = ?",
                (mounted, container_id, target),
            )
        )

    async def release(self, container_id: str) -> tuple[str, ...]:
        """Forget the container's holds; return the volumes that nobody holds any more."""

        def change(db: sqlite3.Connection) -> tuple[str, ...]:
            held = db.execute("SELECT DISTINCT volume FROM volume_holds WHERE container_id = ?", (container_id,))
            names = [row["volume"] for row in held]
            db.execute("DELETE FROM volume_holds WHERE container_id = ?", (container_id,))
            still = {row["volume"] for row in db.execute("SELECT DISTINCT volume FROM volume_holds")}
            return tuple(name for name in names if name not in still)

        return await self._store.write(change)


def _insert(db: sqlite3.Connection, hold: Hold) -> None:
    db.execute(
        "INSERT OR IGNORE INTO volume_holds (container_id, target, volume, filled) VALUES (?, ?, ?, ?)",
        (hold.container_id, hold.target, hold.volume, hold.filled),
    )


def _volume(row: sqlite3.Row, used_by: tuple[str, ...]) -> Volume:
    try:
        return _read(row, used_by)
    except (ValueError, TypeError, ArithmeticError, OSError) as error:
        return Volume(row["name"], datetime.fromtimestamp(0, UTC), used_by=used_by, fault=f"its record: {error}")


def _read(row: sqlite3.Row, used_by: tuple[str, ...]) -> Volume:
    return Volume(
        row["name"],
        datetime.fromtimestamp(row["created_ns"] / _SECOND_NS, UTC),
        row["driver"],
        dict(json.loads(row["labels"])),
        dict(json.loads(row["options"])),
        bool(row["anonymous"]),
        used_by,
    )
