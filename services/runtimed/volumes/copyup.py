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
from sampan.sys.beneath import open_directory
from sampan.sys.trees import Descent, Names, shortened

_PIECE: Final = 16 << 20
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NODE: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_up(root: RootFs, target: str, volume: Path) -> bool:
    """Copy what ``root`` has at ``target`` into ``volume``; return whether there was a directory to copy.

    ``volume`` itself gets its owner and mode, too. What is there under the same names is replaced.

    Raises:
        StartError: the disk is full, or somebody changes the volume meanwhile.
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
        with Descent(source) as here, Descent(destination) as there:
            _Copy(here, there, destination).run()
    except OSError as error:
        raise StartError(f"cannot copy the image's {target} into a volume: {error.strerror}") from error
    finally:
        os.close(destination)
        os.close(source)
    return True


def copy_up_from(root: Path, target: str, volume: Path) -> None:
    """As ``copy_up``, for a root that is mounted at ``root``."""
    with RootFs(root) as inside:
        copy_up(inside, target, volume)


class _Copy:
    """One copy: remembers where each file with several names went."""

    def __init__(self, source: Descent, destination: Descent, root: int) -> None:
        self._source = source
        self._destination = destination
        self._root = root  # the destination's
        self._copied: dict[tuple[int, int], tuple[bytes, bytes]] = {}  # directory and name below the root

    def run(self) -> None:
        """Copy everything in the source, directories' attributes last, as what is made in them changes their times."""
        source, destination = self._source, self._destination
        frames = [self._files()]
        while True:
            if frames[-1]:
                name = frames[-1].pop()
                with contextlib.suppress(FileExistsError):  # of an interrupted copy; anything else fails to open
                    os.mkdir(name, 0o700, dir_fd=destination.fd)
                source.enter(name)
                destination.enter(name)
                frames.append(self._files())
                continue
            _copy_attributes(source.fd, destination.fd, os.fstat(source.fd))
            frames.pop()
            if not frames:
                return
            source.leave()
            destination.leave()
            if not len(frames) == source.depth + 1 == destination.depth + 1:
                raise OSError(errno.ESTALE, "a directory was moved while it was copied", shortened(destination.path))

    def _files(self) -> Names:
        """Copy what is no directory from where we are, and return the names of the directories."""
        source, destination = self._source.fd, self._destination.fd
        directories = []
        with os.scandir(source) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                status = os.stat(name, dir_fd=source, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    directories.append(name)
                    continue
                _remove(name, destination)
                if status.st_nlink == 1 or not self._link(name, status):
                    _copy_one(source, destination, name, status)
        return Names(sorted(directories, reverse=True))

    def _link(self, name: bytes, status: os.stat_result) -> bool:
        """Make ``name`` one more of a file that was copied under another; return False if it was not copied yet."""
        here = self._destination.path
        directory, first = self._copied.setdefault((status.st_dev, status.st_ino), (here, name))
        if (directory, first) == (here, name):
            return False
        where = open_directory(self._root, directory)
        try:
            os.link(first, name, src_dir_fd=where, dst_dir_fd=self._destination.fd, follow_symlinks=False)
        finally:
            os.close(where)
        return True


def _copy_one(source: int, destination: int, name: bytes, status: os.stat_result) -> None:
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


def _copy_file(source: int, destination: int, name: bytes, status: os.stat_result) -> None:
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


def _set_times(name: bytes, directory: int, status: os.stat_result) -> None:
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=directory, follow_symlinks=False)


def _remove(name: bytes, directory: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
