"""A tar, unpacked into a directory of a container that may be running, and hostile.

The directory is opened once. Each entry is made by its last name in a directory that is open, and gets its content and
attributes through its own descriptor: what a name leads to in between does not matter. Links on the way to that
directory are followed as the container would, never out of it.
"""

import errno
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from runtimed.archives.lookup import NODE
from runtimed.oci.rootfs import RootFs
from sampan.errors import (
    ConflictError,
    InvalidArgumentError,
    PermissionDeniedError,
    ResourceExhaustedError,
    SampanError,
)
from sampan.sys.beneath import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, of_kernel_file_system, openat2
from sampan.sys.trees import remove_tree_at
from sampan.tar.entry import Entry, EntryType
from sampan.tar.reader import TarReader
from sampan.tar.sparse import write_parts

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY
_OVERLAYS_OWN: Final = "trusted.overlay."
_TRIES: Final = 16  # to make a file in the place of one that somebody goes on making


class Unpacker:
    """Fills one directory."""

    def __init__(self, tree: RootFs, directory: int, *, keep_kinds: bool) -> None:
        """Take an O_PATH descriptor of the directory, which stays the caller's.

        With ``keep_kinds`` a file does not take a directory's place, nor the other way round.
        """
        self._tree = tree
        self._top = directory
        self._where = tree.name_of(directory)
        self._keep_kinds = keep_kinds
        self._known: tuple[bytes, int] | None = None  # the directory of the last entry
        self._times: dict[bytes, int] = {}  # of directories, set last, because what is made in them changes them

    def unpack(self, reader: TarReader) -> None:
        """Write all entries; what was written before an error stays.

        Raises:
            InvalidArgumentError: an entry that cannot be.
            ConflictError: with ``keep_kinds``, something of another kind is in the way; or the kernel refused.
            PermissionDeniedError: the file system is read-only, or a kernel's.
            ResourceExhaustedError: it is full.
        """
        if of_kernel_file_system(self._top):
            raise PermissionDeniedError(f"{self._where} is a file system of the kernel's, which takes no archive")
        try:
            for entry in reader:
                try:
                    self._entry(entry, reader)
                except OSError as error:
                    if error.errno == errno.EROFS:
                        raise PermissionDeniedError(self._read_only()) from error
                    raise _translated(entry, error) from error
                except (OverflowError, ValueError) as error:  # a number or a text that no system call takes
                    raise InvalidArgumentError(f"entry {entry.shown}: {error}") from error
            self._finish()
        finally:
            self._forget()

    def _entry(self, entry: Entry, reader: TarReader) -> None:
        path = _clean(entry.name)
        if not path:
            if entry.type is EntryType.DIRECTORY:
                return  # "./": the directory itself keeps what it has
            raise ConflictError(f'cannot overwrite directory "{self._where}" with non-directory "{entry.shown}"')
        directory, _, name = path.rpartition(b"/")
        parent = self._parent(directory, make=True)
        if entry.type is EntryType.DIRECTORY:
            self._directory(entry, path, name, parent)
            return
        self._make_room(entry, path, name, parent)
        for attempt in range(_TRIES):
            try:
                self._make(entry, reader, name, parent)
                return
            except FileExistsError:
                if attempt + 1 == _TRIES:
                    raise
                self._make_room(entry, path, name, parent)

    def _make(self, entry: Entry, reader: TarReader, name: bytes, parent: int) -> None:
        if entry.type is EntryType.FILE:
            fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
            try:
                write_parts(fd, entry, reader.data())
                _set_attributes(fd, entry)
            finally:
                os.close(fd)
            return
        if entry.type is EntryType.HARD_LINK:
            self._hard_link(entry, name, parent)
            return
        if entry.type is EntryType.SYMLINK:
            if not entry.link:
                raise InvalidArgumentError(f"entry {entry.shown} is a symbolic link to nothing")
            os.symlink(entry.link, name, dir_fd=parent)
        elif entry.type is EntryType.FIFO:
            os.mkfifo(name, 0o600, dir_fd=parent)
        else:
            kind = stat.S_IFCHR if entry.type is EntryType.CHAR_DEVICE else stat.S_IFBLK
            os.mknod(name, kind | 0o600, os.makedev(*entry.device), dir_fd=parent)
        with _opened(name, parent) as node:
            _set_attributes(node, entry)

    def _hard_link(self, entry: Entry, name: bytes, parent: int) -> None:
        target = _clean(entry.link)
        directory, _, source = target.rpartition(b"/")
        if not source:
            raise InvalidArgumentError(f"entry {entry.shown} is a hard link to nothing")
        try:
            there = self._open(directory, make=False)
            try:
                os.link(source, name, src_dir_fd=there, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(there)
        except (FileNotFoundError, NotADirectoryError):
            shown = target[:120].decode(errors="backslashreplace")
            raise InvalidArgumentError(f"entry {entry.shown} is a hard link to {shown!r}, which is not there") from None

    def _directory(self, entry: Entry, path: bytes, name: bytes, parent: int) -> None:
        for attempt in range(_TRIES):
            try:
                os.mkdir(name, 0o755, dir_fd=parent)
            except FileExistsError:
                if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                    if attempt + 1 == _TRIES:
                        raise
                    self._make_room(entry, path, name, parent)
                    continue
            break
        with _opened(name, parent, os.O_DIRECTORY) as node:
            if of_kernel_file_system(node):
                raise PermissionDeniedError(f"entry {entry.shown} is in a file system of the kernel's")
            _set_attributes(node, entry)
        self._times[path] = entry.mtime_ns

    def _make_room(self, entry: Entry, path: bytes, name: bytes, parent: int) -> None:
        """Remove what is there, unless it is to stay."""
        try:
            there = stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return
        if self._keep_kinds and there is not (entry.type is EntryType.DIRECTORY):
            target = posixpath.join(self._where, os.fsdecode(path))
            kinds = ("directory", "non-directory") if there else ("non-directory", "directory")
            raise ConflictError(f'cannot overwrite {kinds[0]} "{target}" with {kinds[1]} "{self._where}"')
        if not there:
            try:
                os.unlink(name, dir_fd=parent)
            except FileNotFoundError:
                return
            return
        remove_tree_at(parent, name)
        self._times = {known: time for known, time in self._times.items() if not (known + b"/").startswith(path + b"/")}

    def _parent(self, directory: bytes, *, make: bool) -> int:
        """Return a descriptor of an entry's directory, good until the next call; the last one is kept."""
        if self._known is not None and self._known[0] == directory:
            return self._known[1]
        self._forget()
        self._known = directory, self._open(directory, make=make)
        return self._known[1]

    def _open(self, directory: bytes, *, make: bool) -> int:
        try:
            return openat2(self._top, directory or b".", _DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOENT):
                raise
        # With a link on the way, absolute ones count from the container's root and not from this directory.
        path = posixpath.join(self._where, os.fsdecode(directory))
        return self._tree.open_made(path) if make else self._tree.find(path, os.O_DIRECTORY)

    def _forget(self) -> None:
        if self._known is not None:
            os.close(self._known[1])
            self._known = None

    def _read_only(self) -> str:
        """Return Docker's words for where this is."""
        root = self._tree.find("/")
        try:
            is_root = os.fstat(root).st_dev == os.fstat(self._top).st_dev
        finally:
            os.close(root)
        return "container rootfs is marked read-only" if is_root else "mounted volume is marked read-only"

    def _finish(self) -> None:
        for path, time_ns in self._times.items():
            try:
                fd = openat2(self._top, path, _DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
            except OSError:
                continue  # the container has moved it, or there is a link on the way
            try:
                os.utime(f"/proc/self/fd/{fd}", ns=(time_ns, time_ns))
            finally:
                os.close(fd)


def _clean(name: bytes) -> bytes:
    """Return a relative path without dots; a ``..`` ends at the directory that is filled."""
    return posixpath.normpath(b"/" + name).lstrip(b"/")


@contextmanager
def _opened(name: bytes, parent: int, flags: int = 0) -> Iterator[int]:
    fd = os.open(name, NODE | flags, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)


def _set_attributes(fd: int, entry: Entry) -> None:
    """Give a file just made, or a directory, what its entry says; ``fd`` may be an O_PATH descriptor."""
    path = f"/proc/self/fd/{fd}"
    os.chown(path, entry.uid, entry.gid)  # clears set-user-ID and capabilities: before both
    if entry.type is not EntryType.SYMLINK:
        Path(path).chmod(entry.mode)
        for name, value in entry.xattrs.items():
            if name.startswith(_OVERLAYS_OWN):
                raise InvalidArgumentError(f"entry {entry.shown} sets {name}, which only the engine may")
            _set_xattr(path, name, value, entry)
    os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))


def _set_xattr(path: str, name: str, value: bytes, entry: Entry) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        # Not on this file system; and the kernel allows user.* on nothing but files and directories.
        if error.errno == errno.ENOTSUP or (error.errno == errno.EPERM and name.startswith("user.")):
            return
        raise InvalidArgumentError(
            f"entry {entry.shown} has the attribute {name}, which cannot be set: {error.strerror}"
        ) from error


def _translated(entry: Entry, error: OSError) -> SampanError:
    what = f"entry {entry.shown}: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceExhaustedError(what)
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionDeniedError(what)
    return ConflictError(what)
