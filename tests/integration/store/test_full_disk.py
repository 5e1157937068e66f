"""A database whose disk has no byte left."""

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sampan.errors import ResourceExhaustedError
from sampan.store import repair
from sampan.store.database import Store
from sampan.store.reserve import RESERVE_BYTES
from tests.support.small_disk import SmallDisk, small_disk

pytestmark = pytest.mark.root

_SCHEMA = "CREATE TABLE things (name TEXT PRIMARY KEY, content BLOB NOT NULL);"


@pytest.fixture(params=["ext4", "xfs", "tmpfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    # mkfs.xfs makes nothing smaller than 300 MiB.
    with small_disk(tmp_path, request.param, 320 if request.param == "xfs" else 40) as mounted:
        yield mounted


@pytest.fixture
def schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    package = tmp_path / "full_disk_schema"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "0001_things.sql").write_text(_SCHEMA)
    monkeypatch.syspath_prepend(tmp_path)
    yield "full_disk_schema"
    sys.modules.pop("full_disk_schema", None)


def _insert(db: sqlite3.Connection, name: str) -> None:
    db.execute("INSERT INTO things VALUES (?, ?)", (name, b"x" * 3000))


def _remove(db: sqlite3.Connection, name: str) -> None:
    assert db.execute("DELETE FROM things WHERE name = ?", (name,)).rowcount == 1


def _count(db: sqlite3.Connection) -> int:
    (found,) = db.execute("SELECT count(*) FROM things").fetchone()
    return int(found)


@contextlib.asynccontextmanager
async def _filled(disk: SmallDisk, schema: str, told: list[str] | None = None) -> AsyncIterator[Store]:
    """A store with 1,000 rows on a disk that was filled afterwards."""
    tell = (lambda _: None) if told is None else told.append
    async with Store(disk.path / "test.db", schema, tell=tell) as store:
        for number in range(1000):
            await store.write(lambda db, number=number: _insert(db, f"{number:04}"), durable=False)  # type: ignore[misc]
        disk.fill()
        assert disk.is_full
        yield store


async def test_every_row_can_be_removed_one_by_one(disk: SmallDisk, schema: str) -> None:
    async with _filled(disk, schema) as store:
        for number in range(1000):
            disk.fill()  # whatever is given up, somebody takes it at once
            await store.write(lambda db, number=number: _remove(db, f"{number:04}"))  # type: ignore[misc]
        assert await store.read(_count) == 0


async def test_store_opens_again_and_again_and_can_be_removed_from(disk: SmallDisk, schema: str) -> None:
    async with _filled(disk, schema):
        pass
    for number in range(5):
        disk.fill()
        assert disk.is_full
        async with Store(disk.path / "test.db", schema) as store:
            disk.fill()
            await store.write(lambda db, number=number: _remove(db, f"{number:04}"))  # type: ignore[misc]
            assert await store.read(_count) == 999 - number


async def test_growth_ends_in_an_error_that_says_so_and_removals_go_on(disk: SmallDisk, schema: str) -> None:
    async with _filled(disk, schema) as store:

        def grow(db: sqlite3.Connection) -> None:
            for number in range(4000):
                _insert(db, f"more-{number}")

        with pytest.raises(ResourceExhaustedError, match=r"write .*test\.db: no space left on device"):
            await store.write(grow)
        assert await store.read(_count) == 1000
        await store.write(lambda db: _remove(db, "0000"))
        assert await store.read(_count) == 999


async def test_reserve_is_made_again_when_there_is_space(
    disk: SmallDisk, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sampan.store.database._RESERVE_AFTER_S", 0.01)
    told: list[str] = []
    async with _filled(disk, schema, told) as store:
        assert store.reserve_bytes >= RESERVE_BYTES
        for number in range(500):
            await store.write(lambda db, number=number: _remove(db, f"{number:04}"))  # type: ignore[misc]
        assert store.found_full > 0
        assert any("is full" in problem for problem in told)
        disk.free()
        reserving = store._reserving
        if reserving is not None:
            await reserving
        assert store.reserve_bytes >= RESERVE_BYTES
        assert told[-1] == ""


async def test_store_opens_though_nothing_is_in_reserve_and_others_can_read_it_later(
    disk: SmallDisk, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sampan.store.database._RESERVE_AFTER_S", 0.01)
    path = disk.path / "test.db"
    async with _filled(disk, schema):
        pass
    for suffix in ("-shm", ".reserve"):
        path.with_name(f"test.db{suffix}").unlink(missing_ok=True)
    disk.fill()
    assert disk.is_full
    async with Store(path, schema) as store:
        assert await store.read(_count) == 1000
        assert await store.examine() == ""
        assert not path.with_name("test.db-shm").exists()
        disk.free()
        assert store._reserving is not None
        await store._reserving
        assert await asyncio.to_thread(repair.examine, path) == ""
        await store.write(lambda db: _remove(db, "0000"))
        assert await store.read(_count) == 999


async def test_store_opens_with_room_for_a_part_of_the_index_of_its_log(disk: SmallDisk, schema: str) -> None:
    """Where blocks are smaller than SQLite's pages, it has holes, and who writes to one in memory dies of SIGBUS."""
    path = disk.path / "test.db"
    async with _filled(disk, schema):
        pass
    for left_bytes in (8 << 10, 12 << 10, 20 << 10):
        path.with_name("test.db-shm").unlink(missing_ok=True)
        disk.fill()
        disk.leave(left_bytes)
        async with Store(path, schema) as store:
            assert await store.read(_count) == 1000


async def test_nobody_gets_what_is_given_up(disk: SmallDisk, schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes all there is between a refusal and the next try, as a container does that fills the disk."""
    async with _filled(disk, schema):
        pass
    disk.fill()
    async with Store(disk.path / "test.db", schema) as store:
        give_up = store._reserve.give_up

        def watched(database_bytes: int | None = None) -> bool:
            held = give_up(database_bytes)
            disk.fill()
            return held

        monkeypatch.setattr(store._reserve, "give_up", watched)
        for number in range(1000):
            disk.fill()
            await store.write(lambda db, number=number: _remove(db, f"{number:04}"))  # type: ignore[misc]
        assert await store.read(_count) == 0
