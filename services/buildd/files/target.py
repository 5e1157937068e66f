"""Write below one root: directories on the way, files, attributes; as a copy and as the unpacking of an archive do.

The process must be root, with umask 0.
"""

import errno
import os
import stat
from typing import Final

from buildd.files.modes import Ids
from buildd.files.root import Root, join, split
from buildd.files.walk import Xattrs, proc_path
from sampan.errors import InvalidArgumentError, NoSpaceError, NotFoundError, SampanError
from sampan.sys.beneath import OPEN_DIRECTORY
from sampan.sys.files import is_full
from sampan.sys.holes import data_ranges
from sampan.sys.trees import remove_tree_at

CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

# Not on this file system, or not on such a file; a copy goes without.
_UNSUPPORTED: Final = (errno.ENOTSUP, errno.EPERM, errno.EINVAL)
_SMALL_BYTES: Final = 128 << 10
_CHUNK: Final = 1 << 30


def make_directories(root: Root, real: str, mode: int, owner: Ids | None, time_ns: int) -> None:
    """Make a directory and those on the way that are missing; only what is made gets mode, owner and time.

    A time of -1 is now. Raises InvalidArgumentError: something on the way is no directory.
    """
    missing: list[str] = []
    while real:
        found = root.stat(real)
        if found is not None:
            if not stat.S_ISDIR(found.st_mode):
                raise InvalidArgumentError(f"mkdir /{real}: not a directory")
            break
        real, name = split(real)
        missing.append(name)
    for name in reversed(missing):
        parent = root.directory(real)
        try:
            os.mkdir(name, mode, dir_fd=parent)
        finally:
            os.close(parent)
        real = join(real, name)
        fd = root.directory(real)
        try:
            if owner is not None:
                os.fchown(fd, owner.uid, owner.gid)
            os.fchmod(fd, mode)
            if time_ns >= 0:
                os.utime(fd, ns=(time_ns, time_ns))
        finally:
            os.close(fd)


def make_room(parent: int, name: str) -> bool:
    """Remove what is in the place of a new file; say whether there is room: a directory is left."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return True
    except IsADirectoryError:
        return False
    return True


def remove(parent: int, name: str) -> None:
    """Remove whatever is there, with all it holds."""
    remove_tree_at(parent, os.fsencode(name))


def set_attributes(fd: int, ids: Ids, mode: int, xattrs: Xattrs, time_ns: int) -> None:
    """Give an open file what is its own, in the order in which nothing undoes another; a time of -1 is left."""
    os.fchown(fd, ids.uid, ids.gid)
    os.fchmod(fd, mode)
    for name, value in xattrs.items():
        _set_xattr(fd, name, value)
    if time_ns >= 0:
        os.utime(fd, ns=(time_ns, time_ns))


def set_attributes_at(parent: int, name: str, ids: Ids, mode: int, xattrs: Xattrs, time_ns: int) -> None:
    """Likewise, of a link, device or FIFO just made, none of which may be opened; a ``mode`` of -1 is a link's."""
    os.chown(name, ids.uid, ids.gid, dir_fd=parent, follow_symlinks=False)
    if mode >= 0:
        os.chmod(name, mode, dir_fd=parent)  # no link: it was just made
    for xattr, value in xattrs.items():
        _set_xattr(proc_path(parent, name), xattr, value)
    os.utime(name, ns=(time_ns, time_ns), dir_fd=parent, follow_symlinks=False)


def _set_xattr(file: int | str, name: str, value: bytes) -> None:
    try:
        if isinstance(file, int):
            os.setxattr(file, name, value)
        else:
            os.setxattr(file, name, value, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def open_directory(parent: int, name: str) -> int:
    """Return a descriptor of a directory in an open one; a link is none. Raises OSError."""
    return os.open(name, OPEN_DIRECTORY, dir_fd=parent)


def copy_data(source: int, target: int, status: os.stat_result) -> None:
    """Copy a regular file's bytes into an empty file; holes stay holes, blocks are shared where that works."""
    size = status.st_size
    sparse = status.st_blocks * 512 < size
    if size <= _SMALL_BYTES and not sparse:
        while piece := os.read(source, _SMALL_BYTES):
            write(target, piece)
        return
    if not sparse:
        _copy_part(source, target, 0, size)
        return
    os.ftruncate(target, size)
    for begin, end in data_ranges(source, size):
        _copy_part(source, target, begin, end)


def _copy_part(source: int, target: int, offset: int, end: int) -> None:
    while offset < end:
        most = min(end - offset, _CHUNK)
        try:
            copied = os.copy_file_range(source, target, most, offset, offset)
        except OSError as error:  # it does not cross from one kind of file system to another
            if error.errno not in (errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL):
                raise
            os.lseek(target, offset, os.SEEK_SET)
            copied = os.sendfile(target, source, offset, most)
        if not copied:
            return
        offset += copied


def write(fd: int, piece: bytes | memoryview) -> None:
    """Write all of ``piece``."""
    written = os.write(fd, piece)
    while written < len(piece):  # only where the disk or a limit ends, and then the next call says so
        written += os.write(fd, piece[written:])


def translated(error: OSError, doing: str) -> SampanError:
    """Return what a failure of the system is to whoever builds."""
    what = f"{doing}: {(error.strerror or '').lower() or error}"
    if is_full(error):
        return NoSpaceError(what)
    if error.errno == errno.ENOENT:
        return NotFoundError(what)
    return InvalidArgumentError(what)
