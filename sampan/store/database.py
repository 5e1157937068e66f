"""A service's own SQLite file: one writer thread, forward-only schema.

Only its owner opens a database; others ask over gRPC. A copy of it follows its changes (see ``store_repair``), so that
a damaged one can be mended.
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

from sampan.errors import ConflictError, DatabaseDamagedError, DataLossError
from sampan.log import log
from sampan.store import repair
from sampan.store.repair import Restored

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


class Store:
    """One database, one thread: transactions queue in memory and never meet "database is locked"."""

    def __init__(self, path: Path, schema: str, *, durable: bool = True) -> None:
        """Name the file, and the package whose numbered ``.sql`` files are its schema.

        With ``durable`` false nothing is ever synced: for tests, whose machine does not lose its power.
        """
        self._path = path
        self._schema = schema
        self._durable = durable
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"store-{path.stem}")
        self._db: sqlite3.Connection | None = None
        self._copier: asyncio.Task[None] | None = None
        self._changed = False  # since the copy was made
        self._closing = asyncio.Event()
        self._copying_s = 0.0
        self.restored: Restored | None = None  # what took the place of a damaged database, until ``settle``

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    async def __aenter__(self) -> Self:
        """Open the database and bring its schema up to date.

        Raises:
            ConflictError: the file was written by a newer version of the engine.
            DatabaseDamagedError: the file is not a database, or not whole, or gone.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Finish what is queued and close; later calls fail."""
        self._closing.set()
        if self._copier is not None:
            await self._copier
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=True)

    async def write(self, fn: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        """Run ``fn`` in one transaction; roll back if it raises.

        With ``durable`` false nobody waits for the disk: the transaction survives the process, and is lost with the
        machine's power unless a durable one has followed. That is right for what a reboot ends anyway.

        Cancelling a waiting caller leaves its transaction either never begun or wholly finished.
        """
        result = await asyncio.get_running_loop().run_in_executor(self._thread, self._write, fn, durable)
        if durable and self._durable:
            self._changed = True
            if self._copier is None or self._copier.done():
                self._copier = asyncio.create_task(self._follow(), name=f"copy {self._path.name}")
        return result

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``fn``, which changes nothing."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, fn)

    async def settle(self) -> None:
        """Say that whatever a repaired database needs to be put right beside it has been."""
        await asyncio.to_thread(repair.forget, self._path)

    async def _follow(self) -> None:
        """Copy what has changed, and again what changes meanwhile; ends when nothing does, or soon after closing."""
        while self._changed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(_COPY_AFTER_S, self._copying_s / _COPYING_SHARE)):
                    await self._closing.wait()
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
        self.restored = repair.carry_out(self._path)
        if self.restored is not None:
            log.warning("database repaired", path=str(self._path), how=self.restored.how, aside=self.restored.aside)
        elif repair.is_lost(self._path):
            raise DatabaseDamagedError(self._path, "its file is gone or empty")
        # The writer thread is the only one to touch the connection, which sqlite3 checks.
        db = sqlite3.connect(self._path, isolation_level=None)
        db.row_factory = sqlite3.Row
        try:
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
            if not repair.is_damage(error):
                raise DataLossError(f"database {self._path} cannot be opened: {error}") from error
            raise DatabaseDamagedError(self._path, str(error)) from error
        except BaseException:
            db.close()
            raise
        self._db = db
        if self._durable and not repair.copy_is_of_schema(self._path, version):
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

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise RuntimeError(f"store {self._path} is not open")
        return self._db

    def _read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return fn(self._connection())
        except sqlite3.DatabaseError as error:
            raise self._explained(error) from error

    def _explained(self, error: sqlite3.DatabaseError) -> Exception:
        """Return what to raise: other errors than damage are whoever's who asked."""
        return DatabaseDamagedError(self._path, str(error)) if repair.is_damage(error) else error

    def _write(self, fn: Callable[[sqlite3.Connection], T], durable: bool) -> T:
        try:
            return self._transact(self._connection(), fn, durable)
        except sqlite3.DatabaseError as error:
            raise self._explained(error) from error

    def _transact(self, db: sqlite3.Connection, fn: Callable[[sqlite3.Connection], T], durable: bool) -> T:
        if self._durable:
            # Not OFF: with NORMAL the log is still synced before it is merged into the file, which keeps that whole.
            db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        db.execute("BEGIN IMMEDIATE")
        try:
            result = fn(db)
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")
        return result
