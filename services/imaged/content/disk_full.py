"""A full disk, said in our own words wherever something is stored."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sampan.errors import ResourceExhaustedError

# The second: the write-ahead log's index cannot grow.
_SQLITE_FULL: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})


@contextmanager
def storing(what: str) -> Iterator[None]:
    """Name ``what`` when the disk is full.

    Raises:
        ResourceExhaustedError: no space, or no quota, is left.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ResourceExhaustedError(f"write {what}: no space left on device") from error
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode not in _SQLITE_FULL:
            raise
        raise ResourceExhaustedError(f"record {what}: no space left on device") from error
