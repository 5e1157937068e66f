"""A service's own SQLite file: one writer thread, forward-only schema.

Only its owner opens a database; others ask over gRPC. A copy of it follows its changes (see ``repair``), so that a
damaged one can be repaired. On a full disk it can still be written to, so that things can be removed (see ``reserve``).
"""

import asyncio
import contextlib
import re
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Final, Self, TypeVar

from sampan.errors import ConflictError, DatabaseDamagedError, DataLossError, NoSpaceError
from sampan.log import log
from sampan.store import repair
from sampan.store.repair import Restored
from sampan.store.reserve import RESERVE_BYTES, Reserve, means_full

T = TypeVar("T")

_STEP: Final = re.compile(r"(\d{4})_\w+\.sql")

_PRAGMAS: Final = (
    # Readers and the writer do not wait for each other.
    "PRAGMA journal_mode = WAL",
    # In WAL mode NORMAL may lose the last transactions at a power cut; FULL syncs the log at each commit, and what
    # we have told a client must be there afterwards.
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    # Nobody else opens the file, but a copy being made of it may hold it for a moment.
    "PRAGMA busy_timeout = 5000",
)

# How far the copy may be behind, and how much of the time may go into copying a database that always changes.
_COPY_AFTER_S: Final = 5.0
_COPYING_SHARE: Final = 0.01

# How long a reserve that was given up waits for space.
_RESERVE_AFTER_S: Final = 5.0


class Store:
    """One database, one thread: transactions queue in memory and never meet "database is locked"."""

    def __init__(
        self, path: Path, schema: str, *, durable: bool = True, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        """Name the file, and the package whose numbered ``.sql`` files are its schema.

        ``tell`` is called when the disk is found full, with a sentence, and with an empty one when all is well again.

        With ``durable`` false nothing is ever synced: for tests, whose machine does not lose its power.
        """
        self._path = path
        self._schema = schema
        self._durable = durable
        self._tell = tell
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"store-{path.stem}")
        self._db: sqlite3.Connection | None = None
        self._copier: asyncio.Task[None] | None = None
        self._changed = False  # since the copy was made
        self._closing = asyncio.Event()
        self._copying_s = 0.0
        self._reserve = Reserve(path)
        self._reserving: asyncio.Task[None] | None = None
        self._alone = False  # opened without a shared index, for which there was no space
        self.found_full = 0  # how many transactions found the disk full
        self.restored: Restored | None = None  # what took the place of a damaged database, until ``settle``

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    async def __aenter__(self) -> Self:
        """Open the database and bring its schema up to date.

        That succeeds on a full disk, too; what has to be written may then find no space.

        Raises:
            NoSpaceError: the disk is full, and the database is new or its schema old.
            ConflictError: the file was written by a newer version of the engine.
            DatabaseDamagedError: the file is not a database, or not whole, or gone.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)
        self._reserve_later()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Finish what is queued and close; later calls fail."""
        self._closing.set()
        await asyncio.gather(*(task for task in (self._copier, self._reserving) if task is not None))
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=True)

    async def write(self, fn: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        """Run ``fn`` in one transaction; roll back if it raises.

        On a full disk, what is in reserve is given up and ``fn`` runs again: it has no effects but on rows.

        With ``durable`` false nobody waits for the disk: the transaction survives the process, and is lost with the
        machine's power unless a durable one has followed. That is right for what a reboot ends anyway.

        Cancelling a waiting caller leaves its transaction either never begun or wholly finished.

        Raises:
            NoSpaceError: the disk is full, and so was the reserve.
        """
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._thread, self._write, fn, durable)
        finally:
            self._reserve_later()
        if durable and self._durable:
            self._changed = True
            if self._copier is None or self._copier.done():
                self._copier = asyncio.create_task(self._follow(), name=f"copy {self._path.name}")
        return result

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``fn``, which changes nothing."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, fn)

    @property
    def reserve_bytes(self) -> int:
        """How much is in reserve for when the disk is full."""
        return self._reserve.size_bytes

    @property
    def problem(self) -> str:
        """What is wrong with the disk, or nothing."""
        if not self._durable or self._reserve.is_whole:
            return ""
        left = f"{self._reserve.size_bytes >> 10} of {RESERVE_BYTES >> 10} KiB are left in reserve for removals"
        return f"the disk of {self._path} is full: {left}"

    async def examine(self) -> str:
        """Read all of the database; return what is wrong with it, or nothing."""
        if self._alone:
            return await self.read(repair.examine_open)
        return await asyncio.to_thread(repair.examine, self._path)

    async def settle(self) -> None:
        """Say that whatever a repaired database needs to be put right beside it has been."""
        await asyncio.to_thread(repair.forget, self._path)

    @property
    def _is_at_ease(self) -> bool:
        """Whether nothing waits for space."""
        return self._reserve.is_whole and not self._alone

    def _reserve_later(self) -> None:
        """Have the reserve made again when there is space."""
        self._tell(self.problem)
        if self._durable and not self._is_at_ease and (self._reserving is None or self._reserving.done()):
            self._reserving = asyncio.create_task(self._make_reserve(), name=f"reserve {self._path.name}")

    async def _make_reserve(self) -> None:
        # The kernel tells nobody that there is space again, so the disk is looked at from time to time.
        loop = asyncio.get_running_loop()
        while not self._is_at_ease:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RESERVE_AFTER_S):
                    await self._closing.wait()
                    return
            await loop.run_in_executor(self._thread, self._reserve.make)
            if self._alone and self._reserve.is_whole:
                await loop.run_in_executor(self._thread, self._share)
            self._tell(self.problem)

    async def _follow(self) -> None:
        """Copy what has changed, and again what changes meanwhile; ends when nothing does, or soon after closing."""
        while self._changed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(_COPY_AFTER_S, self._copying_s / _COPYING_SHARE)):
                    await self._closing.wait()
            if not self._is_at_ease:  # a copy would take what is left
                if self._closing.is_set():
                    return
                continue
            self._changed = False
            await asyncio.to_thread(self._copy)

    def _copy(self) -> None:
        begin = time.monotonic()
        try:
            repair.make_copy(self._path)
        except (sqlite3.Error, OSError) as error:  # a full disk, or damage, which `sampan system check` tells
            log.warning("database not copied", path=str(self._path), error=str(error))
        self._copying_s = time.monotonic() - begin

    def _open(self) -> None:
        try:
            self._open_once(alone=self._durable and not self._reserve.has_room())
        except (sqlite3.Error, OSError) as error:
            if not means_full(error, self._path.parent):
                raise
            try:
                self._on_full_disk(lambda: self._open_once(alone=True))
            except (sqlite3.Error, OSError) as again:
                raise self._explained(again) from again
        if self._durable:
            self._reserve.open()
            self._reserve.make()

    def _share(self) -> None:
        """Let others read the database, if there is space for that now."""
        if self._reserve.has_room():
            self._close()
            self._open()

    def _on_full_disk(self, act: Callable[[], T]) -> T:
        """Return what ``act`` does, called again for each piece of the reserve that is given up."""
        told = False
        while True:
            try:
                return act()
            except (sqlite3.Error, OSError) as error:
                if not means_full(error, self._path.parent):
                    raise
                held = self._give_up()
                if not told:
                    left = "given up in pieces" if held else "none left"
                    log.warning("disk full", path=str(self._path), error=str(error), reserve=left)
                    self.found_full += 1
                    told = True
                if not held:
                    raise

    def _give_up(self) -> bool:
        """Give up a piece of the reserve and have the log begin anew; return whether there was anything to give."""
        if self._db is None:
            return self._reserve.give_up()
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        (page_bytes,) = self._db.execute("PRAGMA page_size").fetchone()
        held = self._reserve.give_up(pages * page_bytes)
        with contextlib.suppress(sqlite3.Error):  # the log grows instead
            self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        return held

    def _open_once(self, *, alone: bool) -> None:
        """Open the database; ``alone`` without the index of its log that readers share, which is a file of its own."""
        self.restored = repair.carry_out(self._path)
        if self.restored is not None:
            log.warning("database repaired", path=str(self._path), how=self.restored.how, aside=self.restored.aside)
        elif repair.is_lost(self._path):
            raise DatabaseDamagedError(self._path, "its file is gone or empty")
        # The writer thread is the only one to touch the connection, which sqlite3 checks.
        db = sqlite3.connect(self._path, isolation_level=None)
        db.row_factory = sqlite3.Row
        try:
            if alone:
                db.execute("PRAGMA locking_mode = EXCLUSIVE")
            for pragma in _PRAGMAS:
                db.execute(pragma)
            if not self._durable:
                db.execute("PRAGMA synchronous = OFF")
            (answer,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if answer != "ok":
                raise DatabaseDamagedError(self._path, " ".join(answer.split()))
            version = self._migrate(db)
        except sqlite3.DatabaseError as error:
            db.close()
            if means_full(error, self._path.parent):
                raise
            if not repair.is_damage(error):
                raise DataLossError(f"database {self._path} cannot be opened: {error}") from error
            raise DatabaseDamagedError(self._path, str(error)) from error
        except BaseException:
            db.close()
            raise
        self._db, self._alone = db, alone
        if self._durable and not alone and not repair.copy_is_of_schema(self._path, version):
            self._copy()

    def _migrate(self, db: sqlite3.Connection) -> int:
        steps = sorted(
            (int(match[1]), entry)
            for entry in Path(import_module(self._schema).__path__[0]).iterdir()
            if (match := _STEP.fullmatch(entry.name))
        )
        (version,) = db.execute("PRAGMA user_version").fetchone()
        newest = steps[-1][0]
        if version > newest:
            raise ConflictError(
                f"database {self._path} has schema {version}, this engine knows {newest}: use a newer engine"
            )
        for number, entry in steps:
            if number > version:
                script = f"BEGIN IMMEDIATE;\n{entry.read_text()}\nPRAGMA user_version = {number};\nCOMMIT;"
                db.executescript(script)
        return newest

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
            self._reserve.close()

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise RuntimeError(f"store {self._path} is not open")
        return self._db

    def _read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return fn(self._connection())
        except sqlite3.DatabaseError as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> Exception:
        """Return what to raise: other errors than damage and a full disk are whoever's who asked."""
        if isinstance(error, sqlite3.DatabaseError) and repair.is_damage(error):
            return DatabaseDamagedError(self._path, str(error))
        if means_full(error, self._path.parent):
            return NoSpaceError(f"write {self._path}: no space left on device")
        return error

    def _write(self, fn: Callable[[sqlite3.Connection], T], durable: bool) -> T:
        try:
            return self._on_full_disk(lambda: self._transact(self._connection(), fn, durable))
        except sqlite3.DatabaseError as error:
            raise self._explained(error) from error

    def _transact(self, db: sqlite3.Connection, fn: Callable[[sqlite3.Connection], T], durable: bool) -> T:
        if self._durable:
            # Not OFF: with NORMAL the log is still synced before it is merged into the file, which keeps that whole.
            db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        db.execute("BEGIN IMMEDIATE")
        try:
            result = fn(db)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # SQLite has rolled back by itself after some errors
                db.execute("ROLLBACK")
            raise
        return result
