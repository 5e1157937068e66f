"""Sockets of published ports, left with the supervisor so that they outlive runtimed.

Whoever connects while runtimed is away waits in the socket's queue, is not refused, and nobody else gets the port.
``cli/sampan_cli/supervisor/child.py`` is the other side.

Reference: sd_notify(3), FDSTORE; what is stored is asked for here and not inherited.
"""

import asyncio
import contextlib
import socket
from collections import deque
from typing import Final

from sampan.log import log
from sampan.service.notify import kept


class KeptSockets:
    """What this process leaves with its supervisor, and has found there."""

    def __init__(self, address: str) -> None:
        """``address`` is $NOTIFY_SOCKET; empty, or with nobody there: nothing is kept."""
        self._address = address
        self._found: dict[str, socket.socket] = {}
        self._waiting: deque[tuple[str, socket.socket | None]] = deque()
        self._writing = False
        self._supervisor: socket.socket | None = None
        if address:
            self._supervisor = socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            )
            try:
                self._supervisor.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            except OSError:
                self._supervisor.close()
                self._supervisor = None

    async def fetch(self) -> None:
        """Ask for what a former process has left."""
        if self._supervisor is None:
            return
        try:
            self._found |= await asyncio.to_thread(kept, self._address)
        except OSError as error:
            log.warning("sockets that were kept could not be had", error=str(error))

    def take(self, name: str) -> socket.socket | None:
        """Return a socket that was left under a name; it is the caller's, and stays kept."""
        return self._found.pop(name, None)

    def settle(self) -> None:
        """Have what nobody has taken be closed: its container ended meanwhile."""
        for name in list(self._found):
            self._found.pop(name).close()
            self.drop(name)

    def keep(self, name: str, held: socket.socket) -> None:
        """Leave a socket with the supervisor."""
        self._tell(f"FDSTORE=1\nFDNAME={name}", held.dup())

    def drop(self, name: str) -> None:
        """Have the supervisor close its copy."""
        self._tell(f"FDSTOREREMOVE=1\nFDNAME={name}", None)

    def _tell(self, said: str, held: socket.socket | None) -> None:
        self._waiting.append((said, held))
        if not self._writing:
            self._send()

    def _send(self) -> None:
        """Send what waits, in order; where the supervisor does not keep up, the rest when it does."""
        while self._waiting:
            said, held = self._waiting[0]
            if self._supervisor is not None:
                try:
                    socket.send_fds(self._supervisor, [said.encode()], [held.fileno()] if held is not None else [])
                except BlockingIOError:
                    self._watch(wanted=True)
                    return
                except OSError:  # it is gone, and with it what it kept
                    self._watch(wanted=False)
                    self._supervisor.close()
                    self._supervisor = None
            self._waiting.popleft()
            if held is not None:
                held.close()
        self._watch(wanted=False)

    def _watch(self, *, wanted: bool) -> None:
        if wanted == self._writing or self._supervisor is None:
            return
        self._writing = wanted
        loop = asyncio.get_running_loop()
        if wanted:
            loop.add_writer(self._supervisor, self._send)
        else:
            loop.remove_writer(self._supervisor)

    def close(self) -> None:
        """Let go of the connection; what is kept stays."""
        with contextlib.suppress(RuntimeError):  # without a loop nothing is watched
            self._watch(wanted=False)
        for held in (*(one for _, one in self._waiting), *self._found.values()):
            if held is not None:
                held.close()
        self._waiting.clear()
        self._found.clear()
        if self._supervisor is not None:
            self._supervisor.close()
            self._supervisor = None


NOTHING_KEPT: Final = KeptSockets("")
