"""A small file system of a test's own, that can be filled to the last byte."""

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.tools import need, need_root

_PIECE = 1 << 20
_NEVER_GIVEN = 32 << 10
_ROUNDS = 20


class SmallDisk:
    """A mounted file system."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Take every byte that is free, and what a file system gives back when it has written down what was removed."""
        for _ in range(_ROUNDS):
            self._take()
            if self.is_full:
                return

    def _take(self) -> None:
        fd = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = _PIECE
            while size:
                try:
                    os.write(fd, b"x" * size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2
            with contextlib.suppress(OSError):
                os.fsync(fd)
        finally:
            os.close(fd)

    def leave(self, size: int) -> None:
        """Give back ``size`` bytes of what ``fill`` has taken."""
        os.truncate(self._filler, max(0, self._filler.stat().st_size - size))

    def free(self) -> None:
        """Give back what ``fill`` has taken."""
        self._filler.unlink(missing_ok=True)

    @property
    def is_full(self) -> bool:
        """Whether nothing is left; XFS counts a few blocks that no file can have."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize <= _NEVER_GIVEN


@contextlib.contextmanager
def small_disk(directory: Path, kind: str, size_mib: int) -> Iterator[SmallDisk]:
    """Mount a file system of ``kind`` (ext4, xfs or tmpfs) at ``<directory>/disk``, and unmount it."""
    need_root()
    point = directory / "disk"
    point.mkdir()
    if kind == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=755", "small", str(point)], check=True)
    else:
        need(f"mkfs.{kind}")
        image = directory / "disk.img"
        with image.open("wb") as file:
            file.truncate(size_mib << 20)
        options = ["-q", "-F", "-m", "0"] if kind == "ext4" else ["-q", "-f"]
        subprocess.run([f"mkfs.{kind}", *options, str(image)], check=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(point)], check=True)
    try:
        yield SmallDisk(point)
    finally:
        # What still holds it, such as another mount namespace that is going away, lets go of it in its own time.
        subprocess.run(["umount", "--lazy", str(point)], check=True)
