"""Whole directory trees: how big they are, and their removal. Neither recurses, so no depth is too deep."""

import itertools
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sampan.sys.beneath import OPEN_DIRECTORY, open_directory

_counter: Final = itertools.count()


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tree takes on disk."""

    size_bytes: int = 0
    inodes: int = 0


NO_USAGE: Final = Usage()


def measure(root: str | os.PathLike[str]) -> Usage:
    """Return what lies below ``root``, hard links once. What vanishes meanwhile is not counted."""
    seen: set[int] = set()
    blocks = inodes = 0
    root_fd = os.open(root, OPEN_DIRECTORY)
    try:
        todo = [b""]
        while todo:
            path = todo.pop()
            for name, found in _entries(root_fd, path):
                if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
                    if found.st_ino in seen:
                        continue
                    seen.add(found.st_ino)
                inodes += 1
                blocks += found.st_blocks
                if stat.S_ISDIR(found.st_mode):
                    todo.append(path + b"/" + name if path else name)
    finally:
        os.close(root_fd)
    return Usage(blocks * 512, inodes)


def measure_any(path: str | os.PathLike[str]) -> int:
    """Return what a file, or a directory and all below it, takes on disk; 0 if it is gone."""
    try:
        found = os.lstat(path)
        return found.st_blocks * 512 + (measure(path).size_bytes if stat.S_ISDIR(found.st_mode) else 0)
    except FileNotFoundError:
        return 0


def _entries(root_fd: int, path: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    try:
        fd = open_directory(root_fd, path)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                try:
                    yield os.fsencode(entry.name), entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
    finally:
        os.close(fd)


def empty(directory: int) -> None:
    """Remove all that is in the directory with this descriptor, and leave the directory.

    Directories inside directories are first moved up here, so that a tree a thousand levels deep takes no more
    descriptors than a flat one. Safe to repeat after a crash.
    """
    todo = [os.fsencode(name) for name in os.listdir(directory)]
    while todo:
        name = todo.pop()
        try:
            os.unlink(name, dir_fd=directory)
            continue
        except (IsADirectoryError, PermissionError):  # POSIX allows either
            pass
        except FileNotFoundError:
            continue
        todo += _flatten(directory, name)
        os.rmdir(name, dir_fd=directory)


def _flatten(directory: int, name: bytes) -> list[bytes]:
    """Empty the directory ``name``: files go at once, its directories move up and are returned by their new names."""
    moved = []
    fd = os.open(name, OPEN_DIRECTORY, dir_fd=directory)
    try:
        with os.scandir(fd) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for child, is_directory in found:
            if not is_directory:
                os.unlink(child, dir_fd=fd)
                continue
            try:
                os.rmdir(child, dir_fd=fd)
            except OSError:  # not empty
                moved.append(discard(fd, child, directory))
    finally:
        os.close(fd)
    return moved


def discard(parent: int, name: bytes | str, trash: int) -> bytes:
    """Move ``name`` out of ``parent`` into the directory ``trash``, under a new name, which is returned."""
    new = b"%d-%d" % (os.getpid(), next(_counter))
    os.rename(name, new, src_dir_fd=parent, dst_dir_fd=trash)
    return new
