"""Leave a snapshot's own directory with what its layer says, and with nothing else.

What a snapshot's owner has left there is more than the layer: copies of files that were not changed in the end,
sockets, what is left out on purpose, and notes of overlayfs's own. Unpacking the layer elsewhere would give none of it,
and a layer is the same wherever it comes from.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sampan.resource.snapshot import ChangeKind
from sampan.sys.beneath import OPEN_DIRECTORY
from sampan.sys.trees import Descent, remove_tree_at
from snapshotter.diff.comparison import Difference
from snapshotter.drivers.whiteouts import OPAQUE_MARKS, is_mark, is_whiteout

# Up to so many files and directories are brought to disk one by one; syncfs(2), for more, waits for everybody's files.
_MOST_SYNCED: Final = 64

_ROOT_MODE: Final = 0o755


@dataclass(slots=True)
class Told:
    """What the layer says, by path."""

    written: set[bytes] = field(default_factory=set)
    removed: set[bytes] = field(default_factory=set)
    opaque: set[bytes] = field(default_factory=set)  # directories that hide what is below them

    def __bool__(self) -> bool:
        return bool(self.written or self.removed or self.opaque)

    def note(self, difference: Difference) -> None:
        """Say that the layer has this."""
        if difference.kind is not ChangeKind.DELETED:
            self.written.add(difference.path)
        elif difference.inside:
            self.opaque.add(difference.path)
        else:
            self.removed.add(difference.path)


@dataclass(slots=True)
class Settled:
    """What the directory comes to, its root not counted, as ``sampan.sys.measuring`` does."""

    size_bytes: int = 0
    inodes: int = 0
    synced: bool = False  # all of it is on disk


def settle(directory: Path, told: Told, newest_ns: int | None = None) -> Settled:
    """Remove from ``directory``, an upper one of overlayfs's, what is not ``told``, and overlayfs's own notes.

    No time in it is later than ``newest_ns`` afterwards. Nobody else may use it meanwhile. Safe to repeat.

    Raises:
        OSError: something cannot be removed or changed.
    """
    root = os.open(directory, OPEN_DIRECTORY)
    try:
        with Descent(root) as descent:
            return _Settling(descent, told, newest_ns).run()
    finally:
        os.close(root)


class _Settling:
    def __init__(self, descent: Descent, told: Told, newest_ns: int | None) -> None:
        self._descent = descent
        self._told = told
        self._newest_ns = newest_ns
        self._result = Settled(synced=len(told.written) + len(told.removed) <= _MOST_SYNCED)
        self._linked: set[int] = set()  # inodes with several names that are counted

    def run(self) -> Settled:
        """Go through the tree, without recursion, because it may be deeper than the interpreter's stack."""
        descent = self._descent
        _make_nobodys(descent.fd)
        frames = [self._directory(b"")]
        while frames:
            name = next(frames[-1], None)
            if name is not None:
                descent.enter(name)
                frames.append(self._directory(descent.path + b"/"))
                continue
            frames.pop()
            if frames:
                descent.leave()
        return self._result

    def _directory(self, prefix: bytes) -> Iterator[bytes]:
        """Settle what is in the directory where we are, and itself; return the names of directories in it."""
        fd = self._descent.fd
        before = os.fstat(fd)
        with os.scandir(fd) as entries:
            names = sorted(os.fsencode(entry.name) for entry in entries)
        inner = [name for name in names if self._entry(fd, name, prefix + name)]
        strip(fd, keep_opaque=prefix[:-1] in self._told.opaque)
        self._times(fd, before, before.st_mtime_ns)
        if self._result.synced:
            os.fsync(fd)
        return iter(inner)

    def _entry(self, parent: int, name: bytes, path: bytes) -> bool:
        """Settle one entry; return whether it is a directory that stays."""
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if is_whiteout(status):
            stays = path in self._told.removed
        else:
            stays = path in self._told.written and not stat.S_ISSOCK(status.st_mode)
        if not stays:
            remove_tree_at(parent, name)
            return False
        is_directory = stat.S_ISDIR(status.st_mode)
        if is_directory or status.st_nlink == 1 or status.st_ino not in self._linked:
            self._result.inodes += 1
            self._result.size_bytes += status.st_blocks * 512
            self._linked.add(status.st_ino)
        if is_directory:
            return True
        if not is_whiteout(status):
            self._file(parent, name, status)
        return False

    def _file(self, parent: int, name: bytes, status: os.stat_result) -> None:
        target = os.fsencode(f"/proc/self/fd/{parent}/") + name
        strip(target, keep_opaque=False)
        if self._newest_ns is not None and status.st_mtime_ns > self._newest_ns:
            os.utime(name, ns=(status.st_atime_ns, self._newest_ns), dir_fd=parent, follow_symlinks=False)
        if self._result.synced and stat.S_ISREG(status.st_mode):
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def _times(self, fd: int, before: os.stat_result, mtime_ns: int) -> None:
        """Give a directory the time that it had before something was removed from it."""
        wanted = mtime_ns if self._newest_ns is None else min(mtime_ns, self._newest_ns)
        if os.fstat(fd).st_mtime_ns != wanted:
            os.utime(fd, ns=(before.st_atime_ns, wanted))


def _make_nobodys(root: int) -> None:
    """Give the root owner and mode that it has in a layer that says nothing of it."""
    os.fchown(root, 0, 0)
    os.fchmod(root, _ROOT_MODE)


def strip(target: int | bytes, *, keep_opaque: bool) -> None:
    """Remove overlayfs's own attributes from a file, a link itself, but for what says that a directory is opaque."""
    follow = isinstance(target, int)
    for name in os.listxattr(target, follow_symlinks=follow):
        if is_mark(name) and not (keep_opaque and name in OPAQUE_MARKS):
            os.removexattr(target, name, follow_symlinks=follow)
