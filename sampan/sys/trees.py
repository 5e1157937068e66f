"""Directory trees that strangers made: walked and removed without recursion, whatever their depth and width.

A name longer than PATH_MAX cannot be opened, and a descriptor per level runs out, so a walk holds two: the root's and
the one where it is. Down is one openat(2) of one component that is no link; up is ``..``, which counts only if it is
the directory that was left. Who moves directories meanwhile can hide things from a walk, and never leads it outside.

Reference: path_resolution(7), openat(2), "Rationale for openat() and other directory file descriptor APIs".
"""

import asyncio
import errno
import itertools
import os
import secrets
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Self, TypeVar

from sampan.cancellation import to_the_end
from sampan.sys.beneath import OPEN_DIRECTORY

T = TypeVar("T")

# Says whether whoever asked for a walk has left.
Stop = Callable[[], bool]

_TRIES: Final = 16  # to remove a directory that somebody goes on filling
_SHOWN: Final = 60  # bytes of either end of a long path

_moves: Final = itertools.count()

# A walk may take minutes. In threads of their own walks delay each other, and nothing else that needs a thread.
_WALKERS: Final = ThreadPoolExecutor(4, thread_name_prefix="walk")


class AbandonedError(Exception):
    """A walk ended early because nobody waits for it any more."""


def never() -> bool:
    """For walks that go to their end."""
    return False


async def walking(work: Callable[[Stop], T]) -> T:
    """Run ``work`` in a thread and return its result; when the caller is cancelled its ``Stop`` says so."""
    stop = threading.Event()
    try:
        return await asyncio.get_running_loop().run_in_executor(_WALKERS, work, stop.is_set)
    finally:
        stop.set()


async def removing(path: str | os.PathLike[str]) -> None:
    """Remove a tree, to the end even if the caller is cancelled. No error if it is not there."""
    await to_the_end(walking(lambda _: remove_tree(path)))


@asynccontextmanager
async def temporary_tree(parent: Path) -> AsyncIterator[Path]:
    """Yield a new directory below ``parent``; it goes, with all that strangers have put into it, whatever happens."""
    place = parent / secrets.token_hex(8)
    try:
        await to_the_end(asyncio.to_thread(place.mkdir, mode=0o700))
        yield place
    finally:
        await removing(place)


def shortened(path: bytes) -> str:
    """Return a path as it can be shown: the middle of a long one is left out."""
    if len(path) > 2 * _SHOWN + 3:
        path = path[:_SHOWN] + b"..." + path[-_SHOWN:]
    return path.decode(errors="backslashreplace")


class Names:
    """A stack of file names in one piece of memory: a million of them take a few bytes more than the names do."""

    __slots__ = ("_packed",)

    def __init__(self, names: Iterable[bytes] = ()) -> None:
        """The first of ``names`` is the last to be popped."""
        self._packed = bytearray()
        for name in names:
            self.push(name)

    def __bool__(self) -> bool:
        return bool(self._packed)

    def push(self, name: bytes) -> None:
        """Put one on top."""
        self._packed += name
        self._packed.append(0)

    def pop(self) -> bytes:
        """Take the topmost. Raises IndexError if there is none."""
        if not self._packed:
            raise IndexError("no names left")
        start = self._packed.rfind(0, 0, len(self._packed) - 1) + 1
        name = bytes(self._packed[start:-1])
        del self._packed[start:]
        return name


class Descent:
    """A place in a tree, and the way there. Close it, or use it as a context manager."""

    def __init__(self, root: int) -> None:
        """Begin at the directory with the descriptor ``root``, which stays the caller's."""
        self._root = os.open(".", OPEN_DIRECTORY, dir_fd=root)
        self._fd = os.dup(self._root)
        self._names: list[bytes] = []
        self._identities = [_identity(self._fd)]  # of the root, and then of each directory on the way

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the tree; safe to repeat."""
        for fd in (self._fd, self._root):
            if fd >= 0:
                os.close(fd)
        self._fd = self._root = -1

    @property
    def fd(self) -> int:
        """The directory where this is; good until the next step."""
        return self._fd

    @property
    def depth(self) -> int:
        """How many directories are on the way; 0 at the root."""
        return len(self._names)

    @property
    def name(self) -> bytes:
        """What the directory is called in its parent; empty for the root."""
        return self._names[-1] if self._names else b""

    @property
    def path(self) -> bytes:
        """The way from the root, as long as it may be."""
        return b"/".join(self._names)

    def enter(self, name: bytes) -> None:
        """Go down. Raises FileNotFoundError or NotADirectoryError if there is no such directory (a link is none)."""
        fd = os.open(name, OPEN_DIRECTORY, dir_fd=self._fd)
        try:
            identity = _identity(fd)
        except BaseException:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd = fd
        self._names.append(name)
        self._identities.append(identity)

    def leave(self) -> None:
        """Go up by one; by more, as ``depth`` then tells, if somebody moved a directory that is on the way."""
        target = self.depth - 1
        try:
            fd = os.open("..", OPEN_DIRECTORY, dir_fd=self._fd)
        except OSError:  # its file system is gone
            self._return(target)
            return
        if _identity(fd) != self._identities[target]:
            os.close(fd)
            self._return(target)
            return
        self._take(fd, target)

    def _return(self, target: int) -> None:
        """Go from the root as far down on the known way as it still leads to the same directories."""
        fd = os.dup(self._root)
        depth = 0
        while depth < target:
            try:
                below = os.open(self._names[depth], OPEN_DIRECTORY, dir_fd=fd)
            except OSError:
                break
            if _identity(below) != self._identities[depth + 1]:
                os.close(below)
                break
            os.close(fd)
            fd = below
            depth += 1
        self._take(fd, depth)

    def _take(self, fd: int, depth: int) -> None:
        os.close(self._fd)
        self._fd = fd
        del self._names[depth:]
        del self._identities[depth + 1 :]


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def remove_tree(path: str | os.PathLike[str], stop: Stop = never) -> None:
    """Remove a file, or a directory with all it holds; no error if there is none. Safe to repeat.

    Raises:
        OSError: something cannot be removed; its operand names the first such thing, and all others are gone.
        AbandonedError: ``stop`` said so; what is left can be removed later.
    """
    parent, name = os.path.split(os.fspath(path))
    try:
        fd = os.open(parent, OPEN_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        remove_tree_at(fd, os.fsencode(name), stop)
    finally:
        os.close(fd)


def remove_tree_at(parent: int, name: bytes, stop: Stop = never) -> None:
    """As ``remove_tree``, what is called ``name`` in the directory with the descriptor ``parent``."""
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=parent)
            return
        fd = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
        try:
            empty(fd, stop)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return


def empty(directory: int, stop: Stop = never) -> None:
    """Remove all that is in the directory with this descriptor, and leave the directory. Raises as ``remove_tree``."""
    with Descent(directory) as descent:
        _Emptying(descent, stop).run()


def discard(parent: int, name: bytes | str, trash: int) -> None:
    """Move ``name`` out of ``parent`` into the directory ``trash`` on the same file system, under a new name there."""
    os.rename(name, b"%d-%d" % (os.getpid(), next(_moves)), src_dir_fd=parent, dst_dir_fd=trash)


class _Frame:
    """A directory being emptied."""

    __slots__ = ("failed", "names", "tries")

    def __init__(self) -> None:
        self.names = Names()  # of directories in it
        self.failed = False  # something in it stays
        self.tries = 0


class _Emptying:
    def __init__(self, descent: Descent, stop: Stop) -> None:
        self._descent = descent
        self._stop = stop
        self._frames: list[_Frame] = []
        self._failure: OSError | None = None

    def run(self) -> None:
        self._scan()
        while True:
            frame = self._frames[-1]
            if frame.names:
                self._enter(frame)
            elif self._descent.depth:
                self._leave()
            elif frame.tries and not frame.failed:  # something was moved meanwhile
                self._frames.clear()
                self._scan(frame.tries)
            else:
                break
        if self._failure is not None:
            raise self._failure

    def _scan(self, tries: int = 0) -> None:
        """Remove the files where we are, and note the directories, as a frame on top."""
        frame = _Frame()
        self._frames.append(frame)
        fd = self._descent.fd
        with os.scandir(fd) as entries:
            for entry in entries:
                if self._stop():
                    raise AbandonedError
                name = os.fsencode(entry.name)
                try:
                    if entry.is_dir(follow_symlinks=False):
                        frame.names.push(name)
                    else:
                        os.unlink(name, dir_fd=fd)
                except FileNotFoundError:
                    continue
                except IsADirectoryError:
                    frame.names.push(name)
                except OSError as error:
                    self._fail(frame, name, error)
        if tries:
            frame.tries = tries if frame.names else 0

    def _enter(self, frame: _Frame) -> None:
        name = frame.names.pop()
        try:
            self._descent.enter(name)
        except FileNotFoundError:
            return
        except NotADirectoryError:  # replaced meanwhile
            self._again(frame, b"", NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)), name)
            return
        except OSError as error:
            self._fail(frame, name, error)
            return
        self._scan()

    def _leave(self) -> None:
        name, child = self._descent.name, self._frames[-1]
        expected = self._descent.depth - 1
        self._descent.leave()
        del self._frames[self._descent.depth + 1 :]
        frame = self._frames[-1]
        if self._descent.depth < expected:
            self._again(frame, b"", OSError(errno.ESTALE, os.strerror(errno.ESTALE)), name)
        elif child.failed:
            frame.failed = True
        else:
            try:
                os.rmdir(name, dir_fd=self._descent.fd)
            except FileNotFoundError:
                return
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    self._again(frame, name, error, name)
                else:
                    self._fail(frame, name, error)

    def _again(self, frame: _Frame, name: bytes, error: OSError, shown: bytes) -> None:
        """Have the directory looked at once more, and ``name`` in it at once, unless that was tried often."""
        frame.tries += 1
        if frame.tries > _TRIES:
            self._fail(frame, shown, error)
        elif name:
            frame.names.push(name)

    def _fail(self, frame: _Frame, name: bytes, error: OSError) -> None:
        frame.failed = True
        if self._failure is None:
            where = self._descent.path
            shown = shortened(where + b"/" + name if where else name)
            self._failure = type(error)(error.errno, error.strerror, shown)
