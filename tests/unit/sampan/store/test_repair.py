"""Databases that are damaged, and what takes their place."""

import asyncio
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sampan.errors import DatabaseDamagedError
from sampan.store import repair
from sampan.store.database import Store
from sampan.store.repair import Restored, carry_out, copy_of, examine, make_copy

SCHEMA = """
CREATE TABLE things (name TEXT PRIMARY KEY, size INTEGER NOT NULL);
CREATE TABLE parts (thing TEXT NOT NULL REFERENCES things (name), text TEXT NOT NULL);
"""


@pytest.fixture(autouse=True)
def schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    package = tmp_path / "repair_test_schema"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "0001_things.sql").write_text(SCHEMA)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("repair_test_schema", None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of some pages, whose copy is older than most of it."""
    (tmp_path / "db").mkdir()
    path = tmp_path / "db" / "test.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(SCHEMA)
        db.execute("PRAGMA user_version = 1")
        add(db, 0, 10)
    make_copy(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        add(db, 10, 3000)
        db.execute("DELETE FROM parts WHERE thing GLOB '1*'")  # pages become free
    return path


def add(db: sqlite3.Connection, first: int, last: int) -> None:
    db.execute("BEGIN")
    db.executemany("INSERT INTO things VALUES (?, ?)", [(str(number), number) for number in range(first, last)])
    db.executemany("INSERT INTO parts VALUES (?, ?)", [(str(number), "x" * 50) for number in range(first, last)])
    db.execute("COMMIT")


def count(path: Path, table: str = "things") -> int:
    with closing(sqlite3.connect(path)) as db:
        (found,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(found)


def zero(path: Path, first_page: int, pages: int = 1) -> None:
    with path.open("r+b") as file:
        file.seek(first_page * 4096)
        file.write(bytes(pages * 4096))


def repaired(path: Path) -> Restored:
    repair.ask(path)
    restored = carry_out(path)
    assert restored is not None
    assert examine(path) == ""
    return restored


def test_a_whole_database_has_nothing_wrong(path: Path) -> None:
    assert examine(path) == ""


def test_one_whose_first_page_is_zeroed_is_salvaged_without_loss(path: Path) -> None:
    things, parts = count(path), count(path, "parts")
    zero(path, 0)
    assert "not a database" in examine(path)
    assert repaired(path).how == "salvaged"
    assert (count(path), count(path, "parts")) == (things, parts)


def test_one_that_lost_other_pages_is_restored_from_its_copy(path: Path) -> None:
    zero(path, 3, 5)
    assert examine(path)
    restored = repaired(path)
    assert (restored.how, restored.lossy) == ("copy", True)
    assert restored.copied_ns == copy_of(path).stat().st_mtime_ns
    assert count(path) == 10
    assert Path(restored.aside).exists(), "what is damaged is set aside, not removed"


@pytest.mark.parametrize("how", ["gone", "emptied"])
def test_one_that_is_gone_is_not_taken_for_a_new_one(path: Path, how: str) -> None:
    path.unlink() if how == "gone" else path.write_bytes(b"")
    assert examine(path)
    with pytest.raises(DatabaseDamagedError, match="sampan system check --repair"):
        asyncio.run(opened(path))
    assert repaired(path).how == "copy"
    assert repair.is_incomplete(path)


def test_without_a_whole_copy_it_begins_anew(path: Path) -> None:
    zero(path, 0, 4)
    zero(copy_of(path), 0, 4)
    restored = repaired(path)
    assert restored.how == "anew"
    assert asyncio.run(opened(path)) == 0
    assert Path(f"{restored.aside}.copy").exists()


def test_nothing_is_done_unasked_or_to_a_whole_one(path: Path) -> None:
    zero(path, 0)
    assert carry_out(path) is None
    assert examine(path)


def test_a_whole_one_is_left_alone_although_asked(path: Path) -> None:
    before = path.read_bytes()
    repair.ask(path)
    assert carry_out(path) is None
    assert path.read_bytes() == before
    assert carry_out(path) is None


def test_a_damaged_database_never_replaces_a_whole_copy(path: Path) -> None:
    whole = copy_of(path).read_bytes()
    zero(path, 3, 5)
    with pytest.raises(sqlite3.DatabaseError):
        make_copy(path)
    assert copy_of(path).read_bytes() == whole


def test_a_repair_can_be_interrupted_anywhere(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zero(path, 0)
    things_kept = 3000
    repair.ask(path)
    rename, steps = Path.rename, 0

    class Killed(BaseException):
        """What SIGKILL comes to."""

    for survived in range(8):
        steps = 0

        def die(self: Path, target: Path | str, survived: int = survived) -> Path:
            nonlocal steps
            if steps == survived:
                raise Killed
            steps += 1
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", die)
        try:
            carry_out(path)
        except Killed:
            continue
        break
    assert examine(path) == ""
    assert count(path) == things_kept
    repair.forget(path)
    assert carry_out(path) is None


async def opened(path: Path) -> int:
    async with Store(path, "repair_test_schema") as store:
        return await store.read(lambda db: int(db.execute("SELECT count(*) FROM things").fetchone()[0]))


async def test_a_store_leaves_a_copy_when_it_is_closed(path: Path) -> None:
    async with Store(path, "repair_test_schema") as store:
        await store.write(lambda db: db.execute("INSERT INTO things VALUES ('new', 1)"))
    assert count(copy_of(path)) == count(path)


async def test_a_store_has_a_copy_from_its_first_moment(tmp_path: Path) -> None:
    async with Store(tmp_path / "first.db", "repair_test_schema"):
        assert count(copy_of(tmp_path / "first.db")) == 0


async def test_damage_that_shows_while_it_is_used_is_said_in_words(path: Path) -> None:
    async with Store(path, "repair_test_schema") as store:
        zero(path, 3, 20)
        await store.read(lambda db: db.execute("PRAGMA shrink_memory").fetchall())  # what it remembers of the file
        with pytest.raises(DatabaseDamagedError, match="is damaged"):
            await store.read(lambda db: db.execute("SELECT sum(length(text)), max(size) FROM parts, things").fetchall())
