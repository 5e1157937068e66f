"""Directories below one root, opened so that no name or link leads out of it.

Every step is an openat(2) of one component with O_NOFOLLOW, relative to a descriptor that was reached the same way.
Links on the way are resolved here, as they would be for a process whose root directory this is.
"""

import errno
import os
import stat
from collections import OrderedDict
from typing import Final, Protocol

from sampan.errors import InvalidArgumentError
from sampan.sys.beneath import OPEN_DIRECTORY, open_directory
from sampan.sys.trees import discard
from snapshotter.drivers.whiteouts import is_whiteout

_MAX_LINKS: Final = 40  # as the kernel's MAXSYMLINKS
# A layer's entries come directory by directory, so few descriptors serve nearly all of them.
_MAX_OPEN: Final = 128


class Made(Protocol):
    """Who is to know of directories."""

    def __call__(self, path: bytes, *, over_whiteout: bool) -> None:
        """Take note of one just made, perhaps in the place of a whiteout."""


class Directories:
    """Finds, makes and remembers the directories of a tree. Paths are relative, clean, ``b""`` for the root."""

    def __init__(self, root: int, trash: int, made: Made) -> None:
        """Take descriptors of the root and of a directory for what is removed; both stay the caller's.

        ``made`` is told of each directory made on the way.
        """
        self._root = root
        self._trash = trash
        self._made = made
        self._open: OrderedDict[bytes, int] = OrderedDict()
        self._aliases: dict[bytes, bytes] = {}

    def close(self) -> None:
        """Close all descriptors but the root's; safe to repeat."""
        while self._open:
            os.close(self._open.popitem()[1])

    def fd(self, path: bytes) -> int:
        """Return a descriptor of a directory that has no link in its path; good until after the next call.

        Raises:
            FileNotFoundError, NotADirectoryError: it is not there, or not a directory itself.
        """
        if not path:
            return self._root
        fd = self._open.get(path)
        if fd is not None:
            self._open.move_to_end(path)
            return fd
        parent, _, name = path.rpartition(b"/")
        held = self._root if not parent else self._open.get(parent)
        fd = open_directory(self._root, path) if held is None else os.open(name, OPEN_DIRECTORY, dir_fd=held)
        if len(self._open) >= _MAX_OPEN:
            os.close(self._open.popitem(last=False)[1])
        self._open[path] = fd
        return fd

    def resolve(self, path: bytes, *, make: bool) -> bytes:
        """Return the path, free of links, of the directory that ``path`` names.

        Links are followed with ``/`` and ``..`` meaning the root and no further. With ``make``, what is missing is
        made, root's, mode 0755.

        Raises:
            InvalidArgumentError: something on the way is not a directory, or missing, or links go in a circle.
        """
        if path in self._open or not path:
            return path
        known = self._aliases.get(path)
        if known is not None:
            return known
        real = self._walk(path, make=make)
        if real != path:
            self._aliases[path] = real
        return real

    def forget(self, path: bytes) -> None:
        """Drop what is remembered of ``path`` and below: it is about to be removed or replaced."""
        below = path + b"/"
        for held in [held for held in self._open if held == path or held.startswith(below)]:
            os.close(self._open.pop(held))
        self._aliases.clear()

    def remove(self, path: bytes) -> None:
        """Remove whatever is at ``path``; a directory, with all it holds, goes to the trash."""
        parent, _, name = path.rpartition(b"/")
        self.forget(path)
        parent_fd = self.fd(parent)
        if stat.S_ISDIR(os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode):
            discard(parent_fd, name, self._trash)
        else:
            os.unlink(name, dir_fd=parent_fd)

    def _walk(self, path: bytes, *, make: bool) -> bytes:
        todo = path.split(b"/")[::-1]
        real = b""
        links = 0
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                real = real.rpartition(b"/")[0]
                continue
            step = real + b"/" + part if real else part
            try:
                self.fd(step)
                real = step
            except FileNotFoundError:
                if not make:
                    raise InvalidArgumentError(f"directory {_shown(step)} is missing") from None
                os.mkdir(part, 0o755, dir_fd=self.fd(real))
                self._made(step, over_whiteout=False)
                real = step
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                if make and is_whiteout(os.stat(part, dir_fd=self.fd(real), follow_symlinks=False)):
                    os.unlink(part, dir_fd=self.fd(real))
                    os.mkdir(part, 0o755, dir_fd=self.fd(real))
                    self._made(step, over_whiteout=True)
                    real = step
                    continue
                links += 1
                if links > _MAX_LINKS:
                    raise InvalidArgumentError(f"links at {_shown(step)} lead in a circle") from None
                target = self._target(real, part, step)
                if target.startswith(b"/"):
                    real = b""
                todo += target.split(b"/")[::-1]
        return real

    def _target(self, parent: bytes, name: bytes, path: bytes) -> bytes:
        try:
            return os.readlink(name, dir_fd=self.fd(parent))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise InvalidArgumentError(f"{_shown(path)} is not a directory") from None


def _shown(path: bytes) -> str:
    return repr(path[:120].decode(errors="backslashreplace"))
