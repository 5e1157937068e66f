"""Places in a step's root that were made to mount something at, and go again, so that no layer has them.

What a step has put there stays, and so does what was there before it. As nobody is to see that they ever were, the
times of the directories around them are put back. A working directory that was made is none of them: it stays.
"""

import contextlib
import os
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtimed.oci.rootfs import RootFs
from runtimed.oci.users import User, resolve_user
from runtimed.steps.spec import Shown, covered, targets_in_root
from sampan.build.step import StepSpec, TmpfsSource
from sampan.docker.options.mounts import normal
from sampan.errors import StartError
from sampan.sys.beneath import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2

# What every container finds mounted, but for what lies in these.
_DIRECTORIES: Final = ("/proc", "/dev", "/sys")
_FILES: Final = ("/etc/resolv.conf", "/etc/hostname", "/etc/hosts")

_NOT_THERE: Final = (FileNotFoundError, NotADirectoryError)


@dataclass(frozen=True, slots=True)
class _Stub:
    """An entry that was made."""

    directory: str  # absolute in the root, without a link
    name: str
    identity: tuple[int, int, int]  # device, inode, which is soon used again, and kind


class Stubs:
    """The places that were made in one root, which may be that of several steps. Everything blocks."""

    def __init__(self, root: Path) -> None:
        """``root`` is where it is mounted, until ``remove`` has returned."""
        self._path = root
        self._made: list[_Stub] = []
        self._changing = threading.Lock()

    def make(self, directories: Iterable[str], files: Iterable[str]) -> None:
        """Make what is missing of the usual places and of these.

        Raises:
            StartError: something else is there, or on the way.
        """
        with self._changing, RootFs(self._path, self._note) as root:
            self._root = root
            for path in (*_DIRECTORIES, *directories):
                with _told(path):
                    os.close(root.open_made(path))
            for path in (*_FILES, *files):
                with _told(path):
                    root.make_file(path)

    def _note(self, directory: int, name: str, before: os.stat_result) -> None:
        made = os.stat(name, dir_fd=directory, follow_symlinks=False)
        self._made.append(_Stub(self._root.name_of(directory), name, _identity(made)))
        _put_back(directory, before)

    def remove(self) -> None:
        """Remove what was made and is still empty. Nothing of the root is trusted: a step may have moved all of it."""
        if not self._made:
            return
        root = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for stub in reversed(self._made):
                with contextlib.suppress(OSError):
                    _remove(root, stub)
        finally:
            os.close(root)
        self._made.clear()


def _remove(root: int, stub: _Stub) -> None:
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
    directory = openat2(root, stub.directory, os.O_PATH | os.O_DIRECTORY, resolve)
    try:
        found = os.stat(stub.name, dir_fd=directory, follow_symlinks=False)
        if _identity(found) != stub.identity:
            return
        before = os.fstat(directory)
        if stat.S_ISDIR(found.st_mode):
            os.rmdir(stub.name, dir_fd=directory)
        elif stat.S_ISREG(found.st_mode) and not found.st_size:
            os.unlink(stub.name, dir_fd=directory)
        else:
            return
        _put_back(directory, before)
    finally:
        os.close(directory)


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_dev, status.st_ino, stat.S_IFMT(status.st_mode)


def _put_back(directory: int, before: os.stat_result) -> None:
    os.utime(f"/proc/self/fd/{directory}", ns=(before.st_atime_ns, before.st_mtime_ns))


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StartError(
            f"cannot make {path} in the root of the step to mount something at: {error.strerror}"
        ) from error


def make_places(root: Path, stubs: Stubs, spec: StepSpec, shown: Sequence[Shown]) -> None:
    """Make what is missing to mount ``shown``, and tmpfs, at, and the working directory, which is the user's.

    Raises:
        StartError: something else is in the way, or an unknown user.
    """
    in_root = frozenset(targets_in_root(spec))
    tmpfs = [normal(mount.target) for mount in spec.mounts if isinstance(mount.source, TmpfsSource)]
    directories = [normal(one.point.target) for one in shown if one.is_directory]
    files = [normal(one.point.target) for one in shown if not one.is_directory]
    stubs.make(
        [target for target in (*tmpfs, *directories) if target in in_root],
        [target for target in files if target in in_root],
    )
    _make_working_directory(root, spec)


def _make_working_directory(path: Path, spec: StepSpec) -> None:
    cwd = normal(spec.process.working_dir or "/")
    targets = [normal(mount.target) for mount in spec.mounts]
    if cwd == "/" or cwd in targets or covered(cwd, targets):
        return
    user = _user(path, spec)

    def give(directory: int, name: str, _: os.stat_result) -> None:
        os.chown(name, user.uid, user.gid, dir_fd=directory, follow_symlinks=False)

    # What cannot be a working directory is told when the bundle is written, in Docker's words.
    with RootFs(path, give) as root, contextlib.suppress(OSError):
        os.close(root.open_made(cwd))


def _user(path: Path, spec: StepSpec) -> User:
    with RootFs(path) as root:
        return resolve_user(root, spec.process.user)
