"""Several directories read as the one that overlayfs would show, without mounting anything.

All is read through descriptors, component by component and without following a link: a snapshot may be in use by a
container that is not to be trusted.
"""

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from sampan.sys.beneath import OPEN_DIRECTORY
from sampan.sys.trees import Descent, shortened
from snapshotter.drivers.whiteouts import is_mark, is_opaque, is_whiteout
from snapshotter.model import Piece


@dataclass(frozen=True, slots=True)
class Found:
    """An entry of a merged directory: where it is, and what it is.

    It can be read as long as the tree is at the directory that it was found in: see ``kept``.
    """

    piece: Descent
    depth: int
    name: bytes
    stat: os.stat_result
    _kept: dict[str, bytes] | None = None

    @property
    def fd(self) -> int:
        """The piece's directory that it is in. Raises FileNotFoundError if the walk has lost that one."""
        if self.piece.depth != self.depth:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fsdecode(self.name))
        return self.piece.fd

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
        if self._kept is not None:
            return self._kept
        return read_xattrs(os.fsencode(f"/proc/self/fd/{self.fd}/") + self.name)

    def kept(self) -> "Found":
        """Return this with its attributes, which may be asked for when the tree is elsewhere."""
        return self if self._kept is not None else replace(self, _kept=self.xattrs())


@dataclass(frozen=True, slots=True)
class _Level:
    pieces: tuple[int, ...]  # that have this directory, nearest first
    opaque: bool  # the nearest is marked as hiding all others


class MergedTree:
    """A place in the merged tree, which is its root at first; close it, or use it as a context manager.

    Each piece has two descriptors, however deep the place is.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        """Open the root of a stack, nearest first."""
        self._pieces: list[Descent] = []
        try:
            for piece in pieces:
                fd = os.open(piece.path, OPEN_DIRECTORY)
                try:
                    self._pieces.append(Descent(fd))
                finally:
                    os.close(fd)
                if piece.complete:
                    break
        except BaseException:
            self.close()
            raise
        self._levels = [_Level(tuple(range(len(self._pieces))), opaque=False)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptors; what was found cannot be read any more."""
        for piece in self._pieces:
            piece.close()

    @property
    def depth(self) -> int:
        """How many directories are on the way here."""
        return len(self._levels) - 1

    @property
    def opaque(self) -> bool:
        """Whether the directory hides what all pieces but the nearest have there, and is marked so."""
        return self._levels[-1].opaque

    @property
    def identity(self) -> tuple[tuple[int, int], ...]:
        """Equal for two merged directories that read the same."""
        return tuple((found.st_dev, found.st_ino) for found in (os.fstat(piece.fd) for piece in self._here()))

    @property
    def fd(self) -> int:
        """The nearest piece's directory, whose owner, mode and times are the merged one's.

        Raises:
            FileNotFoundError: it was moved meanwhile.
        """
        nearest = self._pieces[self._levels[-1].pieces[0]]
        if nearest.depth != self.depth:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), shortened(nearest.path))
        return nearest.fd

    def entries(self, removed: set[bytes] | None = None) -> dict[bytes, int]:
        """Return what is in here, and in which piece, as ``find`` needs it; ``removed`` gets the names of whiteouts."""
        found: dict[bytes, int] = {}
        hidden: set[bytes] = set() if removed is None else removed
        for number in self._levels[-1].pieces:
            piece = self._pieces[number]
            if piece.depth != self.depth:
                continue
            with os.scandir(piece.fd) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    if name in found or name in hidden:
                        continue
                    if self._is_whiteout(piece, name, entry):
                        hidden.add(name)
                    else:
                        found[name] = number
        return found

    def find(self, name: bytes, number: int | None) -> Found | None:
        """Return one of ``entries``; None if it is gone by now, or none of them."""
        if number is None or self._pieces[number].depth != self.depth:
            return None
        piece = self._pieces[number]
        try:
            return Found(piece, self.depth, name, os.stat(name, dir_fd=piece.fd, follow_symlinks=False))
        except FileNotFoundError:
            return None

    def enter(self, found: Found) -> None:
        """Go down to a directory found in here.

        Raises:
            FileNotFoundError, NotADirectoryError: it is none any more; the tree stays here.
        """
        here = self._here()
        first = next((at for at, piece in enumerate(here) if piece is found.piece), len(here))
        entered: list[Descent] = []
        opaque = False
        try:
            for piece in here[first:]:
                try:
                    status = os.stat(found.name, dir_fd=piece.fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if not stat.S_ISDIR(status.st_mode):
                    break
                piece.enter(found.name)
                entered.append(piece)
                if opaque := is_opaque(piece.fd):
                    break
            if not entered:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fsdecode(found.name))
        except BaseException:
            for piece in entered:
                piece.leave()
            raise
        numbers = tuple(number for number, piece in enumerate(self._pieces) if piece in entered)
        self._levels.append(_Level(numbers, opaque and len(entered) == 1))

    def leave(self) -> None:
        """Go up by one. A piece in which a directory on the way was moved has nothing to show until further up."""
        for piece in self._here():
            piece.leave()
        self._levels.pop()

    def _here(self) -> list[Descent]:
        pieces = (self._pieces[number] for number in self._levels[-1].pieces)
        return [piece for piece in pieces if piece.depth == self.depth]

    def _is_whiteout(self, piece: Descent, name: bytes, entry: "os.DirEntry[str]") -> bool:
        if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False) or entry.is_symlink():
            return False
        try:
            return is_whiteout(os.stat(name, dir_fd=piece.fd, follow_symlinks=False))
        except FileNotFoundError:  # removed meanwhile
            return True


def read_xattrs(target: int | bytes) -> dict[str, bytes]:
    """Return the extended attributes of a file, a link itself, but for overlayfs's own."""
    follow = isinstance(target, int)
    try:
        names = os.listxattr(target, follow_symlinks=follow)
    except OSError:  # a file system without, or gone
        return {}
    return {name: os.getxattr(target, name, follow_symlinks=follow) for name in sorted(names) if not is_mark(name)}
