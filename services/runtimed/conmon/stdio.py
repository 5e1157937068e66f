"""One connection to the standard streams that a conmon keeps: its attach socket, where input goes and output comes."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from sampan.errors import ConflictError
from sampan.log import log
from sampan.resource.streams import Frame
from sampan.wire.packets import Packets

_MAX_STDIN_BYTES: Final = 8192  # conmon reads packets of this size; more would be cut off

# Who reads in our place is to take the last output of a process that has ended, which is some hundred KiB at most.
_LAST_OUTPUT_S: Final = 10.0


class StdioConnection(Packets):
    """Output as it comes, and a way for input. Made by ``connect``; close it when done."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__(connected)
        self._stdin_open = True
        self._handed_over = False
        self._last: asyncio.TimerHandle | None = None  # after it, who reads in our place has had its time

    @classmethod
    def connect(cls, path: Path) -> "StdioConnection":
        """Connect to conmon's socket at ``path``.

        Raises:
            ConflictError: nobody listens: the process has ended.
        """
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            connected.connect(str(path))
        except OSError as error:
            connected.close()
            raise ConflictError(f"the process has ended: {error.strerror}") from error
        return cls(connected)

    async def write(self, data: bytes) -> None:
        """Pass ``data`` to the process's stdin, waiting while it does not read. Lost if the process has ended."""
        view = memoryview(data)
        while view and self._stdin_open:
            try:
                self._socket.send(view[:_MAX_STDIN_BYTES])
            except BlockingIOError:
                await self._writable()
            except OSError:
                self._stdin_open = False
            else:
                view = view[_MAX_STDIN_BYTES:]

    def close_stdin(self) -> None:
        """Tell conmon that no more input comes from here; output goes on."""
        if self._stdin_open:
            self._stdin_open = False
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError:
                self._changed.set()  # the other end is gone, which reading notices too

    def stop_reading(self) -> list[Frame]:
        """Leave what comes from here on to somebody else; return what has come."""
        self._pause()
        left: list[Frame] = []
        while self._packets:
            left += self._next(resume=False)
        return left

    async def hand_over(self, give: Callable[[int], Awaitable[bool]]) -> None:
        """Have somebody else read what comes; call ``stop_reading`` before.

        Args:
            give: is given the socket's descriptor, and returns True when all was read, False if nobody takes it: then
                it is read here again.

        Returns as well when the connection is closed meanwhile. Raises what ``give`` raises.
        """
        self._handed_over = True
        giving = asyncio.ensure_future(give(self._socket.fileno()))
        closing = asyncio.create_task(self._closed(), name="end of a connection")
        try:
            await asyncio.wait((giving, closing), return_when=asyncio.FIRST_COMPLETED)
            if giving.done() and giving.result():
                self._ended = True
        finally:
            self._handed_over = False
            if self._last is not None:
                self._last.cancel()
            for task in (giving, closing):
                task.cancel()
            await asyncio.gather(giving, closing, return_exceptions=True)

    async def _closed(self) -> None:
        while not self._ended:
            self._changed.clear()
            await self._changed.wait()

    def open_floodgate(self) -> None:
        """See ``Packets``. Who reads in our place knows by itself; one that does not read at all is cut off."""
        if not self._handed_over:
            super().open_floodgate()
            return
        self._bounded = False
        if self._last is None:
            self._last = self._loop.call_later(_LAST_OUTPUT_S, self._cut_off)

    def _cut_off(self) -> None:
        log.warning("output is not read after its process has ended: the rest is lost")
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    async def _writable(self) -> None:
        ready = asyncio.Event()
        self._loop.add_writer(self._socket, ready.set)
        try:
            await ready.wait()
        finally:
            if self._socket.fileno() >= 0:
                self._loop.remove_writer(self._socket)
