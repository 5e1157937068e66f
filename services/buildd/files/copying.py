"""Copy from one output into another, as BuildKit's ``FileActionCopy`` does.

A path of the destination is resolved inside its root; below what is copied, links in the destination are replaced and
not followed. A directory that was there keeps its own attributes if it is what is copied *to*, and gets the source's if
it is one further down.
"""

import os
import stat
from collections.abc import Callable
from typing import Final

from buildd.files.modes import Ids, changed_mode
from buildd.files.root import Root, clean, join, split
from buildd.files.selecting import Patterns, expand
from buildd.files.target import (
    CREATE,
    copy_data,
    make_directories,
    make_room,
    remove,
    set_attributes,
    set_attributes_at,
    translated,
)
from buildd.files.unpack import unpack
from buildd.files.walk import Xattrs, proc_path, read_xattrs, walk
from buildd.llb.ops import Copy
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.sys.trees import Descent

_MAX_PATH: Final = 4000  # bytes of a path that can be used at once
_IMPLIED_MODE: Final = 0o755

# BuildKit finds this out before it copies anything.
_MISSING: Final = "failed to compute cache key: failed to calculate checksum of ref source"

# A path as it is shown. In a deep tree it is long, and it is rarely needed.
_Path = Callable[[], str]


def copy(source: Root, target: Root, op: Copy, owner: Ids | None) -> None:
    """Carry out a copy.

    Raises:
        NotFoundError: the source, or what is required of it, is not there.
        InvalidArgumentError: something of another kind is in the way; a path or pattern that cannot be.
        NoSpaceError: the disk is full.
    """
    try:
        _Copying(source, target, op, owner).run()
    except OSError as error:
        raise translated(error, f"cannot copy {op.src} to {op.dest}") from error


class _Copying:
    def __init__(self, source: Root, target: Root, op: Copy, owner: Ids | None) -> None:
        self._source = source
        self._target = target
        self._op = op
        self._owner = owner
        self._patterns = Patterns(op.include_patterns, op.exclude_patterns)

    def run(self) -> None:
        op = self._op
        if not op.create_dest_path:
            parent, _ = split(self._target.real(op.dest))
            if self._target.stat(parent) is None:
                raise NotFoundError(f"failed to stat {op.dest}: no such file or directory")
        for path in op.required_paths:
            if self._source.stat(self._source.real(path, follow=op.follow_symlink)) is None:
                raise NotFoundError(f'{_MISSING}: "{path}": not found')
        found = expand(self._source, op.src, follow=op.follow_symlink) if op.allow_wildcard else [op.src]
        if not found and not op.allow_empty_wildcard:
            raise NotFoundError(f"{op.src} not found")
        for path in found:
            if op.attempt_unpack and self._unpack(path):
                continue
            self._copy(path)

    def _unpack(self, path: str) -> bool:
        real = self._source.real(path)
        found = self._source.stat(real)
        if found is None or not stat.S_ISREG(found.st_mode):
            return False
        op = self._op
        archive = self._source.file(real)
        try:
            return unpack(archive, path, self._target, op.dest, self._owner, op.timestamp_ns)
        finally:
            os.close(archive)

    def _copy(self, path: str) -> None:
        op = self._op
        above = op.dest if op.dest.endswith(("/", "/.")) else op.dest.rpartition("/")[0]
        self._make(self._target.real(above))
        dest = self._target.real(clean(op.dest))
        real = self._source.real(path, follow=op.follow_symlink)
        status = self._source.stat(real)
        if status is None:
            raise NotFoundError(f'{_MISSING}: "{clean(path)}": not found')
        directory = stat.S_ISDIR(status.st_mode)
        there = self._target.stat(dest)
        into = there is not None and (not op.dir_copy_contents if directory else stat.S_ISDIR(there.st_mode))
        name = clean(path).rpartition("/")[2]
        if into and name:
            dest = join(dest, name)
        contents = directory and op.dir_copy_contents and there is None
        self._make(dest if contents else split(dest)[0])
        if directory:
            self._directory(real, status, dest)
        else:
            self._file(real, status, dest)

    def _make(self, real: str) -> None:
        # Directories on the way get the mode that was asked for, as BuildKit's do, unless it is a symbolic one.
        op = self._op
        mode = op.mode & 0o777 if op.mode >= 0 and not op.mode_text else _IMPLIED_MODE
        make_directories(self._target, real, mode, self._owner, op.timestamp_ns)

    def _file(self, real: str, status: os.stat_result, dest: str) -> None:
        parent, name = split(real)
        above, called = split(dest)
        if not called:
            raise InvalidArgumentError("cannot replace to directory / with file")
        source = self._source.directory(parent)
        try:
            target = self._target.directory(above)
            try:
                files = _Files(self._op, self._owner, self._target)
                files.copy(source, name, status, target, called, lambda: f"/{dest}")
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _directory(self, real: str, status: os.stat_result, dest: str) -> None:
        source = self._source.directory(real)
        try:
            there = self._target.stat(dest)
            if there is not None and not stat.S_ISDIR(there.st_mode):
                if not self._op.always_replace:
                    raise InvalidArgumentError(f"cannot copy to non-directory: /{dest}")
                self._remove(dest)
                there = None
            if there is None:
                make_directories(self._target, dest, 0o700, None, -1)
            target = self._target.directory(dest)
            try:
                files = _Files(self._op, self._owner, self._target)
                with Descent(target) as descent:
                    walk(source, _Merge(files, descent, f"/{dest}" if dest else ""), self._patterns)
                if there is None:
                    files.directory(target, status, read_xattrs(source))
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _remove(self, real: str) -> None:
        above, name = split(real)
        parent = self._target.directory(above)
        try:
            remove(parent, name)
        finally:
            os.close(parent)


class _Files:
    """Makes copies of single files, with the attributes that they are to have."""

    def __init__(self, op: Copy, owner: Ids | None, target: Root) -> None:
        self._op = op
        self._owner = owner
        self._target = target
        self._links: dict[tuple[int, int], str] = {}  # where in the target a file with several names is
        self.always_replace = op.always_replace
        self.some = bool(op.include_patterns)

    def directory(self, fd: int, status: os.stat_result, xattrs: Xattrs) -> None:
        """Give a directory its source's attributes."""
        set_attributes(fd, self._ids(status), self._mode(status), xattrs, self._time(status))

    def copy(self, source: int, name: str, status: os.stat_result, target: int, called: str, path: _Path) -> None:
        """Copy one file that is no directory; ``path`` says where it goes, for messages and for links to it."""
        try:
            self._make(source, name, status, target, called, path)
        except FileExistsError:  # nearly never, so nobody looks before
            if self.always_replace:
                remove(target, called)
            elif not make_room(target, called):
                raise InvalidArgumentError(f"cannot replace to directory {path()} with file") from None
            self._make(source, name, status, target, called, path)

    def _make(self, source: int, name: str, status: os.stat_result, target: int, called: str, path: _Path) -> None:
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            if status.st_nlink > 1 and self._link(status, target, called):
                return
            self._regular(source, name, status, target, called)
            if status.st_nlink > 1 and len(where := path()) < _MAX_PATH:
                self._links[status.st_dev, status.st_ino] = where.removeprefix("/")
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source), called, dir_fd=target)
            self._attributes(source, name, status, target, called, -1)
        elif kind != stat.S_IFSOCK:  # nobody listens to a copy, and no layer can hold one
            os.mknod(called, kind | 0o600, status.st_rdev, dir_fd=target)
            self._attributes(source, name, status, target, called, self._mode(status))

    def _regular(self, source: int, name: str, status: os.stat_result, target: int, called: str) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        reading = os.open(name, flags, dir_fd=source)
        try:
            writing = os.open(called, CREATE, 0o600, dir_fd=target)
            try:
                if status.st_size:
                    copy_data(reading, writing, status)
                xattrs = read_xattrs(reading)
                set_attributes(writing, self._ids(status), self._mode(status), xattrs, self._time(status))
            finally:
                os.close(writing)
        finally:
            os.close(reading)

    def _link(self, status: os.stat_result, target: int, called: str) -> bool:
        """Make a hard link, if another name of the file was copied."""
        first = self._links.get((status.st_dev, status.st_ino))
        if first is None:
            return False
        os.link(first, called, src_dir_fd=self._target.fd, dst_dir_fd=target, follow_symlinks=False)
        return True

    def _attributes(self, source: int, name: str, status: os.stat_result, target: int, called: str, mode: int) -> None:
        xattrs = read_xattrs(proc_path(source, name))
        set_attributes_at(target, called, self._ids(status), mode, xattrs, self._time(status))

    def _ids(self, status: os.stat_result) -> Ids:
        return self._owner or Ids(status.st_uid, status.st_gid)

    def _mode(self, status: os.stat_result) -> int:
        if self._op.mode_text:
            return changed_mode(self._op.mode_text, status.st_mode)
        return self._op.mode if self._op.mode >= 0 else stat.S_IMODE(status.st_mode)

    def _time(self, status: os.stat_result) -> int:
        return self._op.timestamp_ns if self._op.timestamp_ns >= 0 else max(status.st_mtime_ns, 0)


class _Merge:
    """Satisfies ``walk.Visitor``: what is shown goes into a directory of the target, at the same place below."""

    def __init__(self, files: _Files, target: Descent, path: str) -> None:
        self._files = files
        self._target = target
        self._path = path
        self._open: list[Callable[[int], None] | None] = []  # what gives each directory on the way its attributes

    def enter(self, name: str, status: os.stat_result, xattrs: Xattrs) -> None:
        """Make a directory, or take the one that is there."""
        parent = self._target.fd
        created = True
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            created = False
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                if not self._files.always_replace:
                    raise InvalidArgumentError(f"cannot copy to non-directory: {self._shown(name)}") from None
                remove(parent, name)
                os.mkdir(name, 0o700, dir_fd=parent)
                created = True
        self._target.enter(os.fsencode(name))

        def finish(fd: int) -> None:
            self._files.directory(fd, status, xattrs)

        # With patterns, a directory on the way to what they select keeps what it has.
        self._open.append(finish if created or not self._files.some else None)

    def leave(self) -> None:
        """Give a directory its attributes: its times last."""
        finish = self._open.pop()
        if finish is not None:
            finish(self._target.fd)
        self._target.leave()

    def file(self, parent: int, name: str, status: os.stat_result) -> None:
        """Copy a file."""
        try:
            self._files.copy(parent, name, status, self._target.fd, name, lambda: self._shown(name))
        except OSError as error:
            raise translated(error, f"cannot copy {self._shown(name)}") from error

    def _shown(self, name: str) -> str:
        way = os.fsdecode(self._target.path)
        return f"{self._path}/{way}/{name}" if way else f"{self._path}/{name}"
