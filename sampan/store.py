"""A service's own SQLite file: one writer thread, forward-only schema.

Only its owner opens a database; others ask over gRPC.
"""

import asyncio
import re
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Final, Self, TypeVar

from sampan.errors import ConflictError, DataLossError

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

    async def __aenter__(self) -> Self:
        """Open the database and bring its schema up to date.

        Raises:
            ConflictError: the file was written by a newer version of the engine.
            DataLossError: the file is not a database.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Finish what is queued and close; later calls fail."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=True)

    async def write(self, fn: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        """Run ``fn`` in one transaction; roll back if it raises.

        With ``durable`` false nobody waits for the disk: the transaction survives the process, and is lost with the
        machine's power unless a durable one has followed. That is right for what a reboot ends anyway.

        Cancelling a waiting caller leaves its transaction either never begun or wholly finished.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._write, fn, durable)

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``fn``, which changes nothing."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, fn)

    def _open(self) -> None:
        # The writer thread is the only one to touch the connection, which sqlite3 checks.
        db = sqlite3.connect(self._path, isolation_level=None)
        db.row_factory = sqlite3.Row
        try:
            for pragma in _PRAGMAS:
                db.execute(pragma)
            if not self._durable:
                db.execute("PRAGMA synchronous = OFF")
            self._migrate(db)
        except sqlite3.DatabaseError as error:
            db.close()
            raise DataLossError(f"database {self._path} is damaged: {error}") from error
        except BaseException:
            db.close()
            raise
        self._db = db

    def _migrate(self, db: sqlite3.Connection) -> None:
        steps = sorted(
            (int(match[1]), entry)
            for entry in resources.files(self._schema).iterdir()
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

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise RuntimeError(f"store {self._path} is not open")
        return self._db

    def _read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        return fn(self._connection())

    def _write(self, fn: Callable[[sqlite3.Connection], T], durable: bool) -> T:
        db = self._connection()
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
