"""Space that a database can still be written to when its disk is full: without it, nothing could be removed.

<name>.reserve   allocated and empty; given up when a transaction finds no space, and made again when there is some

How much: a transaction is written to the write-ahead log, which begins anew once it has reached 1,000 pages (SQLite's
``wal_autocheckpoint``) of 4,096 bytes with 24 each about them: 4,120,032 bytes with its header, 3.93 MiB. The log's
index takes 32 KiB, and is made anew at each start. So with 4 MiB any number of removals can be recorded, since they
take pages of the database itself and need no new ones. What has been given up and is not used up at once is reserved
again in whatever size there is, the half or a quarter and so on.

Of the log itself, the first MiB is allocated while the database is open, where nobody else can take it: between a
reserve's end and the write that needs it, a container that fills the disk may be quicker.
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

    def reserve_log(self) -> None:
        """Have the beginning of the write-ahead log allocated, as far as the file system knows how to."""
        with contextlib.suppress(OSError):
            fd = os.open(f"{self._database}-wal", os.O_RDWR | os.O_CLOEXEC)
            try:
                reserve(fd, _LOG_BYTES)
            finally:
                os.close(fd)

    def give_up(self) -> bool:
        """Return the space to the disk; say whether there was any."""
        held = self.size_bytes > 0 or self.path.exists()
        # Truncated, and not removed: to make it again takes no new name then, for which there may be no space either.
        with contextlib.suppress(FileNotFoundError):
            os.truncate(self.path, 0)
        self.size_bytes = 0
        return held

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
