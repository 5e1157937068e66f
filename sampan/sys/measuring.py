"""How much directory trees take on disk."""

import os
import stat
from dataclasses import dataclass
from typing import Final

from sampan.sys.beneath import OPEN_DIRECTORY
from sampan.sys.trees import AbandonedError, Descent, Names, Stop, never


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tree takes on disk."""

    size_bytes: int = 0
    inodes: int = 0


NO_USAGE: Final = Usage()


def measure(root: str | os.PathLike[str], stop: Stop = never, *, directories: bool = True) -> Usage:
    """Return what lies below ``root`` on its file system, hard links once. What vanishes meanwhile is not counted.

    Without ``directories`` the blocks of these are not counted either, but still their number.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such directory.
        AbandonedError: ``stop`` said so.
    """
    fd = os.open(root, OPEN_DIRECTORY)
    try:
        with Descent(fd) as descent:
            return _Measuring(descent, stop, directories).run()
    finally:
        os.close(fd)


def takes(root: str | os.PathLike[str], size_bytes: int, stop: Stop = never) -> bool:
    """Say whether what lies below ``root`` takes so much at least, and look no further. Raises as ``measure``."""
    fd = os.open(root, OPEN_DIRECTORY)
    try:
        with Descent(fd) as descent:
            return _Measuring(descent, stop, directories=True, enough_bytes=size_bytes).run().size_bytes >= size_bytes
    finally:
        os.close(fd)


def measure_any(path: str | os.PathLike[str], stop: Stop = never) -> int:
    """Return what a file, or a directory and all below it, takes on disk; 0 if it is gone."""
    try:
        found = os.lstat(path)
        below = measure(path, stop).size_bytes if stat.S_ISDIR(found.st_mode) else 0
        return found.st_blocks * 512 + below
    except FileNotFoundError:
        return 0


class _Measuring:
    def __init__(self, descent: Descent, stop: Stop, directories: bool, enough_bytes: int | None = None) -> None:
        self._descent = descent
        self._enough_bytes = enough_bytes
        self._stop = stop
        self._directories = directories
        self._device = os.fstat(descent.fd).st_dev
        self._links: dict[int, int] = {}  # inodes with names that were not met yet, and how many
        self._blocks = 0
        self._inodes = 0

    def run(self) -> Usage:
        descent = self._descent
        frames = [self._scan()]
        while True:
            if self._enough_bytes is not None and self._blocks * 512 >= self._enough_bytes:
                return Usage(self._blocks * 512, self._inodes)
            if frames[-1]:
                try:
                    descent.enter(frames[-1].pop())
                except (FileNotFoundError, NotADirectoryError):
                    continue
                frames.append(self._scan())
            elif descent.depth:
                descent.leave()
                del frames[descent.depth + 1 :]
            else:
                return Usage(self._blocks * 512, self._inodes)

    def _scan(self) -> Names:
        """Count what is in the directory where we are, and return the names of directories in it."""
        names = Names()
        with os.scandir(self._descent.fd) as entries:
            for entry in entries:
                if self._stop():
                    raise AbandonedError
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if found.st_dev != self._device:
                    continue
                if stat.S_ISDIR(found.st_mode):
                    names.push(os.fsencode(entry.name))
                    self._inodes += 1
                    self._blocks += found.st_blocks if self._directories else 0
                    continue
                if found.st_nlink > 1 and not self._is_first(found):
                    continue
                self._inodes += 1
                self._blocks += found.st_blocks
        return names

    def _is_first(self, found: os.stat_result) -> bool:
        """Say whether a file with several names is met for the first time; it is forgotten with its last one."""
        left = self._links.get(found.st_ino)
        if left is None:
            self._links[found.st_ino] = found.st_nlink - 1
            return True
        if left > 1:
            self._links[found.st_ino] = left - 1
        else:
            del self._links[found.st_ino]
        return False
