"""A log as files: ``<path>``, and the older ones ``<path>.1``, ``<path>.2`` and so on, which may be compressed.

One begins when the one before has reached its size, so that it is longer by less than one line, as with dockerd.
"""

import contextlib
import gzip
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_GZIP_LEVEL: Final = 6
_COPY_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept."""

    size_bytes: int = 0  # of one file; 0: one file without end
    files: int = 1
    compress: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """The end of a log: a file and how much of it is written."""

    inode: int
    size_bytes: int


def files_of(path: Path) -> list[Path]:
    """Return the files of the log at ``path`` that are there, the oldest first.

    One that is being compressed is there twice for a moment, and counts once.
    """
    older: dict[int, Path] = {}
    prefix = path.name + "."
    with contextlib.suppress(FileNotFoundError):
        for name in (found.name for found in path.parent.iterdir()):
            if name.startswith(prefix):
                number = name[len(prefix) :].removesuffix(".gz")
                plain = not name.endswith(".gz")
                if number.isdecimal() and (plain or int(number) not in older):
                    older[int(number)] = path.parent / name
    return [*(older[number] for number in sorted(older, reverse=True)), *([path] if path.exists() else [])]


def packed_inode(fd: int) -> int:
    """Return the inode, cut to 32 bits, that a compressed file had before it was compressed."""
    return int.from_bytes(os.pread(fd, 4, 4), "little")


class RotatedFile:
    """The file that is written to. Not for two threads at once."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._fd = -1
        self._size_bytes = 0
        self._written_already = 0
        self._packer: threading.Thread | None = None

    def open(self) -> Place:
        """Open the newest file, made if there is none; return its end. Raises OSError."""
        if self._fd < 0:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            self._size_bytes = os.fstat(self._fd).st_size
        return Place(os.fstat(self._fd).st_ino, self._size_bytes)

    def resume(self, size_bytes: int) -> None:
        """Go on where it had ``size_bytes``: what was written beyond is written again, and is the same."""
        if 0 <= size_bytes < self._size_bytes:
            self._written_already = self._size_bytes - size_bytes
            self._size_bytes = size_bytes

    @property
    def full(self) -> bool:
        """Whether the next line belongs into a new file."""
        return 0 < self._limits.size_bytes <= self._size_bytes

    def fitting(self, data: bytes, begin: int) -> int:
        """Return where those lines of ``data`` end that come before the next rotation, of all from ``begin`` on."""
        if not self._limits.size_bytes:
            return len(data)
        left = self._limits.size_bytes - self._size_bytes
        return data.find(b"\n", begin + left - 1) + 1 or len(data)

    def write(self, data: bytes) -> None:
        """Append ``data``. Raises OSError; then a part of it may have been written, and ``open`` says how much."""
        there = min(self._written_already, len(data))
        self._written_already -= there
        view = memoryview(data)[there:]
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            self.close()
            raise
        self._size_bytes += len(data)

    def rotate(self) -> None:
        """Make the newest file an older one, and begin another. Safe to repeat after a kill in the middle."""
        self.close()
        self.wait()
        if self._limits.files < 2:
            self._path.unlink(missing_ok=True)
            return
        for path in reversed(self._older()):
            number = self._number(path)
            if number >= self._limits.files - 1:
                path.unlink(missing_ok=True)
            else:
                suffix = ".gz" if path.name.endswith(".gz") else ""
                path.rename(self._path.with_name(f"{self._path.name}.{number + 1}{suffix}"))
        first = self._path.with_name(f"{self._path.name}.1")
        with contextlib.suppress(FileNotFoundError):
            self._path.rename(first)
        if self._limits.compress:
            self._packer = threading.Thread(target=_compress, args=(first,), name="compress", daemon=True)
            self._packer.start()

    def _older(self) -> list[Path]:
        """Return the older files, the newest of them first; one that is there twice is so once afterwards."""
        found = [path for path in reversed(files_of(self._path)) if path != self._path]
        for path in found:
            if not path.name.endswith(".gz"):  # compressed only in part, or not taken away yet
                path.with_name(path.name + ".gz").unlink(missing_ok=True)
        return found

    def _number(self, path: Path) -> int:
        return int(path.name[len(self._path.name) + 1 :].removesuffix(".gz"))

    def wait(self) -> None:
        """Return when nothing is being compressed."""
        if self._packer is not None:
            self._packer.join()
            self._packer = None

    def close(self) -> None:
        """Close it; safe to repeat."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._written_already = 0


def _compress(path: Path) -> None:
    packed = path.with_name(path.name + ".gz")
    partial = path.with_name(path.name + ".partial")
    try:
        with path.open("rb") as source, partial.open("wb") as packed_file:
            # Who reads the log knows a file by its inode: the header's field for a time keeps it.
            inode = os.fstat(source.fileno()).st_ino & 0xFFFFFFFF
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, packed_file, mtime=inode) as target:
                shutil.copyfileobj(source, target, _COPY_BYTES)
        partial.rename(packed)
        path.unlink(missing_ok=True)
    except OSError:  # above all a full disk: it stays as it is, and readable
        partial.unlink(missing_ok=True)
