"""What a kernel shows of a tree, and of a layer's EROFS image."""

import contextlib
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sampan.sys import mounts
from sampan.tar.reader import TarReader
from snapshotter.drivers.erofs.converter import Converter
from tests.support.tools import unmount


@dataclass(frozen=True)
class File:
    """All that a process could see of a file, but for its place on the disk."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    nlink: int
    size: int
    device: int
    content: str
    xattrs: tuple[tuple[str, bytes], ...]


def look(root: Path) -> dict[bytes, File]:
    """Return every file below ``root`` by its relative path."""
    found = {}
    base = os.fsencode(root)
    todo = [b""]
    while todo:
        relative = todo.pop()
        path = base + b"/" + relative if relative else base
        found[relative] = _file(path)
        if stat.S_ISDIR(found[relative].mode):
            todo += [relative + b"/" + name if relative else name for name in os.listdir(path)]
    return found


def _file(path: bytes) -> File:
    status = os.lstat(path)
    content = ""
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        content = repr(os.readlink(path))
    names = os.listxattr(path, follow_symlinks=False)
    xattrs = tuple(sorted((name, os.getxattr(path, name, follow_symlinks=False)) for name in names))
    is_directory = stat.S_ISDIR(status.st_mode)
    size = 0 if is_directory else status.st_size
    facts = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_nlink)
    return File(*facts, size, status.st_rdev, content, xattrs)


def convert(archive: bytes | Path, target: Path) -> None:
    """Make an image of a tar."""
    fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with opened(archive) as source:
            Converter(fd).convert(TarReader(source))
    finally:
        os.close(fd)


def opened(archive: bytes | Path) -> io.BufferedIOBase:
    """Open a tar."""
    return archive.open("rb") if isinstance(archive, Path) else io.BytesIO(archive)


@contextlib.contextmanager
def mounted(image: Path, target: Path) -> Iterator[Path]:
    """Mount an image on the new directory ``target``."""
    target.mkdir()
    mounts.mount(str(image), str(target), "erofs", mounts.MS_RDONLY)
    try:
        yield target
    finally:
        unmount(target)
