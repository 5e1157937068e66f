"""Make a directory the same as what a sender tells of it, and ask for no content that is here.

Entries come in the order of a walk, so what is held of the tree is the way down to where the walk is. A file is the
same if its size, its time and its mode are. Content is written under the file's own name; the time, by which a later
comparison knows the file, is set when it is whole, so that a file that was cut off by a crash is asked for again.

Nothing that the sender says leads out of the directory: each name is one component in a directory that was opened
without following a link, and the order of the entries is the proof that they are in directories that the sender told.

Reference: tonistiigi/fsutil, ``receive.go``, ``validator.go``; the same rules, written anew.
"""

import errno
import os
import stat
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.errors import InvalidArgumentError, RemoteError
from sampan.fsutil.entry import Entry, check_path, split
from sampan.fsutil.walk import Place, Way, names
from sampan.sys.beneath import OPEN_DIRECTORY
from sampan.sys.trees import AbandonedError, Stop, never, remove_tree_at, shortened

# Of each whose content is to come some 250 bytes are held, its name among them.
_MAX_ENTRIES: Final = 2_000_000
# A new context may be tens of thousands of files, all of which are asked for at once. As objects they would take so
# much that the memory that they leave free stays with the process, in pieces.
_HELD: Final = struct.Struct("=IqIq")  # mode, time, where the name is among those that changed, and size
_MAX_LINKS: Final = 1_000_000
_MAX_MAJOR: Final = 0xFFF  # of the kernel's numbers of devices
_MAX_MINOR: Final = 0xF_FFFF
# fsutil's sender has four files under way.
_MAX_OPEN: Final = 64

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PERMISSIONS: Final = 0o7777

# Attributes of trusted.* and system.* would mean something to the file systems that the tree is used in, overlayfs
# among them.
_XATTRS: Final = ("user.", "security.capability")


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What it took to make a tree the same as the client's."""

    files: int  # regular files in the tree
    bytes_sent: int  # content that came
    bytes_saved: int  # content that was here
    # Paths made, written anew, given another mode, or removed (with all below), in no order. A directory that has only
    # another time is not among them.
    changed: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Totals:
    """What entries come to."""

    entries: int
    files: int  # regular ones
    bytes: int  # of their content


class TreeReceiver:
    """One transfer into one directory. Any thread may use it, one at a time; ``close`` it, whatever happened.

    Methods raise InvalidArgumentError for what no sender may say, and OSError for what the file system cannot do.
    """

    def __init__(self, into: Path, *, compare: bool = True, merge: bool = False, stop: Stop = never) -> None:
        """``compare``: what is the same is not asked for; ``merge``: what the sender does not tell stays."""
        self._compare = compare
        self._stop = stop
        self._root = os.open(into, OPEN_DIRECTORY)
        self._way = Way(self._root, None if merge else self._remove)
        self._walk = self._way.place
        self._data = Place(self._root)
        self._count = 0
        self._told_all = False
        self._finished = False
        self._as_told = True
        self._pending: dict[int, bytes] = {}  # files whose content was asked for, see ``_HELD``
        self._xattrs: dict[int, Mapping[str, bytes]] = {}  # of those that have some
        self._open: dict[int, int] = {}  # descriptors of those whose content is coming
        self._requests: list[int] = []
        self._links: list[tuple[Entry, bytes, bytes]] = []
        self._inodes: dict[int, bytes] = {}  # of files with several names that are as they should be
        self._times: dict[bytes, int] = {}  # of directories
        self._touched: set[bytes] = set()  # directories whose time is not what it should be
        self._changed: list[bytes] = []
        self._files = self._bytes_sent = self._bytes_saved = 0

    def close(self) -> None:
        """Let go; a file whose content has not come whole is removed. Safe to repeat."""
        if self._root < 0:
            return
        for number, fd in self._open.items():
            os.close(fd)
            parent, name = split(self._held(number, self._pending[number]).path)
            with suppress(OSError):  # without its time it is asked for again
                os.unlink(name, dir_fd=self._data.at(parent))
        self._open.clear()
        self._pending.clear()
        self._way.close()
        self._data.close()
        os.close(self._root)
        self._root = -1

    @property
    def complete(self) -> bool:
        """Whether all entries are known and all contents are here: ``finish`` it then."""
        return self._told_all and not self._pending

    @property
    def finished(self) -> bool:
        """Whether ``finish`` was called."""
        return self._finished

    @property
    def as_told(self) -> bool:
        """Whether every content that came had the size that was told; else its file was changed meanwhile."""
        return self._as_told

    def take_requests(self) -> list[int]:
        """Return the numbers of entries whose content is to be asked for, each once."""
        requests, self._requests = self._requests, []
        return requests

    def add(self, entry: Entry) -> None:
        """Take the next entry."""
        number = self._count
        self._count_more(1)
        if not number % 256 and self._stop():
            raise AbandonedError
        parent, name = split(entry.path)
        found = None
        if self._way.tell(parent, name, entry.path):
            found = os.stat(name, dir_fd=self._walk.at(parent), follow_symlinks=False)
        kind = stat.S_IFMT(entry.mode)
        if kind == stat.S_IFDIR:
            self._add_directory(entry, parent, name, found)
        elif kind == stat.S_IFLNK:
            self._add_symlink(entry, parent, name, found)
        elif kind != stat.S_IFREG and not entry.link:
            self._add_special(entry, parent, name, found)
        elif entry.link:
            self._add_link(entry, parent, name, found)
        else:
            self._add_file(number, entry, parent, name, found)

    def pass_over(self, first: Entry, last: Entry, totals: Totals) -> None:
        """Take entries of which it is known that they are here as the sender tells them.

        They are all that is here from ``first`` to ``last``, in the order of a walk, and no file among them has several
        names.
        """
        self._count_more(totals.entries)
        if self._stop():
            raise AbandonedError
        for path in self._way.pass_over(first.path, last.path, into=stat.S_ISDIR(last.mode)):
            self._times[path] = os.fstat(self._walk.at(path)).st_mtime_ns
        self._files += totals.files
        self._bytes_saved += totals.bytes

    def _count_more(self, entries: int) -> None:
        if self._told_all:
            raise InvalidArgumentError("the sender of files tells more of them after the last")
        self._count += entries
        if self._count > _MAX_ENTRIES:
            raise InvalidArgumentError(f"the sender of files tells more than {_MAX_ENTRIES} of them")

    def end_of_entries(self) -> None:
        """Note that there are no more: what the sender did not tell is removed."""
        if self._told_all:
            raise InvalidArgumentError("the sender of files tells their end twice")
        self._way.end()
        self._told_all = True

    def put(self, number: int, data: bytes) -> None:
        """Take a piece of the content of the entry of this number; an empty one is its end."""
        held = self._pending.get(number)
        if held is None:
            raise InvalidArgumentError(f"the sender of files sends the content of {number}, which nobody asked for")
        entry = self._held(number, held)
        fd = self._open.get(number, -1)
        if fd < 0:
            if len(self._open) >= _MAX_OPEN:
                raise InvalidArgumentError(f"the sender of files sends more than {_MAX_OPEN} at a time")
            parent, name = split(entry.path)
            fd = self._open[number] = os.open(name, _CREATE, 0o600, dir_fd=self._data.at(parent))
            self._touched.add(parent)
        if data:
            self._bytes_sent += len(data)
            _write(fd, data, entry.path)
            return
        self._as_told &= os.fstat(fd).st_size == entry.size
        self._complete(fd, entry)
        del self._open[number]
        os.close(fd)
        del self._pending[number]
        self._xattrs.pop(number, None)

    def _held(self, number: int, held: bytes) -> Entry:
        """Return what is needed of a file whose content is coming."""
        mode, mtime_ns, place, size = _HELD.unpack(held)
        return Entry(self._changed[place], mode, size, mtime_ns, xattrs=self._xattrs.get(number))

    def finish(self) -> SyncReport:
        """Make the hard links, set the directories' times, and say what was done."""
        assert self.complete
        for entry, parent, name in self._links:
            self._link(entry, parent, name)
        for path in sorted(self._touched & self._times.keys()):
            os.utime(self._walk.at(path), ns=(self._times[path],) * 2)
        self._finished = True
        return SyncReport(self._files, self._bytes_sent, self._bytes_saved, tuple(self._changed))

    # What is here.

    def _remove(self, parent: bytes, name: bytes) -> None:
        remove_tree_at(self._walk.at(parent), name, self._stop)
        self._touched.add(parent)
        self._changed.append(_join(parent, name))

    def _make_way(self, entry: Entry, parent: bytes, name: bytes, found: os.stat_result | None) -> int:
        """Remove what is there and note the change; return the directory's descriptor."""
        fd = self._walk.at(parent)
        if found is not None:
            remove_tree_at(fd, name, self._stop)
        self._touched.add(parent)
        self._changed.append(entry.path)
        return fd

    # Kinds of entries.

    def _add_directory(self, entry: Entry, parent: bytes, name: bytes, found: os.stat_result | None) -> None:
        permissions = entry.mode & _PERMISSIONS
        present: set[bytes] = set()
        self._times[entry.path] = entry.mtime_ns
        if found is None or not stat.S_ISDIR(found.st_mode):
            fd = self._make_way(entry, parent, name, found)
            os.mkdir(name, 0o700, dir_fd=fd)
            fd = self._walk.at(entry.path)
            os.fchmod(fd, permissions)
            _set_xattrs(fd, entry)
            self._touched.add(entry.path)
        else:
            fd = self._walk.at(entry.path)
            if found.st_mode & _PERMISSIONS != permissions:
                os.fchmod(fd, permissions)
                self._changed.append(entry.path)
            if found.st_mtime_ns != entry.mtime_ns:
                self._touched.add(entry.path)
            present = names(fd)
        self._way.enter(entry.path, present)

    def _add_symlink(self, entry: Entry, parent: bytes, name: bytes, found: os.stat_result | None) -> None:
        if not entry.link or b"\0" in entry.link:
            raise InvalidArgumentError(f"the sender of files tells a link without a target: {shortened(entry.path)!r}")
        if (
            found is not None
            and stat.S_ISLNK(found.st_mode)
            and found.st_mtime_ns == entry.mtime_ns
            and os.readlink(name, dir_fd=self._walk.at(parent)) == entry.link
        ):
            return
        fd = self._make_way(entry, parent, name, found)
        os.symlink(entry.link, name, dir_fd=fd)
        os.utime(name, ns=(entry.mtime_ns,) * 2, dir_fd=fd, follow_symlinks=False)

    def _add_special(self, entry: Entry, parent: bytes, name: bytes, found: os.stat_result | None) -> None:
        device = 0
        if not stat.S_ISFIFO(entry.mode):
            if not (0 <= entry.major <= _MAX_MAJOR and 0 <= entry.minor <= _MAX_MINOR):
                raise InvalidArgumentError(f"the sender of files tells a device {entry.major}:{entry.minor}")
            device = os.makedev(entry.major, entry.minor)
        if (
            found is not None
            and (found.st_mode, found.st_mtime_ns) == (entry.mode, entry.mtime_ns)
            and (found.st_rdev == device or stat.S_ISFIFO(entry.mode))
        ):
            return
        fd = self._make_way(entry, parent, name, found)
        os.mknod(name, entry.mode, device, dir_fd=fd)
        os.chmod(name, entry.mode & _PERMISSIONS, dir_fd=fd)  # no link: it was made just now
        os.utime(name, ns=(entry.mtime_ns,) * 2, dir_fd=fd, follow_symlinks=False)

    def _add_link(self, entry: Entry, parent: bytes, name: bytes, found: os.stat_result | None) -> None:
        check_path(entry.link)
        if stat.S_ISREG(entry.mode):
            self._files += 1
        if found is not None and self._inodes.get(found.st_ino) == entry.link:
            return
        if len(self._links) >= _MAX_LINKS:
            raise InvalidArgumentError(f"the sender of files tells more than {_MAX_LINKS} hard links")
        self._make_way(entry, parent, name, found)
        self._links.append((entry, parent, name))  # when what it leads to has its content

    def _add_file(self, number: int, entry: Entry, parent: bytes, name: bytes, found: os.stat_result | None) -> None:
        if entry.size < 0:
            raise InvalidArgumentError(f"the sender of files tells a size of {entry.size}")
        self._files += 1
        if (
            found is not None
            and self._compare
            and stat.S_ISREG(found.st_mode)
            and found.st_size == entry.size
            and found.st_mtime_ns == entry.mtime_ns
            and (found.st_nlink == 1 or self._inodes.setdefault(found.st_ino, entry.path) == entry.path)
        ):
            self._bytes_saved += entry.size
            if found.st_mode != entry.mode:
                os.chmod(name, entry.mode & _PERMISSIONS, dir_fd=self._walk.at(parent))  # no link: it was looked at
                self._changed.append(entry.path)
            return
        fd = self._make_way(entry, parent, name, found)
        if entry.size:
            self._pending[number] = _HELD.pack(entry.mode, entry.mtime_ns, len(self._changed) - 1, entry.size)
            if entry.xattrs:
                self._xattrs[number] = entry.xattrs
            self._requests.append(number)
            return
        file = os.open(name, _CREATE, 0o600, dir_fd=fd)
        try:
            self._complete(file, entry)
        finally:
            os.close(file)

    def _complete(self, fd: int, entry: Entry) -> None:
        """Make a file whole, its time last."""
        os.fchmod(fd, entry.mode & _PERMISSIONS)
        _set_xattrs(fd, entry)
        os.utime(fd, ns=(entry.mtime_ns,) * 2)

    def _link(self, entry: Entry, parent: bytes, name: bytes) -> None:
        target_parent, target = check_path(entry.link)
        try:
            source = self._data.at(target_parent)
            kind = os.stat(target, dir_fd=source, follow_symlinks=False).st_mode
            if stat.S_ISDIR(kind) or stat.S_ISLNK(kind):
                raise InvalidArgumentError(
                    f"the sender of files tells a hard link to {shortened(entry.link)!r}, which is no file"
                )
            os.link(target, name, src_dir_fd=source, dst_dir_fd=self._walk.at(parent), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InvalidArgumentError(
                f"the sender of files tells a hard link to {shortened(entry.link)!r}, which it does not tell"
            ) from error


def _join(parent: bytes, name: bytes) -> bytes:
    return parent + b"/" + name if parent else name


def _set_xattrs(fd: int, entry: Entry) -> None:
    for key, value in (entry.xattrs or {}).items():
        if key.startswith(_XATTRS) and "\0" not in key:
            try:
                os.setxattr(fd, key, value)
            except OSError as error:
                if error.errno in (errno.ENOTSUP, errno.EPERM):  # the file system has none
                    continue
                raise RemoteError(f"set {key!r} of {shortened(entry.path)!r}: {error.strerror}") from error


def _write(fd: int, data: bytes, path: bytes) -> None:
    """Write all of ``data``. Raises OSError that names ``path``: the call knows a descriptor alone."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        error.filename = os.fsdecode(path)
        raise
