"""Directories that other users of the host cannot enter, and files that they cannot read.

A container may make a set-user-ID program that belongs to root, and an image may bring one: whoever reaches such a file
on the host becomes root. So nobody else gets as far as the first directory below a root, whatever is further down.

dockerd's data root is ``0710``, too.
"""

import contextlib
import grp
import os
import stat
from pathlib import Path
from typing import Final

# What a process of the engine makes is its user's alone, unless it says more.
UMASK: Final = 0o077

CLOSED: Final = 0o700

DATA_ROOT: Final = 0o710  # its group may pass to what it has been given, as dockerd's

# Other users pass through to sockets they have a right to, by name, and see nothing on the way: each socket has a group
# of its own, so none can be the directory's.
RUN_ROOT: Final = 0o711

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def make_closed(path: Path, mode: int = CLOSED) -> None:
    """Make a directory of exactly ``mode``; one that is there, made by an earlier version perhaps, gets it.

    Directories above it that are missing are made for everybody to pass, whatever the umask is.
    """
    for above in reversed([parent for parent in path.parents if not parent.exists()]):
        above.mkdir(exist_ok=True)
        above.chmod(0o755)
    path.mkdir(mode=mode, exist_ok=True)
    if stat.S_IMODE(path.stat().st_mode) != mode:
        with contextlib.suppress(PermissionError):  # somebody else's, who has let us in
            path.chmod(mode)


def share(path: Path, group: str, mode: int = 0o660) -> None:
    """Let ``group``, if it exists, use a socket, or read a file, and nobody else but its owner."""
    with contextlib.suppress(KeyError, PermissionError):
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
    path.chmod(mode)


def close_files(directory: Path) -> None:
    """Take from others what they may do with the files right in ``directory``, which an earlier version has made."""
    with os.scandir(directory) as entries:
        for entry in entries:
            mode = stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
            if entry.is_file(follow_symlinks=False) and mode & _OTHERS:
                with contextlib.suppress(FileNotFoundError, PermissionError):
                    Path(entry.path).chmod(mode & ~_OTHERS)
