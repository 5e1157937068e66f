"""Walk a directory for a receiver, and read the files that it asks for.

The directory is a result of a build, so its links may lead anywhere: none is followed.

Reference: tonistiigi/fsutil, ``send.go``, ``stat.go``; written anew.
"""

import os
import stat
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from sampan.errors import ConflictError, InvalidArgumentError
from sampan.fsutil.entry import Entry
from sampan.fsutil.selection import Chosen, Selection
from sampan.sys.beneath import OPEN_DIRECTORY, open_directory
from sampan.sys.trees import AbandonedError, Descent, Stop, never

_XATTRS: Final = ("user.", "security.capability")
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PIECE_BYTES: Final = 128 << 10
_ALL: Final = Chosen(told=True, entered=True)


class TreeSender:
    """One transfer out of one directory. Any thread may use it, one at a time; ``close`` it, whatever happened."""

    def __init__(self, directory: Path, selection: Selection | None = None, stop: Stop = never) -> None:
        """Of what ``selection`` does not choose nothing is told."""
        self._selection = selection
        self._root = os.open(directory, OPEN_DIRECTORY)
        self._stop = stop
        self._walk = self._entries()
        self._files: dict[int, bytes] = {}  # regular ones that were told and not asked for
        self._inodes: dict[tuple[int, int], bytes] = {}  # of files with several names, the first one
        self._count = 0
        self._wanted: deque[int] = deque()
        self._fd = -1  # of the first of these, once it is open

    def close(self) -> None:
        """Let go; safe to repeat."""
        self._walk.close()
        for fd in (self._fd, self._root):
            if fd >= 0:
                os.close(fd)
        self._fd = self._root = -1

    def entries(self, count: int) -> list[Entry]:
        """Return the next entries of the walk, ``count`` at most; none at its end.

        Raises:
            ConflictError: somebody moves directories meanwhile.
        """
        found: list[Entry] = []
        for entry in self._walk:
            found.append(entry)
            if len(found) == count:
                break
        if self._stop():
            raise AbandonedError
        return found

    def want(self, number: int) -> None:
        """Have the content of the entry of this number read. InvalidArgumentError: it has none, or was asked for."""
        if number not in self._files:
            raise InvalidArgumentError(f"the receiver of files asks for the content of {number}, which is no file")
        self._wanted.append(number)

    def pieces(self, budget: int) -> list[tuple[int, bytes]]:
        """Return content that was asked for, as numbers and pieces, some ``budget`` bytes in all.

        An empty piece ends a file, one that cannot be read any more too. None: nothing is asked for.
        """
        found: list[tuple[int, bytes]] = []
        while self._wanted and budget > 0:
            number = self._wanted[0]
            data = self._read(number)
            found.append((number, data))
            budget -= len(data) + 64
            if not data:
                self._wanted.popleft()
                self._files.pop(number, None)
        if self._stop():
            raise AbandonedError
        return found

    def _read(self, number: int) -> bytes:
        if self._fd < 0:
            parent, _, name = self._files.get(number, b"").rpartition(b"/")
            try:
                directory = open_directory(self._root, parent)
            except OSError:
                return b""
            try:
                fd = os.open(name, _READ, dir_fd=directory)
            except OSError:  # asked for twice, gone, or no file any more
                return b""
            finally:
                os.close(directory)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                os.close(fd)
                return b""
            self._fd = fd
        data = os.read(self._fd, _PIECE_BYTES)
        if not data:
            os.close(self._fd)
            self._fd = -1
        return data

    def _entries(self) -> Generator[Entry, None, None]:
        with Descent(self._root) as descent:
            names = [_names(descent.fd)]
            untold: list[tuple[bytes, os.stat_result]] = []  # directories on the way that are told with what is in them
            while names:
                name = next(names[-1], None)
                if name is None:
                    names.pop()
                    if names:
                        descent.leave()
                        if descent.depth != len(names) - 1:
                            raise ConflictError("the directory that is sent was changed meanwhile")
                    continue
                path = descent.path + b"/" + name if descent.depth else name
                try:
                    status = os.stat(name, dir_fd=descent.fd, follow_symlinks=False)
                except FileNotFoundError:  # removed meanwhile
                    continue
                directory = stat.S_ISDIR(status.st_mode)
                chosen = _ALL if self._selection is None else self._selection.choose(path, directory=directory)
                if directory:
                    del untold[len(names) - 1 :]
                if chosen.told:
                    yield from self._told(untold)
                    yield self._entry(path, status, descent.fd, name)
                    self._count += 1
                elif directory and chosen.entered:
                    untold.append((path, status))
                if directory and chosen.entered:
                    descent.enter(name)
                    names.append(_names(descent.fd))

    def _told(self, untold: list[tuple[bytes, os.stat_result]]) -> Iterator[Entry]:
        for path, status in untold:
            yield Entry(path, status.st_mode, 0, status.st_mtime_ns, uid=status.st_uid, gid=status.st_gid)
            self._count += 1
        untold.clear()

    def _entry(self, path: bytes, status: os.stat_result, directory: int, name: bytes) -> Entry:
        mode, size, link, major, minor = status.st_mode, status.st_size, b"", 0, 0
        if stat.S_ISDIR(mode):
            size = 0
        elif stat.S_ISLNK(mode):
            link = os.readlink(name, dir_fd=directory)
        else:
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
            if status.st_nlink > 1:
                first = self._inodes.setdefault((status.st_dev, status.st_ino), path)
                if first != path:
                    size, link = 0, first
            # The receiver may ask for the content of whatever is told as a regular file, a socket and a link too.
            if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISFIFO(mode)):
                self._files[self._count] = path
        xattrs = _xattrs(directory, name)
        return Entry(path, mode, size, status.st_mtime_ns, link, major, minor, xattrs, status.st_uid, status.st_gid)


def _names(fd: int) -> Iterator[bytes]:
    return iter(sorted(map(os.fsencode, os.listdir(fd))))


def _xattrs(directory: int, name: bytes) -> Mapping[str, bytes] | None:
    path = b"/proc/self/fd/%d/%s" % (directory, name)
    try:
        keys = [key for key in os.listxattr(path, follow_symlinks=False) if key.startswith(_XATTRS)]
    except OSError:
        return None  # the file system has none
    found = {}
    for key in keys:
        with suppress(OSError):  # removed meanwhile
            found[key] = os.getxattr(path, key, follow_symlinks=False)
    return found or None
