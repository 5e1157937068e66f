"""Unpack a layer's tar into a directory that overlayfs can use as a layer.

Nothing is trusted: see ``confined`` for why no entry reaches outside. The process must be root, with umask 0.

Reference: OCI image spec 1.1, "Applying Changesets"; Linux Documentation/filesystems/overlayfs.rst, "whiteouts and
opaque directories".
"""

import errno
import os
import stat
from dataclasses import dataclass
from typing import Final

from sampan.errors import InvalidArgumentError, ResourceExhaustedError, SampanError, reworded
from sampan.tar.entry import Entry, EntryType
from sampan.tar.reader import TarReader
from sampan.tar.sparse import write_parts
from snapshotter.drivers.whiteouts import WHITEOUT_DEVICE, is_whiteout, make_opaque, make_whiteout
from snapshotter.unpack.confined import Directories
from snapshotter.unpack.entry_names import Meaning, Place, check_file, clean, place

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SPECIAL: Final = 0o7000  # bits that open(2) and mkdir(2) may drop, and chown(2) does
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_BLOCK: Final = 4096


@dataclass(slots=True)
class Extracted:
    """What an extraction made."""

    size_bytes: int = 0  # in blocks of 4096, as a file system counts
    inodes: int = 0
    skipped_xattrs: int = 0  # that the file system cannot hold
    replaced: bool = False  # something counted above is gone again


class Extractor:
    """Writes entries below one directory. Later entries replace earlier ones of the same name."""

    def __init__(self, root: int, trash: int) -> None:
        """Take descriptors of the directory to fill and of one that what is replaced can be moved to."""
        self._directories = Directories(root, trash, self._implied)
        # Owner, mode, attributes and times of a directory are set last: times because its entries change them, the
        # others because a set-gid bit or a default ACL would be inherited by what is made inside.
        self._pending: dict[bytes, Entry] = {}
        self._result = Extracted()

    def extract(self, reader: TarReader) -> Extracted:
        """Write all entries of ``reader``.

        Raises:
            InvalidArgumentError: an entry that must not or cannot be; the message names it. What came before it has
                been written.
            ResourceExhaustedError: the disk is full.
        """
        try:
            for entry in reader:
                try:
                    self._entry(entry, reader)
                except OSError as error:
                    raise _translated(entry, error) from error
                except SampanError as error:
                    raise reworded(error, f"entry {entry.shown}: {error}") from error
            self._finish()
        finally:
            self._directories.close()
        return self._result

    def _entry(self, entry: Entry, reader: TarReader) -> None:
        where = place(entry.name)
        if where.meaning is Meaning.NOTHING:
            return
        if where.meaning is not Meaning.FILE:
            self._mark(where)
            return
        check_file(entry, where)
        if not where.path:
            self._pending[b""] = entry
            return
        directory, _, name = where.path.rpartition(b"/")
        parent = self._directories.resolve(directory, make=True)
        path = parent + b"/" + name if parent else name
        self._make(entry, reader, path, name)

    def _make(self, entry: Entry, reader: TarReader, path: bytes, name: bytes) -> None:
        fd = self._directories.fd(path.rpartition(b"/")[0])
        if entry.type is EntryType.FILE:
            self._file(entry, reader, self._create(fd, name, path))
        elif entry.type is EntryType.DIRECTORY:
            self._directory(entry, path, name, fd)
        elif entry.type is EntryType.HARD_LINK:
            self._hard_link(entry, path, name)
        else:
            try:
                self._node(entry, name, fd)
            except FileExistsError:
                self._remove(path)
                fd = self._directories.fd(path.rpartition(b"/")[0])
                self._node(entry, name, fd)
            self._attributes_at(entry, fd, name)
            self._add(0)

    def _create(self, parent: int, name: bytes, path: bytes) -> int:
        try:
            return os.open(name, _CREATE, 0o600, dir_fd=parent)
        except FileExistsError:
            self._remove(path)
            return os.open(name, _CREATE, 0o600, dir_fd=self._directories.fd(path.rpartition(b"/")[0]))

    def _file(self, entry: Entry, reader: TarReader, fd: int) -> None:
        try:
            if entry.parts is None:
                for piece in reader.data():
                    _write(fd, piece)
            elif entry.size:
                write_parts(fd, entry, reader.data())
            os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode)
            if entry.xattrs:
                self._xattrs(entry, fd)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)
        stored = entry.size if entry.parts is None else sum(length for _, length in entry.parts)
        self._add(stored)

    def _directory(self, entry: Entry, path: bytes, name: bytes, parent: int) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
            self._implied(path, over_whiteout=False)
        except FileExistsError:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                self._remove(path)
                os.mkdir(name, 0o755, dir_fd=self._directories.fd(path.rpartition(b"/")[0]))
                self._implied(path, over_whiteout=is_whiteout(found))
        self._pending[path] = entry

    def _hard_link(self, entry: Entry, path: bytes, name: bytes) -> None:
        target = clean(entry.link, "link target")
        directory, _, source = target.rpartition(b"/")
        if not source:
            raise InvalidArgumentError("it is a hard link to nothing")
        directory = self._directories.resolve(directory, make=False)
        real = directory + b"/" + source if directory else source
        if real == path:
            raise InvalidArgumentError("it is a hard link to itself")

        def link() -> None:
            # The second call may close the first one's descriptor, were it not among the most recent.
            to = self._directories.fd(path.rpartition(b"/")[0])
            os.link(source, name, src_dir_fd=self._directories.fd(directory), dst_dir_fd=to, follow_symlinks=False)

        try:
            try:
                link()
            except FileExistsError:
                self._remove(path)
                link()
        except FileNotFoundError:
            raise InvalidArgumentError(f"its link target {target[:120]!r} is not in the layer") from None

    def _node(self, entry: Entry, name: bytes, parent: int) -> None:
        if entry.type is EntryType.SYMLINK:
            if not entry.link:
                raise InvalidArgumentError("it is a symbolic link to nothing")
            os.symlink(entry.link, name, dir_fd=parent)
        elif entry.type is EntryType.FIFO:
            os.mkfifo(name, 0o600, dir_fd=parent)
        elif entry.type is EntryType.CHAR_DEVICE and entry.device == WHITEOUT_DEVICE:
            make_whiteout(name, parent)
        else:
            kind = stat.S_IFCHR if entry.type is EntryType.CHAR_DEVICE else stat.S_IFBLK
            os.mknod(name, kind | 0o600, os.makedev(*entry.device), dir_fd=parent)

    def _mark(self, where: Place) -> None:
        """Make a whiteout, or make a directory opaque. What this layer itself puts there stays visible."""
        directory = where.path if where.meaning is Meaning.OPAQUE else where.path.rpartition(b"/")[0]
        if self._directories.resolve(directory, make=True) != directory:
            raise InvalidArgumentError("it is a whiteout whose directory is reached through a link")
        fd = self._directories.fd(directory)
        if where.meaning is Meaning.OPAQUE:
            make_opaque(fd)
            return
        name = where.path.rpartition(b"/")[2]
        try:
            make_whiteout(name, fd)
            self._add(0)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                make_opaque(self._directories.fd(where.path))

    def _implied(self, path: bytes, *, over_whiteout: bool) -> None:
        """Note a directory just made: it has no entry yet, and one that replaces a whiteout hides what is below."""
        self._pending.pop(path, None)
        if over_whiteout:
            make_opaque(self._directories.fd(path))
            self._result.replaced = True
        self._add(_BLOCK)

    def _remove(self, path: bytes) -> None:
        self._directories.remove(path)
        self._result.replaced = True

    def _attributes_at(self, entry: Entry, parent: int, name: bytes) -> None:
        """Set what belongs to a link, device or fifo, none of which may be opened."""
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.type is not EntryType.SYMLINK:
            # Not a link, because it was just made here; fchmodat(2) would follow one.
            os.chmod(name, entry.mode, dir_fd=parent)
        if entry.xattrs:
            self._xattrs(entry, os.fsencode(f"/proc/self/fd/{parent}/") + name)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _xattrs(self, entry: Entry, target: int | bytes) -> None:
        for name, value in entry.xattrs.items():
            try:
                if isinstance(target, int):
                    os.setxattr(target, name, value)
                else:
                    os.setxattr(target, name, value, follow_symlinks=False)
            except OSError as error:
                # Not on this file system; and the kernel allows user.* on nothing but files and directories.
                if error.errno == errno.ENOTSUP or (error.errno == errno.EPERM and name.startswith("user.")):
                    self._result.skipped_xattrs += 1
                    continue
                raise InvalidArgumentError(f"its attribute {name} cannot be set: {error.strerror}") from error

    def _finish(self) -> None:
        """Give directories what is theirs, deepest first, so that no time changes again."""
        for path in sorted(self._pending, key=lambda path: path.count(b"/") if path else -1, reverse=True):
            entry = self._pending[path]
            try:
                fd = self._directories.fd(path)
            except (FileNotFoundError, NotADirectoryError):
                continue  # replaced later in the archive
            try:
                os.fchown(fd, entry.uid, entry.gid)
                os.fchmod(fd, entry.mode)
                self._xattrs(entry, fd)
                os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
            except OSError as error:
                raise _translated(entry, error) from error

    def _add(self, size_bytes: int) -> None:
        self._result.inodes += 1
        self._result.size_bytes += -(-size_bytes // _BLOCK) * _BLOCK


def _write(fd: int, piece: bytes | memoryview) -> None:
    written = os.write(fd, piece)
    while written < len(piece):  # only where the disk or a limit ends, and then the next call says so
        written += os.write(fd, piece[written:])


def _translated(entry: Entry, error: OSError) -> SampanError:
    kind = ResourceExhaustedError if error.errno in _FULL else InvalidArgumentError
    return kind(f"entry {entry.shown}: {error.strerror}")
