"""Space that a database can still be written to when its disk is full: without it, nothing could be removed.

<name>.reserve   allocated and empty; given up when a transaction finds no space, and made again when there is some

How much: a transaction is written to the write-ahead log, which begins anew once it has reached 1,000 pages (SQLite's
``wal_autocheckpoint``) of 4,096 bytes with 24 each about them: 4,120,032 bytes with its header, 3.93 MiB. The log's
index takes 32 KiB, and is made anew at each start. What is in the log and not yet in the database may need as much
there again. So with 4 MiB any number of removals can be recorded, since they need no new pages: the database is given
what it lacks, and then the log, merged into it, begins anew where it is.

Others wait for space, too: a container that fills the disk, another service's database. What is given up to the disk
may be theirs before the write that needs it. So it is given up in pieces, and each becomes part of the database and
its log at once. Of the log, the first MiB is allocated from the beginning, as long as the database is open, and all of
its index: that is written to in memory, and where the disk has no place for it, the process dies of SIGBUS. SQLite has
every page of it on disk beforehand, but not every block where a block is smaller.
"""

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final

from sampan.sys.files import is_full, reserve

RESERVE_BYTES: Final = 4 << 20
_LEAST_BYTES: Final = 128 << 10  # the log's index, and a few transactions
_LOG_BYTES: Final = 1 << 20
_PIECE_BYTES: Final = 512 << 10

# While less than this is left for everybody else, a full-sized reserve can wait.
_SPARE_BYTES: Final = 4 * RESERVE_BYTES

# A file that cannot grow, and one that cannot even be made (file systems with no inode left, or none that fits).
_FULL: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_TRUNCATE,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_CANTOPEN,
    }
)


def means_full(error: BaseException, directory: Path) -> bool:
    """Say whether ``error``, of SQLite or the system, comes of a disk that is full.

    SQLite's own codes leave it open for all but one of them, so the disk is asked, too.
    """
    if is_full(error):
        return True
    if not isinstance(error, sqlite3.Error):
        return False
    code = getattr(error, "sqlite_errorcode", 0)
    return code == sqlite3.SQLITE_FULL or (code in _FULL and _free_bytes(directory) < RESERVE_BYTES)


class Reserve:
    """One database's. Every call blocks; made and given up by the store's own thread alone."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self.path = database.with_name(f"{database.name}.reserve")
        self.size_bytes = 0  # as allocated
        self._fd: int | None = None
        self._index_fd: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all of it is there."""
        return self.size_bytes >= RESERVE_BYTES

    def make(self) -> None:
        """Reserve all of it if there is space enough, and otherwise, if nothing is reserved, as much as there is."""
        if self.size_bytes == 0:
            with contextlib.suppress(OSError):
                self.size_bytes = self.path.stat().st_blocks * 512
        if self.is_whole:
            return
        if _free_bytes(self.path.parent) + self.size_bytes >= _SPARE_BYTES:
            self._allocate(RESERVE_BYTES)
        size = RESERVE_BYTES
        while self.size_bytes == 0 and size >= _LEAST_BYTES:
            self._allocate(size)
            size //= 2

    def has_room(self) -> bool:
        """Say whether there is space enough for the log's index: what SQLite has in memory of it is a file."""
        return _free_bytes(self._database.parent) >= RESERVE_BYTES

    def open(self) -> None:
        """Allocate what the open database writes to without asking, and hold its files open until SQLite closes them.

        Whoever closes a file loses all locks on it that its process has (POSIX's rule), SQLite's own among them.
        """
        with contextlib.suppress(OSError):
            self._fd = os.open(self._database, os.O_RDWR | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            self._index_fd = os.open(f"{self._database}-shm", os.O_RDWR | os.O_CLOEXEC)
            reserve(self._index_fd, os.fstat(self._index_fd).st_size)
        self.reserve_log()

    def close(self) -> None:
        """Let go of the files, after SQLite has closed them."""
        for fd in (self._fd, self._index_fd):
            if fd is not None:
                os.close(fd)
        self._fd = self._index_fd = None

    def reserve_log(self, more_bytes: int = 0) -> None:
        """Have the beginning of the write-ahead log allocated, as far as the file system knows how to.

        With ``more_bytes``, so much more than is allocated now.
        """
        with contextlib.suppress(OSError):
            fd = os.open(f"{self._database}-wal", os.O_RDWR | os.O_CLOEXEC)
            try:
                allocated = os.fstat(fd).st_blocks * 512
                lacking = more_bytes or _LOG_BYTES - allocated
                if lacking > 0:
                    reserve(fd, lacking, allocated)
            finally:
                os.close(fd)

    def give_up(self, database_bytes: int | None = None) -> bool:
        """Give up a piece; say whether there was anything left.

        It goes to the database, if that has fewer than ``database_bytes``, and what remains of it to the log; with
        None, to the disk.
        """
        with contextlib.suppress(OSError):
            self.size_bytes = self.path.stat().st_blocks * 512
        if self.size_bytes == 0:
            return False
        left = max(0, self.size_bytes - _PIECE_BYTES)
        if left < _LEAST_BYTES:
            left = 0
        given, self.size_bytes = self.size_bytes - left, left
        # Truncated, and not removed: to make it again takes no new name then, for which there may be no space either.
        os.truncate(self.path, left)
        if database_bytes is not None and self._fd is not None:
            allocated = os.fstat(self._fd).st_blocks * 512
            lacking = min(max(0, database_bytes - allocated), given)
            if lacking and reserve(self._fd, lacking, allocated):
                given -= lacking
            if given:
                self.reserve_log(given)
        return True

    def _allocate(self, size: int) -> None:
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return  # no inode is left
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError:
            os.ftruncate(fd, self.size_bytes)  # what a failed attempt has allocated
        finally:
            self.size_bytes = os.fstat(fd).st_blocks * 512
            os.close(fd)


def _free_bytes(directory: Path) -> int:
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize
