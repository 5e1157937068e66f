"""One service as a child process: told apart from others, waited for, and how long until it is started again.

A service says that it is ready as sd_notify(3) has it, and may leave sockets here that have to outlive it (FDSTORE).
The process after it asks for them (FDGIVE=1, with a socket for the answer).
"""

import contextlib
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.handing import passing

_LONGEST_MESSAGE: Final = 4096

_MOST_KEPT: Final = 4096  # a published port each
_AT_ONCE: Final = 200  # descriptors in one message; the kernel takes 253


class NotifySocket:
    """One service's $NOTIFY_SOCKET. Each has its own, so that a message needs no sender."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept: dict[str, int] = {}
        path.unlink(missing_ok=True)  # of a supervisor that was killed
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        previous = os.umask(0o177)
        try:
            self._socket.bind(str(path))
        finally:
            os.umask(previous)

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    def receive(self) -> list[str]:
        """Return the assignments (``READY=1``) that have arrived; never waits. What is to be kept is."""
        lines: list[str] = []
        while True:
            try:
                message, fds = passing.receive(self._socket, _LONGEST_MESSAGE, 1)
            except BlockingIOError:
                return lines
            said = message.decode("utf-8", "replace").splitlines()
            try:
                self._act(dict(line.partition("=")[::2] for line in said), fds)
            finally:
                for fd in fds:
                    os.close(fd)
            lines += said

    def _act(self, said: dict[str, str], fds: list[int]) -> None:
        """Keep a descriptor, let go of one, or give all of them; what is used of ``fds`` is taken out."""
        name = said.get("FDNAME", "")
        if "FDGIVE" in said and fds:
            self._give(fds[0])
        elif "FDSTORE" in said and fds and name and (name in self._kept or len(self._kept) < _MOST_KEPT):
            self._let_go(name)
            self._kept[name] = fds.pop()
        elif "FDSTOREREMOVE" in said:
            self._let_go(name)

    def hold(self, name: str, held: socket.socket) -> None:
        """Have a socket for the service, which asks for it as for what it has left here; it stays the caller's, too."""
        self._let_go(name)
        self._kept[name] = os.dup(held.fileno())

    def _let_go(self, name: str) -> None:
        if (fd := self._kept.pop(name, None)) is not None:
            os.close(fd)

    def _give(self, to: int) -> None:
        with socket.socket(fileno=os.dup(to)) as asker:
            asker.setblocking(False)
            names = list(self._kept)
            with contextlib.suppress(OSError):  # who does not read has asked for nothing
                for begin in range(0, len(names), _AT_ONCE):
                    some = names[begin : begin + _AT_ONCE]
                    socket.send_fds(asker, ["\n".join(some).encode()], [self._kept[name] for name in some])

    def close(self) -> None:
        """Close and remove the socket; what was kept ends with it."""
        for name in list(self._kept):
            self._let_go(name)
        self._socket.close()
        self.path.unlink(missing_ok=True)


# The first restart is immediate: whoever has a call under way waits for it, for some seconds. After that a service that
# cannot live gets less and less of the machine.
FIRST_DELAY_S: Final = 1.0
LONGEST_DELAY_S: Final = 30.0

# A service that was ready for this long has earned an immediate restart again.
HEALTHY_AFTER_S: Final = 5.0

# One that was ready, if for less, can live: somebody kills it, or one call does, and all others should not wait for
# longer each time. Only so many in a row are a service that breaks as soon as it works.
QUICK_RESTARTS: Final = 10
# Even then it does not cost much to start it, and clients wait ten seconds for a service that is being restarted.
LONGEST_DELAY_OF_READY_S: Final = 4.0


@dataclass(slots=True)
class Backoff:
    """The deaths of one service in a row."""

    deaths: int = 0
    delayed: int = 0  # of them, those that count for the delay

    def delay_after_death(self, ready_for_s: float) -> float:
        """Count one death and return the seconds to wait: 0, 1, 2, 4 … 30; no more than 4 if it was ready.

        ``ready_for_s`` is how long the process had been ready, 0 if it never was.
        """
        if ready_for_s >= HEALTHY_AFTER_S:
            self.deaths = self.delayed = 0
        self.deaths += 1
        if self.deaths == 1 or (ready_for_s and self.deaths <= QUICK_RESTARTS):
            return 0.0
        self.delayed += 1
        # The exponent is bounded because 2.0 ** 1024 overflows, a few hours after a service broke for good.
        longest = LONGEST_DELAY_OF_READY_S if ready_for_s else LONGEST_DELAY_S
        return min(FIRST_DELAY_S * 2.0 ** min(self.delayed - 1, 16), longest)


@dataclass(frozen=True, slots=True)
class Child:
    """A running service. ``reap`` must be called once when ``pidfd`` is readable."""

    name: str
    pid: int
    pidfd: int

    def signal(self, number: int) -> None:
        """Send a signal. The child is not reaped yet, so that its number is still its own."""
        signal.pidfd_send_signal(self.pidfd, number)

    def reap(self) -> int:
        """Return the exit code, negative for a signal, and forget the child."""
        os.close(self.pidfd)
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)
