"""Several directories read as the one that overlayfs would show, without mounting anything.

All is read through descriptors, component by component and without following a link: a snapshot may be in use by a
container that is not to be trusted.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from sampan.sys.beneath import OPEN_DIRECTORY
from snapshotter.drivers.whiteouts import is_mark, is_opaque, is_whiteout
from snapshotter.model import Piece


@dataclass(frozen=True, slots=True)
class Found:
    """An entry of a merged directory: where it is, and what it is."""

    fd: int  # of the piece's directory that it is in; the merged directory's
    name: bytes
    stat: os.stat_result

    @property
    def is_directory(self) -> bool:
        """Whether it may have entries."""
        return stat.S_ISDIR(self.stat.st_mode)

    @property
    def identity(self) -> tuple[int, int]:
        """What tells the inode from all others."""
        return self.stat.st_dev, self.stat.st_ino

    def open(self, flags: int = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK) -> int:
        """Open it; the caller closes."""
        return os.open(self.name, flags, dir_fd=self.fd)

    def link(self) -> bytes:
        """A symbolic link's target."""
        return os.readlink(self.name, dir_fd=self.fd)

    def xattrs(self) -> dict[str, bytes]:
        """Its extended attributes, but for overlayfs's own."""
        return read_xattrs(os.fsencode(f"/proc/self/fd/{self.fd}/") + self.name)


class MergedDirectory:
    """One directory of the merged tree; close it, or use it as a context manager."""

    def __init__(self, fds: Sequence[int], *, opaque: bool = False) -> None:
        """Take the descriptors of the pieces' directories, nearest first, which are this object's from now on.

        ``opaque`` says that the nearest is marked as hiding all others.
        """
        self._fds = tuple(fds)
        self.opaque = opaque

    @classmethod
    def of(cls, pieces: Sequence[Piece]) -> Self:
        """Open the root of a stack, nearest first."""
        fds: list[int] = []
        try:
            for piece in pieces:
                fds.append(os.open(piece.path, OPEN_DIRECTORY))
                if piece.complete:
                    break
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        return cls(fds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptors; what was found in here cannot be read any more."""
        for fd in self._fds:
            os.close(fd)
        self._fds = ()

    @property
    def identity(self) -> tuple[tuple[int, int], ...]:
        """Equal for two merged directories that read the same."""
        return tuple((found.st_dev, found.st_ino) for found in map(os.fstat, self._fds))

    @property
    def fd(self) -> int:
        """The nearest piece's directory, whose owner, mode and times are the merged one's."""
        return self._fds[0]

    def entries(self) -> dict[bytes, Found]:
        """Return what is in here."""
        found: dict[bytes, Found] = {}
        hidden: set[bytes] = set()
        for fd in self._fds:
            with os.scandir(fd) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    if name in found or name in hidden:
                        continue
                    try:
                        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    except FileNotFoundError:  # removed meanwhile
                        continue
                    if is_whiteout(status):
                        hidden.add(name)
                    else:
                        found[name] = Found(fd, name, status)
        return found

    def child(self, found: Found) -> "MergedDirectory":
        """Open a directory found in here. Raises OSError if it is none any more."""
        fds: list[int] = []
        opaque = False
        try:
            for fd in self._fds[self._fds.index(found.fd) :]:
                try:
                    status = os.stat(found.name, dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if not stat.S_ISDIR(status.st_mode):
                    break
                fds.append(os.open(found.name, OPEN_DIRECTORY, dir_fd=fd))
                if opaque := is_opaque(fds[-1]):
                    break
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        if not fds:
            raise FileNotFoundError(2, os.strerror(2), os.fsdecode(found.name))
        return MergedDirectory(fds, opaque=opaque and len(fds) == 1)


def read_xattrs(target: int | bytes) -> dict[str, bytes]:
    """Return the extended attributes of a file, a link itself, but for overlayfs's own."""
    follow = isinstance(target, int)
    try:
        names = os.listxattr(target, follow_symlinks=follow)
    except OSError:  # a file system without, or gone
        return {}
    return {name: os.getxattr(target, name, follow_symlinks=follow) for name in sorted(names) if not is_mark(name)}
