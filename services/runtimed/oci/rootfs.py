"""Look things up, and make directories, in a root file system that somebody else filled.

Every name in it may be a link to anywhere: all resolution stays inside, as if after chroot(2).
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sampan.sys.beneath import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

# The kernel answers EAGAIN when a rename or a mount happened during the walk and it cannot be sure of "..".
_TRIES: Final = 32

_MAX_LINKS: Final = 40  # the kernel's own limit, MAXSYMLINKS
_MAX_DEPTH: Final = 256  # of what is resolved here, with a descriptor for each directory on the way


# Called after an entry was made, with its directory, an O_PATH descriptor, its name, and what the directory was before.
Made = Callable[[int, str, os.stat_result], None]


# What Docker has in every container's root. Programs look for the first one to know where they are; the rest is what is
# mounted over while it runs, and what an archive of it shows.
_MTAB: Final = "etc/mtab"
_MOUNTS: Final = "/proc/mounts"
_FURNITURE: Final = ("/.dockerenv", "/dev/console", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf")


class RootFs:
    """A root file system, held open. Close it, or use it as a context manager."""

    def __init__(self, path: Path, on_made: Made | None = None) -> None:
        self._on_made = on_made
        self._fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the root; safe to repeat."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def find(self, path: str, flags: int = 0) -> int:
        """Return an O_PATH descriptor, the caller's to close, of what ``path`` names inside the root.

        Links are followed, the last one too unless ``flags`` has O_NOFOLLOW.

        Raises:
            OSError: ENOENT, ENOTDIR, ELOOP; the operand is ``path``.
        """
        for _ in range(_TRIES):
            try:
                return openat2(self._fd, path, os.O_PATH | flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise
        return self._walk(path, flags, make=False)

    def read(self, path: str, limit: int) -> bytes:
        """Return the content of the regular file ``path``, at most ``limit`` bytes.

        Raises:
            FileNotFoundError: nothing is there.
            OSError: it is not a regular file (EINVAL), or larger than ``limit`` (EFBIG).
        """
        found = self.find(path)
        try:
            if not stat.S_ISREG(os.fstat(found).st_mode):  # opening a device or a fifo could do things
                raise OSError(errno.EINVAL, "not a regular file", path)
            content = self._reopen(found, limit + 1)
        finally:
            os.close(found)
        if len(content) > limit:
            raise OSError(errno.EFBIG, f"larger than {limit} bytes", path)
        return content

    def make_directory(self, path: str, mode: int = 0o755) -> str:
        """Make directory ``path`` and its parents where they are missing; return its name with all links resolved.

        Raises:
            NotADirectoryError: something else is there, or on the way.
            OSError: ENAMETOOLONG, deeper than ``_MAX_DEPTH``; ELOOP.
        """
        found = self.open_made(path, mode)
        try:
            return self.name_of(found)
        finally:
            os.close(found)

    def open_made(self, path: str, mode: int = 0o755) -> int:
        """As ``make_directory``, but return an O_PATH descriptor of the directory, the caller's to close."""
        found = self._walk(path, os.O_DIRECTORY, make=True, mode=mode)
        if not stat.S_ISDIR(os.fstat(found).st_mode):
            os.close(found)
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return found

    def make_file(self, path: str, mode: int = 0o644) -> None:
        """Make an empty file, and its parents, where nothing is; a link is followed to where it leads.

        Raises:
            OSError: ENOTDIR, ELOOP; EISDIR for a path that cannot name a file.
        """
        for _ in range(_MAX_LINKS):
            above, _, name = path.rstrip("/").rpartition("/")
            if name in ("", ".", ".."):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            directory = self.open_made(above or "/")
            try:
                target = self._made_in(directory, name, mode)
                if not target:
                    return
                path = target if target.startswith("/") else f"{self.name_of(directory)}/{target}"
            finally:
                os.close(directory)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def make_link(self, path: str, target: str) -> None:
        """Make a symbolic link, and the directories above it, where nothing is. Raises as ``open_made``."""
        above, _, name = path.rpartition("/")
        directory = self.open_made(above or "/")
        try:
            with contextlib.suppress(FileExistsError):
                os.symlink(target, name, dir_fd=directory)
        finally:
            os.close(directory)

    def _made_in(self, directory: int, name: str, mode: int) -> str:
        """Make an empty file; return where a link leads that is there instead."""
        before = os.fstat(directory)
        try:
            made = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode, dir_fd=directory)
        except FileExistsError:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            return os.readlink(name, dir_fd=directory) if stat.S_ISLNK(found.st_mode) else ""
        try:
            os.fchmod(made, mode)  # the umask may have had its say
        finally:
            os.close(made)
        if self._on_made is not None:
            self._on_made(directory, name, before)
        return ""

    def name_of(self, descriptor: int) -> str:
        """Return the name, absolute inside the root, of what ``descriptor`` has open."""
        root = str(Path(f"/proc/self/fd/{self._fd}").readlink())
        name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        return "/" + name.removeprefix(root).lstrip("/")

    def _reopen(self, found: int, size: int) -> bytes:
        descriptor = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(size)

    def _walk(self, path: str, flags: int, *, make: bool, mode: int = 0o755) -> int:
        """Resolve one component at a time: where directories are made, and where openat2(2) is never sure of ".."."""
        trail = [os.dup(self._fd)]  # the directories from the root to here, so that ".." cannot be fooled
        rest = [part for part in reversed(path.split("/")) if part]
        links = 0
        try:
            while rest:
                part = rest.pop()
                if part == "..":
                    if len(trail) > 1:
                        os.close(trail.pop())
                    continue
                if part == ".":
                    continue
                if len(trail) > _MAX_DEPTH:
                    raise OSError(errno.ENAMETOOLONG, f"more than {_MAX_DEPTH} directories deep", path)
                step = self._step(trail[-1], part, make=make, mode=mode)
                kind = os.fstat(step).st_mode
                if not stat.S_ISLNK(kind) or (not rest and flags & os.O_NOFOLLOW):
                    trail.append(step)
                    continue
                links += 1
                try:
                    target = os.readlink("", dir_fd=step)
                finally:
                    os.close(step)
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                if target.startswith("/"):
                    while len(trail) > 1:
                        os.close(trail.pop())
                rest += [part for part in reversed(target.split("/")) if part]
            return trail.pop()
        finally:
            for descriptor in trail:
                os.close(descriptor)

    def _step(self, directory: int, part: str, *, make: bool, mode: int) -> int:
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(part, flags, dir_fd=directory)
        except FileNotFoundError:
            if not make:
                raise
        before = os.fstat(directory)
        try:
            os.mkdir(part, mode, dir_fd=directory)
            if self._on_made is not None:
                self._on_made(directory, part, before)
            made = os.open(part, flags, dir_fd=directory)
            if stat.S_ISDIR(os.fstat(made).st_mode):  # the umask may have had its say
                Path(f"/proc/self/fd/{made}").chmod(mode)
            return made
        except FileExistsError:
            return os.open(part, flags, dir_fd=directory)


def furnish(root: RootFs) -> None:
    """Make what every container has in its root and its image need not have; whatever is in the way stays."""
    for path in _FURNITURE:
        with contextlib.suppress(OSError):
            root.make_file(path, 0o755)
    with contextlib.suppress(OSError):
        root.make_link(f"/{_MTAB}", _MOUNTS)


def furnished_bytes(upper: Path) -> int:
    """Return how many of the bytes that are counted in an overlay's upper directory ``furnish`` has made."""
    try:
        return len(_MOUNTS) if str((upper / _MTAB).readlink()) == _MOUNTS else 0
    except OSError:
        return 0


def furnish_at(path: Path) -> None:
    """As ``furnish``, for a root that is mounted at ``path``."""
    with RootFs(path) as root:
        furnish(root)
