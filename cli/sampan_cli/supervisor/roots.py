"""Who holds an engine's two roots: the lock that makes it the only one, and what a killed one left running.

A supervisor holds ``engine.lock`` in both roots for as long as it lives; each service holds
``<data-root>/<service>/lock``. The kernel drops a lock with its process, so a lock that is held
names a live process and nothing else does.
"""

import contextlib
import fcntl
import os
import select
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.errors import ConflictError, InvalidArgumentError
from sampan.layout import Layout
from sampan.services import KEPT, STARTED
from sampan.sys.closed import RUN_ROOT, close_files, make_closed
from sampan.sys.files import note_owner
from sampan.sys.processes import open_process

_LOCK: Final = "engine.lock"

# How long whoever finds a root taken waits for an owner that has been killed and is not gone yet.
_DYING_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Process:
    """A process that cannot be mistaken for another one with the same number: closed by ``close``."""

    name: str
    pid: int
    pidfd: int

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens if the process is gone."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def wait(self, timeout_s: float) -> bool:
        """Say whether the process ended within ``timeout_s``."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def close(self) -> None:
        """Forget the process, which goes on."""
        os.close(self.pidfd)


@contextlib.contextmanager
def claim(layout: Layout) -> Iterator[None]:
    """Hold both roots, which are made if missing.

    Raises:
        ConflictError: another supervisor holds one; the message names it.
        InvalidArgumentError: something else than a directory is there.
    """
    with contextlib.ExitStack() as stack:
        fresh = _lock(stack, layout.run_root, RUN_ROOT, f"engine already running on {layout.run_root}")
        try:
            mode = layout.data_root_mode
            _lock(stack, layout.data_root, mode, f"data root {layout.data_root} is in use by another engine")
        except (ConflictError, InvalidArgumentError):
            if fresh:
                _clear(layout.run_root)
            raise
        for root in (layout.run_root, layout.data_root):
            close_files(root)
        yield


def _lock(stack: contextlib.ExitStack, root: Path, mode: int, what: str) -> bool:
    """Hold ``root`` for as long as ``stack`` lives; say whether nobody has held it before."""
    try:
        make_closed(root, mode)
    except (FileExistsError, NotADirectoryError):
        raise InvalidArgumentError(f"{root} is not a directory") from None
    path = root / _LOCK
    waited = False
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _owner(fd)
            os.close(fd)
            if owner and not waited and _ends(owner):
                waited = True
                continue
            raise ConflictError(f"{what} (pid {owner or 'unknown'})") from None
        if _is_at(fd, path):
            break
        os.close(fd)  # somebody has cleared the root between our opening and our locking
    stack.callback(os.close, fd)
    fresh = os.fstat(fd).st_size == 0
    note_owner(fd)
    return fresh


def _ends(pid: int) -> bool:
    """Say whether the process is gone, or goes within a moment: one that was just killed holds its locks until then."""
    try:
        pidfd = open_process(pid)
    except ProcessLookupError:
        return True
    process = Process("sampan", pid, pidfd)
    try:
        return process.wait(_DYING_S)
    finally:
        process.close()


def _is_at(fd: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(fd), path.stat())
    return False


def _clear(run_root: Path) -> None:
    """Remove what starting has made in a run root in which there was never an engine, and is not going to be one."""
    logs = run_root / "logs"
    with contextlib.suppress(OSError):
        if (logs / "sampan.log").stat().st_size == 0:
            (logs / "sampan.log").unlink()
            logs.rmdir()
    (run_root / _LOCK).unlink()  # it is ours while we hold it
    with contextlib.suppress(OSError):  # something else is there, which is not ours
        run_root.rmdir()


def supervisor(layout: Layout) -> Process | None:
    """Return the supervisor that holds the run root, or None."""
    return _holder("sampan", layout.run_root / _LOCK)


def services(layout: Layout, names: Iterable[str] = (*STARTED, *KEPT)) -> list[Process]:
    """Return those of ``names`` that run on the data root, in this order; all are in the order of their start."""
    found = (_holder(name, layout.data(name) / "lock") for name in names)
    return [process for process in found if process is not None]


def _holder(name: str, path: Path) -> Process | None:
    """Return the process that holds the lock at ``path``, if there is one and we may know."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except PermissionError:
        return None  # only the engine's own user can tell
    try:
        pid = _owner(fd)
        if pid is None:
            return None
        try:
            pidfd = open_process(pid)
        except ProcessLookupError:
            return None
        # Only now: had the owner died before pidfd_open, its number might be someone else's and the lock would be free.
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if _owner(fd) == pid:
                return Process(name, pid, pidfd)
        os.close(pidfd)
        return None
    finally:
        os.close(fd)


def _owner(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
    return int(text) if text.isdigit() and int(text) > 0 else None
