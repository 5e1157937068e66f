"""A file of a container, or a directory with all that is in it, as a tar.

The tree may change while it is walked, and it may be as deep and as wide as its maker liked: see ``sampan.sys.trees``.
Each file is opened once, without an effect (O_PATH), and then looked at and read through that descriptor alone.
"""

import errno
import os
import stat
from collections.abc import Callable
from typing import Final

from runtimed.archives.lookup import NODE, Found
from sampan.sys.beneath import of_kernel_file_system
from sampan.sys.trees import Descent, Names
from sampan.tar.entry import Entry, EntryType
from sampan.tar.writer import TarWriter

_TYPES: Final = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFDIR: EntryType.DIRECTORY,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFCHR: EntryType.CHAR_DEVICE,
    stat.S_IFBLK: EntryType.BLOCK_DEVICE,
    stat.S_IFIFO: EntryType.FIFO,
}
# What a walk meets where the tree changes under it.
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE})


class TreeWriter:
    """Writes one tree. Of the kernel's file systems only their root is written, an empty directory."""

    def __init__(self, writer: TarWriter, send_file: Callable[[int, int], None]) -> None:
        """``send_file`` sends so many bytes of an open file where ``writer`` writes to, without their passing it.

        Of a file that has been cut short meanwhile it sends zeros for the rest: the header has promised them.
        """
        self._writer = writer
        self._send_file = send_file
        self._linked: dict[tuple[int, int], bytes] = {}  # files with several names: the first one
        self._kernel: dict[int, bool] = {}  # by st_dev

    def pack(self, found: Found, name: bytes) -> None:
        """Write ``found`` under ``name``, and below it what is in it.

        Raises:
            OSError: a file cannot be read.
        """
        status = os.fstat(found.fd)
        self._add(found.fd, status, name)
        if stat.S_ISDIR(status.st_mode) and not self._is_kernels(found.fd, status):
            with Descent(found.fd) as descent:
                self._walk(descent, name)

    def _walk(self, descent: Descent, base: bytes) -> None:
        pending = [_names(descent.fd)]
        while True:
            if pending[-1]:
                name = pending[-1].pop()
                if self._child(descent, name, base) and _entered(descent, name):
                    # It may be another one than a moment ago, and a kernel file system's.
                    kernels = self._is_kernels(descent.fd, os.fstat(descent.fd))
                    pending.append(Names() if kernels else _names(descent.fd))
            elif descent.depth:
                descent.leave()
                del pending[descent.depth + 1 :]
            else:
                return

    def _child(self, descent: Descent, name: bytes, base: bytes) -> bool:
        """Write what is called ``name``; return whether to go into it."""
        try:
            fd = os.open(name, NODE, dir_fd=descent.fd)
        except OSError as error:
            if error.errno in _GONE:
                return False
            raise
        try:
            status = os.fstat(fd)
            kernels = self._is_kernels(fd, status)
            directory = stat.S_ISDIR(status.st_mode)
            if kernels and not directory:
                return False
            self._add(fd, status, b"/".join((base, descent.path, name) if descent.depth else (base, name)))
            return directory and not kernels
        finally:
            os.close(fd)

    def _is_kernels(self, fd: int, status: os.stat_result) -> bool:
        known = self._kernel.get(status.st_dev)
        if known is None:
            known = self._kernel[status.st_dev] = of_kernel_file_system(fd)
        return known

    def _add(self, fd: int, status: os.stat_result, name: bytes) -> None:
        kind = _TYPES.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            return  # a socket, which no archive can hold
        if status.st_nlink > 1 and kind is not EntryType.DIRECTORY:
            first = self._linked.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                self._writer.add(_entry(fd, name, EntryType.HARD_LINK, status, first))
                return
        if kind is EntryType.FILE:
            self._add_file(fd, name)
            return
        link = os.readlink(b"", dir_fd=fd) if kind is EntryType.SYMLINK else b""
        self._writer.add(_entry(fd, name, kind, status, link))

    def _add_file(self, node: int, name: bytes) -> None:
        fd = os.open(f"/proc/self/fd/{node}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            self._writer.add(_entry(node, name, EntryType.FILE, status, b""))
            if status.st_size:
                self._writer.passed_by(status.st_size)
                self._send_file(fd, status.st_size)
        finally:
            os.close(fd)


def _names(directory: int) -> Names:
    try:
        return Names(os.fsencode(name) for name in sorted(os.listdir(directory), reverse=True))
    except OSError as error:
        if error.errno in _GONE:
            return Names()
        raise


def _entered(descent: Descent, name: bytes) -> bool:
    try:
        descent.enter(name)
    except OSError as error:
        if error.errno in (*_GONE, errno.ELOOP):  # another one by now, or a link
            return False
        raise
    return True


def _entry(fd: int, name: bytes, kind: EntryType, status: os.stat_result, link: bytes) -> Entry:
    return Entry.of(name, kind, status, _xattrs(fd) if kind in (EntryType.FILE, EntryType.DIRECTORY) else {}, link)


def _xattrs(fd: int) -> dict[str, bytes]:
    path = f"/proc/self/fd/{fd}"  # an O_PATH descriptor has no attributes of its own
    xattrs = {}
    try:
        for name in os.listxattr(path):
            if name.startswith(("security.capability", "user.")):
                xattrs[name] = os.getxattr(path, name)
    except OSError:
        return {}
    return xattrs
