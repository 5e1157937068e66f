"""Where a service says that it is ready, as sd_notify(3) has it."""

import os
import socket
from pathlib import Path
from typing import Final

_LONGEST_MESSAGE: Final = 4096


class NotifySocket:
    """One service's $NOTIFY_SOCKET. Each has its own, so that a message needs no sender."""

    def __init__(self, path: Path) -> None:
        self.path = path
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
        """Return the assignments (``READY=1``) that have arrived; never waits."""
        lines: list[str] = []
        while True:
            try:
                message = self._socket.recv(_LONGEST_MESSAGE)
            except BlockingIOError:
                return lines
            lines += message.decode("utf-8", "replace").splitlines()

    def close(self) -> None:
        """Close and remove the socket."""
        self._socket.close()
        self.path.unlink(missing_ok=True)
