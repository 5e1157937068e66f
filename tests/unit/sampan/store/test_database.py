import asyncio
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.errors import ConflictError, DataLossError
from sampan.store.database import Store

FIRST = "CREATE TABLE things (name TEXT PRIMARY KEY);"
SECOND = "ALTER TABLE things ADD COLUMN size INTEGER NOT NULL DEFAULT 7;"


@pytest.fixture
def schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A schema package with one step, that a test may add to."""
    package = tmp_path / "store_test_schema"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "0001_things.sql").write_text(FIRST)
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    sys.modules.pop("store_test_schema", None)


def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "test.db", "store_test_schema")


def insert(name: str) -> "InsertThing":
    return InsertThing(name)


class InsertThing:
    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO things (name) VALUES (?)", (self._name,))


def names(db: sqlite3.Connection) -> list[str]:
    return [row["name"] for row in db.execute("SELECT name FROM things ORDER BY name")]


async def test_what_was_written_is_there_after_reopening(tmp_path: Path, schema: Path) -> None:
    async with store(tmp_path) as first:
        await first.write(insert("a"))
    async with store(tmp_path) as second:
        assert await second.read(names) == ["a"]


async def test_a_transaction_that_raises_leaves_nothing(tmp_path: Path, schema: Path) -> None:
    def half(db: sqlite3.Connection) -> None:
        insert("a")(db)
        raise KeyError("half way")

    async with store(tmp_path) as opened:
        with pytest.raises(KeyError):
            await opened.write(half)
        assert await opened.read(names) == []


async def test_concurrent_writers_all_succeed(tmp_path: Path, schema: Path) -> None:
    async with store(tmp_path) as opened:
        await asyncio.gather(*(opened.write(insert(f"{i:02}")) for i in range(50)))
        assert len(await opened.read(names)) == 50


async def test_a_new_step_is_applied_to_an_old_file_and_keeps_its_rows(tmp_path: Path, schema: Path) -> None:
    async with store(tmp_path) as old:
        await old.write(insert("a"))
    (schema / "0002_size.sql").write_text(SECOND)
    async with store(tmp_path) as new:
        row = await new.read(lambda db: tuple(db.execute("SELECT name, size FROM things").fetchone()))
    assert row == ("a", 7)


async def test_a_step_that_fails_leaves_the_old_version(tmp_path: Path, schema: Path) -> None:
    async with store(tmp_path):
        pass
    (schema / "0002_broken.sql").write_text(SECOND + "\nALTER TABLE nowhere ADD COLUMN x;")
    with pytest.raises(DataLossError):
        async with store(tmp_path):
            pass
    (schema / "0002_broken.sql").unlink()
    async with store(tmp_path) as opened:
        await opened.write(insert("a"))


async def test_a_newer_schema_is_refused(tmp_path: Path, schema: Path) -> None:
    (schema / "0002_size.sql").write_text(SECOND)
    async with store(tmp_path):
        pass
    (schema / "0002_size.sql").unlink()
    with pytest.raises(ConflictError, match="schema 2, this engine knows 1"):
        async with store(tmp_path):
            pass


async def test_a_file_that_is_no_database_is_named(tmp_path: Path, schema: Path) -> None:
    (tmp_path / "test.db").write_bytes(b"not a database, but longer than a header" * 100)
    with pytest.raises(DataLossError, match=r"test\.db"):
        async with store(tmp_path):
            pass


async def test_a_closed_store_says_so(tmp_path: Path, schema: Path) -> None:
    async with store(tmp_path) as opened:
        pass
    with pytest.raises(RuntimeError):
        await opened.read(names)


async def test_a_write_that_need_not_last_is_there_after_reopening_all_the_same(tmp_path: Path, schema: Path) -> None:
    async with store(tmp_path) as first:
        await first.write(insert("a"), durable=False)
        await first.write(insert("b"))
    async with store(tmp_path) as second:
        assert await second.read(names) == ["a", "b"]


async def test_only_a_durable_write_waits_for_the_disk(tmp_path: Path, schema: Path) -> None:
    def synchronous(db: sqlite3.Connection) -> int:
        (level,) = db.execute("PRAGMA synchronous").fetchone()
        return int(level)

    async with store(tmp_path) as opened:
        normal, full = await opened.write(synchronous, durable=False), await opened.write(synchronous)
    assert (normal, full) == (1, 2)
