"""Removal of whole directory trees. It does not recurse, so no depth is too deep."""

import itertools
import os
from typing import Final

from sampan.sys.beneath import OPEN_DIRECTORY

_counter: Final = itertools.count()


def empty(directory: int) -> None:
    """Remove all that is in the directory with this descriptor, and leave the directory.

    Directories inside directories are first moved up here, so that a tree a thousand levels deep takes no more
    descriptors than a flat one. Safe to repeat after a crash.
    """
    todo = [os.fsencode(name) for name in os.listdir(directory)]
    while todo:
        name = todo.pop()
        try:
            os.unlink(name, dir_fd=directory)
            continue
        except (IsADirectoryError, PermissionError):  # POSIX allows either
            pass
        except FileNotFoundError:
            continue
        todo += _flatten(directory, name)
        os.rmdir(name, dir_fd=directory)


def _flatten(directory: int, name: bytes) -> list[bytes]:
    """Empty the directory ``name``: files go at once, its directories move up and are returned by their new names."""
    moved = []
    fd = os.open(name, OPEN_DIRECTORY, dir_fd=directory)
    try:
        with os.scandir(fd) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for child, is_directory in found:
            if not is_directory:
                os.unlink(child, dir_fd=fd)
                continue
            try:
                os.rmdir(child, dir_fd=fd)
            except OSError:  # not empty
                moved.append(discard(fd, child, directory))
    finally:
        os.close(fd)
    return moved


def discard(parent: int, name: bytes | str, trash: int) -> bytes:
    """Move ``name`` out of ``parent`` into the directory ``trash``, under a new name, which is returned."""
    new = b"%d-%d" % (os.getpid(), next(_counter))
    os.rename(name, new, src_dir_fd=parent, dst_dir_fd=trash)
    return new
