"""A conmon that runs: find it, speak to it, read what it left."""

import asyncio
import contextlib
import json
import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from runtimed.conmon.process import ended

_ENDS_S: Final = 2.0  # after its process: it has to write the last output away
_ACCEPT_S: Final = 1.0
_ACCEPT_INTERVAL_S: Final = 0.001

_RESIZE: Final = 1  # the kind of a control message; two numbers follow
_REOPEN: Final = 2


def resize(control: Path, height: int, width: int) -> None:
    """Tell a conmon the size of its terminal.

    Raises:
        OSError: nobody reads the fifo: the process has ended.
    """
    _tell(control, _RESIZE, height, width)


def reopen(control: Path) -> None:
    """Tell a conmon to open the file that it logs to anew.

    Raises:
        OSError: nobody reads the fifo: the process has ended.
    """
    _tell(control, _REOPEN, 0, 0)


def _tell(control: Path, kind: int, first: int, second: int) -> None:
    fd = os.open(control, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.write(fd, f"{kind} {first} {second}\n".encode())
    finally:
        os.close(fd)


def read_pid(path: Path) -> int:
    """Return the pid that is written down there; 0: none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def find_conmon(pid_file: Path, id: str) -> int:
    """Return a pidfd of the conmon that wrote ``pid_file`` for ``id``, or -1 when it does not run (any more)."""
    try:
        pid = int(pid_file.read_text())
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError):
        return -1
    # The pid may be another process's by now: what it was started with tells.
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        arguments = []
    if id.encode() in arguments:
        return pidfd
    os.close(pidfd)
    return -1


async def end_conmon(pid_file: Path, id: str) -> None:
    """Return when the conmon of ``id`` has ended: until then it makes files, the exit file above all."""
    pidfd = find_conmon(pid_file, id)
    if pidfd < 0:
        return
    try:
        try:
            async with asyncio.timeout(_ENDS_S):
                await ended(pidfd)
        except TimeoutError:  # it waits for a client that does not read its output
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            await ended(pidfd)
    finally:
        os.close(pidfd)


class AcceptedConnections:
    """Tells when a conmon has accepted the clients that connect from here on.

    conmon accepts one client each time around its loop, before it reads the process's output: a single one misses
    nothing, a second one would miss what a process writes at once. Nothing announces that conmon has accepted, so its
    open files are counted.
    """

    def __init__(self, pid_file: Path) -> None:
        try:
            self._files = Path(f"/proc/{int(pid_file.read_text())}/fd")
            self._before = self._count()
        except (OSError, ValueError):
            self._before = -1  # it has ended

    def _count(self) -> int:
        return sum(1 for _ in self._files.iterdir())

    async def all_of(self, clients: int) -> None:
        """Return when ``clients`` have been accepted; at the latest after a second."""
        if clients < 2 or self._before < 0:
            return
        import asyncio  # here: the writer of logs does without it

        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_ACCEPT_S):
                while self._count() < self._before + clients:  # noqa: ASYNC110  # there is no event to wait for
                    await asyncio.sleep(_ACCEPT_INTERVAL_S)


def find_first_process(pid_file: Path, pid: int) -> int:
    """Return a pidfd of ``pid`` if it is a child of the conmon that wrote ``pid_file``, or -1 when it has ended."""
    try:
        pidfd = os.pidfd_open(pid)
        # After ") " come the state and the parent's pid; a process's name may hold anything.
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
        if parent == int(pid_file.read_text()):
            return pidfd
    except (OSError, ValueError):
        return -1
    os.close(pidfd)
    return -1


def read_exit_code(directory: Path, id: str) -> int | None:
    """Return the exit code that conmon left; None if it left none."""
    try:
        return int((directory / id).read_text())
    except (OSError, ValueError):
        return None


def read_exit_time(exit_file: Path) -> datetime | None:
    """Return when conmon left the exit code; None if it left none."""
    try:
        return datetime.fromtimestamp(exit_file.stat().st_mtime, UTC)
    except FileNotFoundError:
        return None


def last_error(path: Path) -> str:
    """Return the last error in a runtime's log; empty if there is none."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("error", "fatal"):
            return str(entry.get("msg", "")).strip()
    return ""
