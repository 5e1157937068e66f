"""Copy a directory of an image into a new volume: owners, modes, times, links and extended attributes included.

Both sides are walked by descriptor and no link is followed, so nothing outside is ever read or written.
"""

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Final

from runtimed.oci.rootfs import RootFs
from sampan.errors import StartError

_MAX_DEPTH: Final = 400  # below Python's own limit, and two descriptors a level stay within any process's
_PIECE: Final = 16 << 20
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NODE: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_up(root: RootFs, target: str, volume: Path) -> bool:
    """Copy what ``root`` has at ``target`` into ``volume``; return whether there was a directory to copy.

    ``volume`` itself gets its owner and mode, too. What is there under the same names is replaced.

    Raises:
        StartError: the tree is too deep, or the disk is full.
    """
    try:
        found = root.find(target)
    except OSError:
        return False
    try:
        if not stat.S_ISDIR(os.fstat(found).st_mode):
            return False
        source = os.open(".", _DIRECTORY, dir_fd=found)
    finally:
        os.close(found)
    destination = os.open(volume, _DIRECTORY)
    try:
        _Copy().directory(source, destination, 0)
    except OSError as error:
        raise StartError(f"cannot copy the image's {target} into a volume: {error.strerror}") from error
    finally:
        os.close(destination)
        os.close(source)
    return True


class _Copy:
    """One copy: remembers where each file with several names went."""

    def __init__(self) -> None:
        self._copied: dict[tuple[int, int], tuple[int, str]] = {}
        self._kept: list[int] = []  # descriptors of directories that hard links refer to

    def directory(self, source: int, destination: int, depth: int) -> None:
        """Copy everything in ``source``, and then its own attributes."""
        try:
            self._entries(source, destination, depth)
        finally:
            if depth == 0:
                for descriptor in self._kept:
                    os.close(descriptor)
        _copy_attributes(source, destination, os.fstat(source))

    def _entries(self, source: int, destination: int, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise StartError(
                f"cannot copy the image's files into a volume: more than {_MAX_DEPTH} levels of directories"
            )
        with os.scandir(source) as entries:
            names = sorted(entry.name for entry in entries)
        kept = -1
        for name in names:
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                self._subdirectory(source, destination, name, depth)
                continue
            _remove(name, destination)
            key = (status.st_dev, status.st_ino)
            if key in self._copied:
                where, first = self._copied[key]
                os.link(first, name, src_dir_fd=where, dst_dir_fd=destination, follow_symlinks=False)
                continue
            _copy_one(source, destination, name, status)
            if status.st_nlink > 1:
                if kept < 0:
                    kept = os.dup(destination)
                    self._kept.append(kept)
                self._copied[key] = (kept, name)

    def _subdirectory(self, source: int, destination: int, name: str, depth: int) -> None:
        with contextlib.suppress(FileExistsError):  # of an interrupted copy; anything but a directory fails to open
            os.mkdir(name, 0o700, dir_fd=destination)
        inner_source = os.open(name, _DIRECTORY, dir_fd=source)
        try:
            inner_destination = os.open(name, _DIRECTORY, dir_fd=destination)
            try:
                self.directory(inner_source, inner_destination, depth + 1)
            finally:
                os.close(inner_destination)
        finally:
            os.close(inner_source)


def _copy_one(source: int, destination: int, name: str, status: os.stat_result) -> None:
    kind = status.st_mode
    if stat.S_ISREG(kind):
        _copy_file(source, destination, name, status)
    elif stat.S_ISLNK(kind):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=destination)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=destination, follow_symlinks=False)
        _set_times(name, destination, status)
    elif not stat.S_ISSOCK(kind):  # a socket without its server is of no use
        os.mknod(name, stat.S_IFMT(kind) | 0o600, status.st_rdev, dir_fd=destination)
        node = os.open(name, _NODE, dir_fd=destination)
        try:
            os.chown(f"/proc/self/fd/{node}", status.st_uid, status.st_gid)
            Path(f"/proc/self/fd/{node}").chmod(stat.S_IMODE(kind))
        finally:
            os.close(node)
        _set_times(name, destination, status)


def _copy_file(source: int, destination: int, name: str, status: os.stat_result) -> None:
    reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=source)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        writing = os.open(name, flags, 0o600, dir_fd=destination)
        try:
            _copy_content(reading, writing, status.st_size)
            _copy_attributes(reading, writing, status)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_content(reading: int, writing: int, size: int) -> None:
    left = size
    in_kernel = True
    while left > 0:
        if in_kernel:
            try:
                count = os.copy_file_range(reading, writing, min(left, _PIECE))
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise
                in_kernel = False
                continue
        else:
            piece = os.read(reading, min(left, 1 << 20))
            count = len(piece)
            with memoryview(piece) as rest:
                while rest:
                    rest = rest[os.write(writing, rest) :]
        if count == 0:
            return
        left -= count


def _copy_attributes(source: int, destination: int, status: os.stat_result) -> None:
    os.fchown(destination, status.st_uid, status.st_gid)  # clears set-user-ID and capabilities: before both
    os.fchmod(destination, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        # Labels belong to the place and not to the file; not every file system takes every attribute.
        if not name.startswith(("security.selinux", "trusted.overlay.")):
            with contextlib.suppress(OSError):
                os.setxattr(destination, name, os.getxattr(source, name))
    os.utime(destination, ns=(status.st_atime_ns, status.st_mtime_ns))


def _set_times(name: str, directory: int, status: os.stat_result) -> None:
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=directory, follow_symlinks=False)


def _remove(name: str, directory: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
