"""Files, directories and links that a step makes or removes by itself.

Reference: moby/buildkit, solver/pb/ops.proto, ``FileActionMkFile``, ``FileActionMkDir``, ``FileActionRm``,
``FileActionSymlink``.
"""

import os
import stat
from typing import Final

from buildd.files.modes import Ids
from buildd.files.root import Root, clean, split
from buildd.files.selecting import expand
from buildd.files.target import CREATE, make_directories, remove, set_attributes_at, translated, write
from buildd.llb.ops import MakeDirectory, MakeFile, MakeSymlink, Remove
from sampan.errors import InvalidArgumentError, NotFoundError

_PERMISSIONS: Final = 0o777


def make_file(root: Root, op: MakeFile, owner: Ids | None) -> None:
    """Write a file; one that is there keeps its mode.

    Raises:
        NotFoundError: its directory is not there.
        InvalidArgumentError: something is there that is no file.
    """
    real = root.real(op.path)
    found = root.stat(real)
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise InvalidArgumentError(f"open {clean(op.path)}: is not a regular file")
    above, name = split(real)
    try:
        parent = root.directory(above)
        try:
            flags = os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC if found is not None else CREATE
            fd = os.open(name, flags, op.mode & _PERMISSIONS, dir_fd=parent)
        finally:
            os.close(parent)
        try:
            write(fd, op.data)
            if owner is not None:
                os.fchown(fd, owner.uid, owner.gid)
            if found is None:
                os.fchmod(fd, op.mode & _PERMISSIONS)
            if op.timestamp_ns >= 0:
                os.utime(fd, ns=(op.timestamp_ns, op.timestamp_ns))
        finally:
            os.close(fd)
    except OSError as error:
        raise translated(error, f"open {clean(op.path)}") from error


def make_directory(root: Root, op: MakeDirectory, owner: Ids | None) -> None:
    """Make a directory; one that is there stays as it is.

    Raises:
        NotFoundError: the directory that it is to be in is not there, and is not to be made.
        InvalidArgumentError: something on the way is no directory.
    """
    real = root.real(op.path)
    if not op.make_parents:
        above = root.stat(split(real)[0])
        if above is None:
            raise NotFoundError(f"mkdir {clean(op.path)}: no such file or directory")
        if real and root.stat(real) is not None:
            return  # also a file, as for BuildKit
    try:
        make_directories(root, real, op.mode & _PERMISSIONS, owner, op.timestamp_ns)
    except OSError as error:
        raise translated(error, f"mkdir {clean(op.path)}") from error


def make_link(root: Root, op: MakeSymlink, owner: Ids | None) -> None:
    """Make a symbolic link. Raises NotFoundError, InvalidArgumentError: it cannot be there."""
    above, name = split(clean(op.path).lstrip("/"))
    if not name:
        raise InvalidArgumentError("symlink /: is a directory")
    try:
        parent = root.directory(root.real(above))
        try:
            os.symlink(op.target, name, dir_fd=parent)
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            time = op.timestamp_ns if op.timestamp_ns >= 0 else found.st_mtime_ns
            set_attributes_at(parent, name, owner or Ids(found.st_uid, found.st_gid), -1, {}, time)
        finally:
            os.close(parent)
    except OSError as error:
        raise translated(error, f"symlink {clean(op.path)}") from error


def remove_path(root: Root, op: Remove) -> None:
    """Remove what a path, or a wildcard, names; a link at its end itself, and not what it leads to.

    Raises:
        NotFoundError: there is no such thing; a wildcard may stand for nothing.
        InvalidArgumentError: the root.
    """
    for each in expand(root, op.path, follow=False) if op.allow_wildcard else [op.path]:
        above, name = split(clean(each).lstrip("/"))
        if not name:
            raise InvalidArgumentError("rmPath: invalid empty path")
        try:
            real = root.real(above)
            if root.stat(f"{real}/{name}" if real else name) is None:
                if op.allow_not_found or op.allow_wildcard:
                    continue
                raise NotFoundError(f"stat {clean(each)}: no such file or directory")
            parent = root.directory(real)
            try:
                remove(parent, name)
            finally:
                os.close(parent)
        except OSError as error:
            raise translated(error, f"cannot remove {clean(each)}") from error
