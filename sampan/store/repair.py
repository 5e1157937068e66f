"""A database's damage: found, and repaired from what is left of it and from its copy. Everything here blocks.

<name>                          the database, with ``-wal`` and ``-shm`` beside it
<name>.copy                     a copy of it, page by page; see ``make_copy``
<name>.repair                   somebody asked for a repair: carried out by the next who opens it
<name>.new                      what will take its place
<name>.damaged-<time>           what was found damaged and set aside; never removed by us
"""

import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

# SQLite's own words for a page that no tree refers to: what was free is that too, once the list of it is gone.
_UNUSED_PAGE: Final = re.compile(r"Page \d+ is never used")

_DAMAGED: Final = "damaged"
_LOST: Final = "lost"

_HEADER_BYTES: Final = 100
_MAGIC: Final = b"SQLite format 3\0"
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


@dataclass(frozen=True, slots=True)
class Restored:
    """What took the place of a damaged database."""

    how: str  # "salvaged": all of it; "copy": as it was at ``copied_ns``; "anew": nothing
    aside: str  # where the damaged one is
    copied_ns: int = 0

    @property
    def lossy(self) -> bool:
        """Whether rows may be missing: then files without a row are no rubbish."""
        return self.how != "salvaged"


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Say whether SQLite means that the file is damaged."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _DAMAGE


def copy_of(path: Path) -> Path:
    """Where the copy of a database is."""
    return path.with_name(f"{path.name}.copy")


def make_copy(path: Path) -> None:
    """Copy a database as its last transaction left it, on disk when this returns; writers do not wait for it.

    The copy is checked before it takes the place of the last one: a damaged database never replaces a whole copy.

    Raises:
        sqlite3.DatabaseError: the database cannot be read, or a copy of it is not whole.
    """
    fresh = path.with_name(f"{path.name}.copying")
    fresh.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(fresh)) as target:
            target.execute("PRAGMA synchronous = OFF")  # it is synced as a whole below
            source.backup(target)
        with closing(sqlite3.connect(f"file:{fresh}?immutable=1", uri=True)) as copied:
            (answer,) = copied.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            raise sqlite3.DatabaseError(f"database {path} is damaged: {answer}")
        _sync(fresh)
        fresh.rename(copy_of(path))
        _sync(path.parent)
    finally:
        fresh.unlink(missing_ok=True)


def copy_is_of_schema(path: Path, version: int) -> bool:
    """Say whether there is a copy, with this ``user_version``."""
    try:
        with copy_of(path).open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        return False
    return header.startswith(_MAGIC) and int.from_bytes(header[60:64], "big") == version


def is_lost(path: Path) -> bool:
    """Say whether a database is gone, or emptied, that was there: its copy is. SQLite would begin a new one."""
    return copy_of(path).exists() and (not path.exists() or not path.stat().st_size)


def examine(path: Path) -> str:
    """Read a database from end to end, as the next process would; return what is wrong, or nothing.

    Safe while the service works with it: the connection is one of its own, and what it sees is what is on disk.
    """
    if is_lost(path):
        return "it is gone" if not path.exists() else "it is empty"
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return examine_open(db)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return str(error)


def examine_open(db: sqlite3.Connection) -> str:
    """Do as ``examine`` does, over a connection that there is.

    Raises:
        sqlite3.DatabaseError: what is wrong keeps SQLite from reading on.
    """
    lines = [row[0] for row in db.execute("PRAGMA integrity_check(3)")]
    return "" if lines == ["ok"] else " ".join(" ".join(lines).split())


def ask(path: Path) -> None:
    """Have the database repaired by whoever opens it next."""
    _write(_request(path), "{}")


def carry_out(path: Path) -> Restored | None:
    """Put another database in the place of a damaged one, if that was asked for; return what it is.

    Asked again before ``forget``, it returns the same: what follows a repair may be interrupted, too. The steps can be
    repeated: what takes the place is made first, then the request notes it, then names change.
    """
    try:
        noted = json.loads(_request(path).read_text())
    except FileNotFoundError:
        return None
    except ValueError:  # its writer's power was cut
        noted = {}
    new = path.with_name(f"{path.name}.new")
    if noted:
        restored = Restored(**noted)
    else:
        if not examine(path):
            forget(path)
            return None
        new.unlink(missing_ok=True)
        restored = _replacement(path, new)
        _write(_request(path), json.dumps(asdict(restored)))
    if new.exists():
        for suffix in ("", "-wal"):
            damaged = path.with_name(path.name + suffix)
            if damaged.exists():
                damaged.rename(restored.aside + suffix)
        if restored.lossy:
            Path(restored.aside).touch()  # where the file was gone altogether, too: it says that rows are missing
        path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
        if restored.how == "anew" and copy_of(path).exists():
            copy_of(path).rename(f"{restored.aside}.copy")
        _sync(path.parent)
        new.rename(path)
        _sync(path.parent)
    return restored


def forget(path: Path) -> None:
    """Say that what a repair brings with it has been done."""
    _request(path).unlink(missing_ok=True)


def _request(path: Path) -> Path:
    return path.with_name(f"{path.name}.repair")


def _replacement(path: Path, new: Path) -> Restored:
    copy = copy_of(path)
    if path.exists() and copy.exists() and _salvage(path, copy, new):
        return Restored("salvaged", _aside(path, _DAMAGED))
    new.unlink(missing_ok=True)
    if copy.exists() and _is_whole(copy):
        shutil.copyfile(copy, new)
        _sync(new)
        return Restored("copy", _aside(path, _LOST), copy.stat().st_mtime_ns)
    new.touch()
    _sync(new)
    return Restored("anew", _aside(path, _LOST))


def _aside(path: Path, word: str) -> str:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.{word}-{stamp}")
    number = 1
    while aside.exists() or aside.with_name(f"{aside.name}.copy").exists():
        number += 1
        aside = path.with_name(f"{path.name}.{word}-{stamp}-{number}")
    return str(aside)


def is_incomplete(path: Path) -> bool:
    """Say whether rows may be missing: one was lost with rows in it, and what is left of it is still set aside."""
    return any(True for _ in path.parent.glob(f"{path.name}.{_LOST}-*"))


def _salvage(path: Path, copy: Path, new: Path) -> bool:
    """Make a database of a damaged one whose first page alone is bad; say whether all of it could be read.

    The first page holds SQLite's header and where the tables begin, which changes with the schema alone: the copy has
    the same. Everything else is where it was.
    """
    with copy.open("rb") as file:
        header = file.read(_HEADER_BYTES)
        page_bytes = int.from_bytes(header[16:18], "big")
        page_bytes = 65536 if page_bytes == 1 else page_bytes
        file.seek(0)
        first = bytearray(file.read(page_bytes))
    if not header.startswith(_MAGIC) or len(first) < page_bytes or path.stat().st_size < page_bytes:
        return False
    with _scratch(path) as work:
        pages = work.stat().st_size // page_bytes
        first[28:32] = pages.to_bytes(4, "big")
        first[92:96] = first[24:28]  # "the number of pages above is right"
        first[32:40] = bytes(8)  # the list of free pages is not what it was
        with work.open("r+b") as file:
            file.write(first)
        try:
            with closing(sqlite3.connect(work)) as db:
                lines = "\n".join(row[0] for row in db.execute("PRAGMA integrity_check(1000000)")).splitlines()
                if not all(map(_is_harmless, lines)):
                    return False
                db.execute("VACUUM INTO ?", (str(new),))
        except sqlite3.DatabaseError:
            return False
    if not _is_whole(new):
        return False
    _sync(new)
    return True


def _is_harmless(line: str) -> bool:
    return line == "ok" or line.startswith("*** in database") or _UNUSED_PAGE.fullmatch(line) is not None


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    """Copy the damaged files to work on."""
    work = path.with_name(f"{path.name}.salvage")
    suffixes = ("", "-wal", "-shm")
    try:
        for suffix in suffixes[:2]:
            source = path.with_name(path.name + suffix)
            if source.exists():
                shutil.copyfile(source, work.with_name(work.name + suffix))
        yield work
    finally:
        for suffix in suffixes:
            work.with_name(work.name + suffix).unlink(missing_ok=True)


def _is_whole(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as db:
            found = [row[0] for row in db.execute("PRAGMA integrity_check(1)")]
    except sqlite3.DatabaseError:
        return False
    return found == ["ok"]


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text)
    _sync(temporary)
    temporary.rename(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
