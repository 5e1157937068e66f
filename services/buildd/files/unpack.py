"""Unpack an archive, as ADD does: tar, plain or compressed by gzip, bzip2, xz or zstd.

Everything stays below the directory that it is unpacked into, as if it were the root: links on the way lead nowhere
else, nor does ``..``.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from buildd.files.modes import Ids
from buildd.files.root import Root, join, split
from buildd.files.target import (
    CREATE,
    make_directories,
    remove,
    set_attributes,
    set_attributes_at,
    translated,
    write,
)
from sampan.errors import InvalidArgumentError, SampanError, reworded
from sampan.tar.entry import Entry, EntryType
from sampan.tar.inflate import inflate
from sampan.tar.reader import TarReader

_IMPLIED_MODE: Final = 0o755
_RESERVED: Final = ("trusted.overlay.", "trusted.sampan.")


def unpack(archive: int, name: str, target: Root, dest: str, owner: Ids | None, time_ns: int) -> bool:
    """Unpack the open file ``archive`` into the directory ``dest``; return False if it is no archive.

    Files get ``owner``, if there is one, and keep their times; directories that are made on the way get ``time_ns``.

    Raises:
        InvalidArgumentError: the archive is damaged or holds what cannot be; ``name`` and the entry are named.
        NoSpaceError: the disk is full.
    """
    reader = TarReader(_Inflated(_File(archive)))
    entries = iter(reader)
    try:
        first = next(entries, None)
    except SampanError:
        return False
    if first is None:
        return False
    real = target.real(dest)
    make_directories(target, real, _IMPLIED_MODE, owner, time_ns)
    with Root(target.directory(real)) as inside:
        unpacking = _Unpacking(inside, reader, owner)
        try:
            unpacking.add(first)
            for entry in entries:
                unpacking.add(entry)
        except OSError as error:
            raise translated(error, f"cannot unpack {name}") from error
        except SampanError as error:
            raise reworded(error, f"cannot unpack {name}: {error}") from error
        unpacking.finish()
    return True


class _File:
    """A file as ``inflate`` reads one."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, size: int, /) -> bytes:
        return os.read(self._fd, size)


class _Inflated:
    """Plain bytes as ``TarReader`` reads them."""

    def __init__(self, file: _File) -> None:
        self._pieces: Iterator[bytes] = inflate(file)
        self._piece = memoryview(b"")

    def read(self, size: int, /) -> memoryview:
        if not self._piece:
            self._piece = memoryview(next(self._pieces, b""))
        piece, self._piece = self._piece[:size], self._piece[size:]
        return piece


@dataclass(frozen=True, slots=True)
class _Directory:
    """What a directory gets once everything is in it."""

    ids: Ids
    entry: Entry


class _Unpacking:
    def __init__(self, root: Root, reader: TarReader, owner: Ids | None) -> None:
        self._root = root
        self._reader = reader
        self._owner = owner
        self._directories: dict[str, _Directory] = {}
        self._real: dict[str, str] = {}  # of parents that were found

    def add(self, entry: Entry) -> None:
        """Make one file."""
        try:
            self._add(entry)
        except OSError as error:
            raise translated(error, f"entry {entry.shown}") from error
        except SampanError as error:
            raise reworded(error, f"entry {entry.shown}: {error}") from error

    def finish(self) -> None:
        """Give directories what is theirs, deepest first, so that no time changes again."""
        for real in sorted(self._directories, key=lambda path: path.count("/") if path else -1, reverse=True):
            wanted = self._directories[real]
            found = self._root.stat(real)
            if found is None or not stat.S_ISDIR(found.st_mode):
                continue  # replaced later in the archive
            fd = self._root.directory(real)
            try:
                set_attributes(fd, wanted.ids, wanted.entry.mode, wanted.entry.xattrs, wanted.entry.mtime_ns)
            finally:
                os.close(fd)

    def _add(self, entry: Entry) -> None:
        if any(name.startswith(_RESERVED) for name in entry.xattrs):
            raise InvalidArgumentError("it has an attribute that only the engine may set")
        path = _clean(entry.name)
        ids = self._owner or Ids(entry.uid, entry.gid)
        above, name = split(path)
        if not name:
            if entry.type is EntryType.DIRECTORY:
                self._directories[""] = _Directory(ids, entry)
            return
        real = join(self._parent(above), name)
        found = self._root.stat(real)
        merges = entry.type is EntryType.DIRECTORY and found is not None and stat.S_ISDIR(found.st_mode)
        if merges:
            self._directories[real] = _Directory(ids, entry)
            return
        parent = self._root.directory(split(real)[0])
        try:
            if found is not None:
                self._real.clear()
                remove(parent, name)
            self._make(entry, parent, name, real, ids)
        finally:
            os.close(parent)

    def _parent(self, path: str) -> str:
        real = self._real.get(path)
        if real is None:
            real = self._root.real(path)
            make_directories(self._root, real, _IMPLIED_MODE, self._owner, -1)
            self._real[path] = real
        return real

    def _make(self, entry: Entry, parent: int, name: str, real: str, ids: Ids) -> None:
        if entry.type is EntryType.DIRECTORY:
            os.mkdir(name, 0o700, dir_fd=parent)
            self._directories[real] = _Directory(ids, entry)
        elif entry.type is EntryType.FILE:
            fd = os.open(name, CREATE, 0o600, dir_fd=parent)
            try:
                self._data(entry, fd)
                set_attributes(fd, ids, entry.mode, entry.xattrs, entry.mtime_ns)
            finally:
                os.close(fd)
        elif entry.type is EntryType.HARD_LINK:
            self._hard_link(entry, parent, name)
        elif entry.type is EntryType.SYMLINK:
            os.symlink(os.fsdecode(entry.link), name, dir_fd=parent)
            set_attributes_at(parent, name, ids, -1, entry.xattrs, entry.mtime_ns)
        else:
            kinds = {EntryType.CHAR_DEVICE: stat.S_IFCHR, EntryType.BLOCK_DEVICE: stat.S_IFBLK}
            os.mknod(name, kinds.get(entry.type, stat.S_IFIFO) | 0o600, os.makedev(*entry.device), dir_fd=parent)
            set_attributes_at(parent, name, ids, entry.mode, entry.xattrs, entry.mtime_ns)

    def _data(self, entry: Entry, fd: int) -> None:
        if entry.parts is None:
            for piece in self._reader.data():
                write(fd, piece)
            return
        os.ftruncate(fd, entry.size)
        parts = iter(entry.parts)
        room = 0
        for piece in self._reader.data():
            while piece:
                while not room:
                    offset, room = next(parts)  # the reader has checked that parts and data are equally long
                    os.lseek(fd, offset, os.SEEK_SET)
                write(fd, piece[:room])
                room, piece = room - len(piece[:room]), piece[room:]

    def _hard_link(self, entry: Entry, parent: int, name: str) -> None:
        above, source = split(_clean(entry.link))
        real = join(self._root.real(above), source)
        if not source or self._root.stat(real) is None:
            raise InvalidArgumentError(f"its link target {os.fsdecode(entry.link)[:120]!r} is not there")
        os.link(real, name, src_dir_fd=self._root.fd, dst_dir_fd=parent, follow_symlinks=False)


def _clean(name: bytes) -> str:
    """Return a relative path without empty, ``.`` and ``..`` components: ``..`` of the directory is itself."""
    cleaned: list[str] = []
    for part in os.fsdecode(name).split("/"):
        if part == "..":
            del cleaned[-1:]
        elif part not in ("", "."):
            cleaned.append(part)
    return "/".join(cleaned)
