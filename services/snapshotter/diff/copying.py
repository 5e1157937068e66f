"""Copy a merged tree into a directory of its own, with all that a file is."""

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sampan.sys.beneath import OPEN_DIRECTORY
from sampan.sys.files import clone
from sampan.sys.holes import data_ranges
from sampan.sys.trees import AbandonedError, Descent, Stop, never, remove_tree, shortened
from snapshotter.diff.merged import Found, MergedTree, read_xattrs
from snapshotter.model import Piece

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK: Final = 1 << 30


def copy_merged(pieces: Sequence[Piece], target: Path, stop: Stop = never) -> None:
    """Fill the empty directory ``target`` with what ``pieces``, nearest first, show. Blocks, for long.

    File data is shared with the original where the file system can (btrfs, xfs), holes stay holes, and hard links
    within one piece stay hard links. Owners, modes, times and attributes are those of the original. ``<target>.links``
    is used meanwhile. Raises OSError, and AbandonedError if ``stop`` said so.
    """
    root = os.open(target, OPEN_DIRECTORY)
    links = target.with_name(f"{target.name}.links")
    links.mkdir(mode=0o700)
    linked = os.open(links, OPEN_DIRECTORY)
    try:
        with MergedTree(pieces) as merged, Descent(root) as copied:
            _Copy(merged, copied, linked, stop).run()
    finally:
        os.close(linked)
        os.close(root)
        remove_tree(links)


class _Copy:
    def __init__(self, merged: MergedTree, copied: Descent, links: int, stop: Stop) -> None:
        self._merged = merged
        self._copied = copied
        self._stop = stop
        self._links = links  # a directory with one more name of each file that has several: any of them may be deep
        self._linked: dict[tuple[int, int], bytes] = {}
        self._clones = True  # until the file system declines

    def run(self) -> None:
        """Copy a tree; without recursion, because a tree may be deeper than the interpreter's stack."""
        merged = self._merged
        frames = [merged.entries()]
        while True:
            inner = self._level(frames[-1])
            if inner is not None:
                merged.enter(inner)
                self._copied.enter(inner.name)
                frames.append(merged.entries())
                continue
            _attributes(self._copied.fd, os.fstat(merged.fd), read_xattrs(merged.fd))
            frames.pop()
            if not frames:
                return
            merged.leave()
            self._copied.leave()
            if self._copied.depth != merged.depth:
                raise FileNotFoundError(errno.ENOENT, "moved while it was copied", shortened(self._copied.path))

    def _level(self, left: dict[bytes, int]) -> Found | None:
        """Copy entries until all are done, or one is a directory, which is made and returned."""
        while left:
            if self._stop():
                raise AbandonedError
            name, number = left.popitem()
            found = self._merged.find(name, number)
            if found is None:
                continue
            if found.is_directory:
                os.mkdir(found.name, 0o700, dir_fd=self._copied.fd)
                return found
            self._entry(self._copied.fd, found)
        return None

    def _entry(self, parent: int, found: Found) -> None:
        if found.stat.st_nlink == 1:
            self._one(parent, found)
            return
        first = self._linked.get(found.identity)
        if first is not None:
            os.link(first, found.name, src_dir_fd=self._links, dst_dir_fd=parent, follow_symlinks=False)
            return
        self._one(parent, found)
        if stat.S_ISSOCK(found.stat.st_mode):
            return
        self._linked[found.identity] = first = b"%d" % len(self._linked)
        os.link(found.name, first, src_dir_fd=parent, dst_dir_fd=self._links, follow_symlinks=False)

    def _one(self, parent: int, found: Found) -> None:
        kind = stat.S_IFMT(found.stat.st_mode)
        if kind == stat.S_IFREG:
            self._file(parent, found)
            return
        if kind == stat.S_IFSOCK:
            return  # nobody listens to a copy, and no layer can hold one
        if kind == stat.S_IFLNK:
            os.symlink(found.link(), found.name, dir_fd=parent)
        else:
            os.mknod(found.name, kind | 0o600, found.stat.st_rdev, dir_fd=parent)
        os.chown(found.name, found.stat.st_uid, found.stat.st_gid, dir_fd=parent, follow_symlinks=False)
        if kind != stat.S_IFLNK:
            os.chmod(found.name, stat.S_IMODE(found.stat.st_mode), dir_fd=parent)
        target = os.fsencode(f"/proc/self/fd/{parent}/") + found.name
        for xattr, value in found.xattrs().items():
            os.setxattr(target, xattr, value, follow_symlinks=False)
        times = (found.stat.st_atime_ns, found.stat.st_mtime_ns)
        os.utime(found.name, ns=times, dir_fd=parent, follow_symlinks=False)

    def _file(self, parent: int, found: Found) -> None:
        source = found.open()
        try:
            target = os.open(found.name, _CREATE, 0o600, dir_fd=parent)
            try:
                self._data(source, target, found.stat.st_size)
                _attributes(target, found.stat, read_xattrs(source))
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _data(self, source: int, target: int, size: int) -> None:
        if self._clones and size:
            try:
                clone(source, target)
                return
            except OSError:
                self._clones = False
        os.ftruncate(target, size)
        for begin, end in data_ranges(source, size):
            offset = begin
            while offset < end:
                copied = _copy(source, target, offset, min(end - offset, _CHUNK))
                if not copied:  # cut short while being copied
                    return
                offset += copied


def _copy(source: int, target: int, offset: int, most: int) -> int:
    """Copy bytes to where they are in the source, and return how many."""
    try:
        return os.copy_file_range(source, target, most, offset, offset)
    except OSError as error:  # since Linux 5.19 it does not cross from one kind of file system to another
        if error.errno not in (errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL):
            raise
    os.lseek(target, offset, os.SEEK_SET)
    return os.sendfile(target, source, offset, most)


def _attributes(fd: int, status: os.stat_result, xattrs: dict[str, bytes]) -> None:
    """Set owner, mode, attributes and times, in the order in which none undoes another."""
    os.fchown(fd, status.st_uid, status.st_gid)
    os.fchmod(fd, stat.S_IMODE(status.st_mode))
    for name, value in xattrs.items():
        os.setxattr(fd, name, value)
    os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
