"""Paths inside of one output, whatever links there are in it.

``/`` and ``..`` mean the output's root and no further, as for a process whose root directory it is. Nobody else changes
an output while somebody works on it, so what a path was found to be stays true; every open is confined once more.

Paths are text as ``os.fsdecode`` has it. A *real* path is relative to the root, clean, free of links, and empty for the
root itself.

Reference: openat2(2); path_resolution(7).
"""

import errno
import os
import posixpath
import stat
from typing import Final, Self

from sampan.errors import InvalidArgumentError
from sampan.sys.beneath import OPEN_DIRECTORY, RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2

_MAX_LINKS: Final = 255  # on the way to one path
_CONFINED: Final = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
ABSENT: Final = (errno.ENOENT, errno.ENOTDIR)


class Root:
    """One output's files."""

    def __init__(self, fd: int) -> None:
        """Take over the descriptor of a directory."""
        self.fd = fd

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, inside: int | None = None) -> Self:
        """Open a directory of the host's, or a real path below the descriptor ``inside``."""
        return cls(os.open(path, OPEN_DIRECTORY) if inside is None else _open(inside, os.fspath(path), OPEN_DIRECTORY))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor; safe to repeat."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def real(self, path: str, *, follow: bool = True) -> str:
        """Return what ``path`` leads to; from the first component that is missing on, it is taken as it is written.

        Without ``follow``, a link at its end is not followed.

        Raises:
            InvalidArgumentError: links lead in a circle, or the path is too long or holds a NUL.
        """
        todo = path.split("/")[::-1]
        real = ""
        links = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                real = real.rpartition("/")[0]
                continue
            step = f"{real}/{part}" if real else part
            found = self.stat(step)
            last = not any(each not in ("", ".") for each in todo)
            if found is None or not stat.S_ISLNK(found.st_mode) or (last and not follow):
                real = step
                continue
            links += 1
            if links > _MAX_LINKS:
                raise InvalidArgumentError(f"{path}: too many links")
            target = os.readlink(step, dir_fd=self.fd)
            if target.startswith("/"):
                real = ""
            todo += target.split("/")[::-1]
        return real

    def stat(self, real: str) -> os.stat_result | None:
        """Return what is at a real path, or None. Raises InvalidArgumentError: no path can be so long."""
        try:
            return os.stat(real or ".", dir_fd=self.fd, follow_symlinks=False)
        except ValueError as error:
            raise InvalidArgumentError(f"invalid path {real[:120]!r}: {error}") from error
        except OSError as error:
            if error.errno in ABSENT:
                return None
            if error.errno == errno.ENAMETOOLONG:
                raise InvalidArgumentError(f"path {real[:60]}... is too long") from error
            raise

    def directory(self, real: str) -> int:
        """Return a new descriptor of a directory. Raises OSError."""
        return _open(self.fd, real, OPEN_DIRECTORY)

    def file(self, real: str, flags: int = os.O_RDONLY) -> int:
        """Return a new descriptor of what is no link. Raises OSError."""
        return _open(self.fd, real, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


def _open(root: int, real: str, flags: int) -> int:
    return openat2(root, real or ".", flags, _CONFINED)


def names_in(fd: int) -> list[str]:
    """Return what is in an open directory, in order."""
    return sorted(os.listdir(fd))


def clean(path: str) -> str:
    """Return an absolute path without ``.``, ``..`` and doubled slashes."""
    return "/" + posixpath.normpath(f"/{path}").lstrip("/")


def split(real: str) -> tuple[str, str]:
    """Return the parent of a real path, and its name there."""
    parent, _, name = real.rpartition("/")
    return parent, name


def join(parent: str, name: str) -> str:
    """Undo ``split``."""
    return f"{parent}/{name}" if parent else name
