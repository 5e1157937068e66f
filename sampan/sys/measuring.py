"""How much directory trees take on disk. It does not recurse, so no depth is too deep."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sampan.sys.beneath import OPEN_DIRECTORY, open_directory


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tree takes on disk."""

    size_bytes: int = 0
    inodes: int = 0


NO_USAGE: Final = Usage()


def measure(root: str | os.PathLike[str]) -> Usage:
    """Return what lies below ``root`` on its file system, hard links once. What vanishes meanwhile is not counted."""
    seen: set[int] = set()
    blocks = inodes = 0
    root_fd = os.open(root, OPEN_DIRECTORY)
    try:
        device = os.fstat(root_fd).st_dev
        todo = [b""]
        while todo:
            path = todo.pop()
            for name, found in _entries(root_fd, path):
                if found.st_dev != device:
                    continue
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
