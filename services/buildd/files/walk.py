"""Everything that is selected below a directory, in an order that is always the same, however deep it goes."""

import os
import stat
from typing import Final, Protocol

from buildd.files.selecting import Patterns
from sampan.sys.trees import Descent

# What overlayfs has for something removed. A view of a single layer shows it.
_WHITEOUTS: Final = frozenset(os.makedev(0, minor) for minor in (0, 1))

Xattrs = dict[str, bytes]

# Never part of a file's own: overlayfs's bookkeeping, ours, and labels of the host's policy.
_OTHERS: Final = ("trusted.overlay.", "trusted.sampan.", "security.selinux")


class Visitor(Protocol):
    """Who is shown the files. Descriptors are good during the call."""

    def enter(self, name: str, status: os.stat_result, xattrs: Xattrs) -> None:
        """A directory; what follows up to ``leave`` is in it."""

    def leave(self) -> None:
        """The end of a directory."""

    def file(self, parent: int, name: str, status: os.stat_result) -> None:
        """Anything else, in the directory with the descriptor ``parent``."""


def walk(directory: int, visitor: Visitor, patterns: Patterns, prefix: str = "") -> None:
    """Show a visitor all below a directory that ``patterns`` select, and the directories on the way to it.

    ``prefix`` is the directory's own path as patterns know it, with a slash at its end.
    """
    with Descent(directory) as descent:
        _Walk(descent, visitor, patterns, prefix).run()


class _Frame:
    """A directory being shown."""

    __slots__ = ("name", "names", "prefix", "shown", "status", "xattrs")

    def __init__(self, names: list[str], prefix: str, name: str = "") -> None:
        self.names = names
        self.prefix = prefix
        self.name = name
        self.shown = True
        self.status: os.stat_result | None = None
        self.xattrs: Xattrs = {}


class _Walk:
    def __init__(self, descent: Descent, visitor: Visitor, patterns: Patterns, prefix: str) -> None:
        self._descent = descent
        self._visitor = visitor
        self._patterns = patterns
        self._all = patterns.all
        self._frames = [_Frame(_sorted(descent.fd), prefix)]

    def run(self) -> None:
        frames = self._frames
        while True:
            frame = frames[-1]
            if self._level(frame):
                continue
            frames.pop()
            if not frames:
                return
            self._descent.leave()
            if frame.shown:
                self._visitor.leave()

    def _level(self, frame: _Frame) -> bool:
        """Show what is in a directory up to its end, or up to a directory that is entered; say if one was."""
        names, prefix, fd = frame.names, frame.prefix, self._descent.fd
        while names:
            name = names.pop()
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            kind = stat.S_IFMT(status.st_mode)
            # Paths are for patterns alone: those of a tree that is deep enough would take all memory.
            path = "" if self._all else prefix + name
            taken = self._all or self._patterns.takes(path)
            if kind == stat.S_IFDIR:
                if taken or self._patterns.enters(path, taken=taken):
                    self._enter(name, path, status, taken=taken)
                    return True
            elif taken and kind != stat.S_IFSOCK and not (kind == stat.S_IFCHR and status.st_rdev in _WHITEOUTS):
                if not self._all:
                    self._show(self._frames)
                self._visitor.file(fd, name, status)
        return False

    def _enter(self, name: str, path: str, status: os.stat_result, *, taken: bool) -> None:
        self._descent.enter(os.fsencode(name))
        frame = _Frame(_sorted(self._descent.fd), path and f"{path}/", name)
        frame.status, frame.xattrs, frame.shown = status, read_xattrs(self._descent.fd), False
        self._frames.append(frame)
        if taken:
            self._show(self._frames)

    def _show(self, frames: list[_Frame]) -> None:
        """Show the directories on the way that have not been shown yet."""
        if frames[-1].shown:
            return
        first = len(frames) - 1
        while not frames[first - 1].shown:
            first -= 1
        for frame in frames[first:]:
            if frame.status is not None:
                self._visitor.enter(frame.name, frame.status, frame.xattrs)
            frame.shown = True


def _sorted(fd: int) -> list[str]:
    return sorted(os.listdir(fd), reverse=True)


def read_xattrs(file: int | str) -> Xattrs:
    """Return the extended attributes that belong to a file: an open one, or the path of one that is no link."""
    try:
        names = os.listxattr(file, follow_symlinks=False) if isinstance(file, str) else os.listxattr(file)
    except OSError:  # not on this file system, or not on such a file
        return {}
    found = {}
    for name in names:
        if not name.startswith(_OTHERS):
            if isinstance(file, str):
                found[name] = os.getxattr(file, name, follow_symlinks=False)
            else:
                found[name] = os.getxattr(file, name)
    return found


def proc_path(parent: int, name: str) -> str:
    """Return a path by which a file in an open directory can be named to calls that take no descriptor of it."""
    return f"/proc/self/fd/{parent}/{name}"
