"""What Python's ``os`` has no single call for: fsync of a directory, syncfs(2), renameat2(2), FICLONE and the like.

And what a disk that is full asks for.
"""

import ctypes
import errno
import fcntl
import os
from typing import Final

from sampan.sys.libc import LIBC, check

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_FICLONE: Final = 0x40049409
_SYNC_FILE_RANGE_WRITE: Final = 2
_SYNC_FILE_RANGE_ALL: Final = 7  # wait for what is being written, write the rest, and wait for that
_FALLOC_FL_KEEP_SIZE: Final = 1

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

_OWNER_BYTES: Final = 32


def is_full(error: BaseException) -> bool:
    """Say whether the system means that there is no space, or no quota, left."""
    return isinstance(error, OSError) and error.errno in _FULL


def reserve(fd: int, length: int, offset: int = 0) -> bool:
    """Have ``length`` bytes of a file allocated from ``offset`` on, and its size left alone; say whether that worked.

    Writes to them need no space any more, which nobody else can take either. XFS asks for as much free space as
    ``length``, whatever of it is allocated.
    """
    given = LIBC.fallocate(fd, _FALLOC_FL_KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(length))
    return bool(given == 0)


def note_owner(fd: int) -> None:
    """Write this process's pid into a lock file, over the last one's: that needs no space on a disk that is full.

    If there was none when the file was new, its owner stays unknown.
    """
    try:
        os.pwrite(fd, f"{os.getpid()}\n".ljust(_OWNER_BYTES).encode(), 0)
    except OSError as error:
        if not is_full(error):
            raise


def syncfs(path: str | os.PathLike[str]) -> None:
    """Write all that is unwritten in the file system of ``path`` to its disk; releases the GIL meanwhile."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        check(LIBC.syncfs(fd), os.fspath(path))
    finally:
        os.close(fd)


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Write the names in a directory to disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def exchange(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> None:
    """Swap two names of one file system in one step."""
    names = os.fsencode(first), os.fsencode(second)
    check(LIBC.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE), os.fspath(first))


def clone(source: int, target: int) -> None:
    """Let the file ``target`` share the blocks of ``source``. Raises OSError where the file system cannot."""
    fcntl.ioctl(target, _FICLONE, source)


def start_writing(fd: int, offset: int, length: int) -> None:
    """Have the kernel begin to bring a part of a file to disk, so that a later fsync(2) waits for less.

    A ``length`` of 0 means to the file's end.

    Only time depends on it, so a file system that cannot is not an error.
    """
    LIBC.sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(length), _SYNC_FILE_RANGE_WRITE)


def leave_memory(fd: int, offset: int, length: int) -> None:
    """Bring a part of a file to disk, and have the kernel use the memory that it was in for something else; blocks.

    It is not safe there before an fsync(2). Only time and memory depend on it, as with ``start_writing``.
    """
    LIBC.sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(length), _SYNC_FILE_RANGE_ALL)
    os.posix_fadvise(fd, offset, length, os.POSIX_FADV_DONTNEED)
