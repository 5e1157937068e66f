"""Look at an output's files, and give all of them away as a tar."""

import os
import stat
from collections.abc import Callable, Sequence
from typing import Final

from buildd.files.root import ABSENT, Root, clean, names_in, split
from buildd.files.selecting import Patterns
from buildd.files.walk import Xattrs, proc_path, read_xattrs, walk
from buildd.protocol import FileStat
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.tar.entry import Entry, EntryType
from sampan.tar.writer import TarWriter

MAX_READ_BYTES: Final = 16 << 20

_PIECE: Final = 1 << 20

# Go's io/fs.FileMode, which is what clients are told.
_GO_KINDS: Final = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
}
_GO_BITS: Final = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))

_TAR_KINDS: Final = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFCHR: EntryType.CHAR_DEVICE,
    stat.S_IFBLK: EntryType.BLOCK_DEVICE,
    stat.S_IFIFO: EntryType.FIFO,
}


def read_file(root: Root, path: str, offset: int, length: int) -> bytes:
    """See ``FileWorker.read_file``."""
    real = root.real(path)
    found = root.stat(real)
    if found is None:
        raise NotFoundError(f"open {clean(path)}: no such file or directory")
    if not stat.S_ISREG(found.st_mode):
        raise InvalidArgumentError(f"open {path}: not a regular file")
    left = max(0, found.st_size - offset)
    wanted = min(length or left, left)
    if wanted > MAX_READ_BYTES:
        raise InvalidArgumentError(f"{path} exceeds maximum allowed size of {MAX_READ_BYTES} bytes")
    fd = root.file(real)
    try:
        pieces = bytearray()
        while len(pieces) < wanted and (piece := os.pread(fd, wanted - len(pieces), offset + len(pieces))):
            pieces += piece
        return bytes(pieces)
    finally:
        os.close(fd)


def read_directory(root: Root, path: str, pattern: str) -> Sequence[FileStat]:
    """See ``FileWorker.read_directory``."""
    patterns = Patterns((pattern,)) if pattern else Patterns()
    try:
        fd = root.directory(root.real(path))
    except OSError as error:
        if error.errno not in ABSENT:
            raise
        raise NotFoundError(f"open {clean(path)}: {(error.strerror or '').lower()}") from error
    try:
        return [_stat(fd, name) for name in names_in(fd) if patterns.all or patterns.takes(name)]
    finally:
        os.close(fd)


def stat_path(root: Root, path: str) -> FileStat:
    """See ``FileWorker.stat``."""
    real = root.real(path, follow=False)
    if root.stat(real) is None:
        raise NotFoundError(f"lstat {clean(path)}: no such file or directory")
    above, name = split(real)
    fd = root.directory(above)
    try:
        return _stat(fd, name)
    finally:
        os.close(fd)


def _stat(parent: int, name: str) -> FileStat:
    status = os.stat(name or ".", dir_fd=parent, follow_symlinks=False)
    kind = stat.S_IFMT(status.st_mode)
    mode = status.st_mode & 0o777 | _GO_KINDS.get(kind, 0)
    for bit, go in _GO_BITS:
        mode |= go if status.st_mode & bit else 0
    device = status.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
    return FileStat(
        path=name or "/",
        mode=mode,
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size if kind == stat.S_IFREG else 0,
        mtime_ns=status.st_mtime_ns,
        link_name=os.readlink(name, dir_fd=parent) if kind == stat.S_IFLNK else "",
        dev_major=os.major(device),
        dev_minor=os.minor(device),
        xattrs=read_xattrs(proc_path(parent, name)) if name else read_xattrs(parent),
    )


def write_tar(outputs: Sequence[tuple[str, Root]], write: Callable[[bytes], object]) -> None:
    """Write a tar of everything in outputs, each below a directory of its name; none for an empty name."""
    tar = TarWriter(write)
    for name, root in outputs:
        taring = _Taring(tar, os.fsencode(name))
        if name:
            taring.itself(root)
        walk(root.fd, taring, Patterns())
    tar.close()


class _Taring:
    """Satisfies ``walk.Visitor``."""

    def __init__(self, tar: TarWriter, prefix: bytes) -> None:
        self._tar = tar
        self._way = [prefix] if prefix else []
        self._links: dict[tuple[int, int], bytes] = {}

    def itself(self, root: Root) -> None:
        self._directory(os.fstat(root.fd), read_xattrs(root.fd))

    def enter(self, name: str, status: os.stat_result, xattrs: Xattrs) -> None:
        self._way.append(os.fsencode(name))
        self._directory(status, xattrs)

    def leave(self) -> None:
        self._way.pop()

    def file(self, parent: int, name: str, status: os.stat_result) -> None:
        path = b"/".join((*self._way, os.fsencode(name)))
        kind = _TAR_KINDS[stat.S_IFMT(status.st_mode)]
        if status.st_nlink > 1 and kind is EntryType.FILE:
            first = self._links.setdefault((status.st_dev, status.st_ino), path)
            if first is not path:
                self._tar.add(Entry.of(path, EntryType.HARD_LINK, status, {}, first))
                return
        if kind is not EntryType.FILE:
            link = os.fsencode(os.readlink(name, dir_fd=parent)) if kind is EntryType.SYMLINK else b""
            self._tar.add(Entry.of(path, kind, status, read_xattrs(proc_path(parent, name)), link))
            return
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=parent)
        try:
            self._tar.add(Entry.of(path, kind, status, read_xattrs(fd)))
            left = status.st_size
            while left:
                piece = os.read(fd, min(left, _PIECE)) or bytes(min(left, _PIECE))  # cut short meanwhile
                self._tar.data(piece)
                left -= len(piece)
        finally:
            os.close(fd)

    def _directory(self, status: os.stat_result, xattrs: Xattrs) -> None:
        self._tar.add(Entry.of(b"/".join(self._way), EntryType.DIRECTORY, status, xattrs))
