"""A connection that has stopped to speak HTTP: Docker's "hijacked" streams, and the frames that output travels in."""

import asyncio
import contextlib
import fcntl
import select
import socket
import struct
import termios
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from dockerapi.backend import Backend
from dockerapi.http.connection import Connection
from dockerapi.http.hangup import hung_up
from sampan.resource.streams import Frame

RAW: Final = "application/vnd.docker.raw-stream"
MULTIPLEXED: Final = "application/vnd.docker.multiplexed-stream"

SYSTEM_ERROR: Final = 3  # a stream beside stdout and stderr: the engine's own last words, which clients fail with

_HEADER: Final = struct.Struct(">BxxxL")


def content_type(version: tuple[int, int], *, tty: bool) -> str:
    """Return the Content-Type; clients older than 1.42 know only the first one."""
    return RAW if tty or version < (1, 42) else MULTIPLEXED


def framed(stream: int, data: bytes) -> bytes:
    """Return one frame."""
    return _HEADER.pack(stream, len(data)) + data


def encode(output: Sequence[Frame], *, tty: bool) -> bytes:
    """Return the bytes for a batch of frames, in one piece: one write costs less than many."""
    if tty:
        return b"".join([frame.data for frame in output])
    parts: list[bytes] = []
    for frame in output:
        data = frame.data
        parts.append(_HEADER.pack(frame.stream.value, len(data)))
        parts.append(data)
    return b"".join(parts)


# Output that may wait for a slow client before its producer does; one gRPC message of output is up to 1 MiB.
_HIGH_WATER_BYTES: Final = 1 << 20

# Input that may wait for the container before the client is held up.
_MAX_INPUT_BYTES: Final = 1 << 20

# A client that still sends when all is over gets this long to notice, since closing on unread input resets a connection
# and can cost the client the end of the output.
_FAREWELL_S: Final = 2.0

# Output that is already there waits this long for the client to read the answer's head.
_HEAD_READ_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Loan:
    """A connection that another process reads and writes."""

    fd: int  # the socket
    begun: bytes  # what has been received on it already


class RawStream(asyncio.Protocol):
    """Bytes in both directions, each with backpressure. Making one takes the connection over.

    A half-close by the client is the end of input and nothing more. A client that is gone altogether ends the input
    too, after all that it has sent; see ``gone``.
    """

    def __init__(self, connection: Connection, backend: Backend) -> None:
        self._connection = connection
        self._hangups = backend.hangups
        self._input: list[bytes] = []
        self._input_bytes = 0
        self._paused = False
        self._ended = connection.ended
        self._discard = False
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = asyncio.Event()
        self._head_is_new = False
        self._head_read = asyncio.Event()
        self._transport, early = connection.take_over(self)
        self._transport.set_write_buffer_limits(_HIGH_WATER_BYTES)
        self._fd: int = self._transport.get_extra_info("socket").fileno()
        connection.when_gone(None)  # what was sent before is still to be delivered: see ``chunks``
        if early:
            self.data_received(early)
        if self._ended:
            self._hangups.add(self._fd, self._transport.abort)

    def write_head(self, data: bytes) -> None:
        """Send the answer's head. What is written after it goes out when the client has read it: see ``write``."""
        self._transport.write(data)
        self._head_is_new = True

    async def write(self, data: bytes) -> None:
        """Send ``data``, or drop it if the client is gone. Waits while the client is ``_HIGH_WATER_BYTES`` behind.

        The first output waits for the client to have read the head: Docker's SDK for Python reads that through a buffer
        and the rest beside it, and loses what arrives together with the head.
        """
        if self._head_is_new:
            self._head_is_new = False
            await self._wait_for_head()
        if self._lost.is_set():
            return
        self._transport.write(data)
        if not self._writable.is_set():
            await self._writable.wait()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield what the client sends, until it half-closes, it leaves or all is over. For one reader."""
        while True:
            while self._input:
                data = b"".join(self._input)
                self._input.clear()
                self._input_bytes = 0
                self._flow()
                yield data
            if self._ended or self._discard:
                return
            self._arrived.clear()
            await self._arrived.wait()

    @contextlib.contextmanager
    def lent(self) -> Iterator[Loan | None]:
        """Lend the connection to a process that reads and writes it instead; None: that has to be done here.

        It is if this is TLS, if the client has half-closed, or if not all that was written has gone out.
        """
        transport = self._transport
        if not self._connection.is_plain or self._ended or transport.is_closing() or transport.get_write_buffer_size():
            yield None
            return
        transport.pause_reading()
        begun = b"".join(self._input)
        self._input.clear()
        self._input_bytes = 0
        try:
            yield Loan(self._fd, begun)
        finally:
            self._paused = False
            if not transport.is_closing():
                transport.resume_reading()

    async def gone(self) -> None:
        """Wait until the client has left."""
        await self._lost.wait()

    async def finish(self) -> None:
        """Send all that is left and end the output; then wait, not for long, for the client to leave."""
        if self._lost.is_set():
            return
        self._discard = True
        self._arrived.set()
        self._input.clear()
        self._input_bytes = 0
        self._flow()
        self._transport.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                while not (self._lost.is_set() or (self._ended and not self._transport.get_write_buffer_size())):
                    self._arrived.clear()
                    await self._arrived.wait()

    def data_received(self, data: bytes) -> None:
        """Take input; hold the client up when there is too much of it."""
        if self._discard:
            return
        self._input.append(data)
        self._input_bytes += len(data)
        self._flow()
        self._arrived.set()

    def eof_received(self) -> bool:
        """End the input. The output goes on unless the client is gone altogether."""
        self._ended = True
        self._arrived.set()
        if hung_up(self._fd):
            return False
        self._hangups.add(self._fd, self._transport.abort)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """End everything and wake who waits."""
        self._hangups.remove(self._fd)
        self._ended = True
        self._lost.set()
        self._arrived.set()
        self._writable.set()
        self._head_read.set()
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Make writers wait."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._writable.set()

    async def _wait_for_head(self) -> None:
        """Wait until the client has read all that was sent, has left, or ``_HEAD_READ_S`` is over.

        Only a unix socket tells; through another it returns at once.
        """
        sender = self._transport.get_extra_info("socket")
        if self._lost.is_set() or sender.family != socket.AF_UNIX or not _unread_bytes(self._fd):
            return
        loop = asyncio.get_running_loop()
        # Each time that the peer takes something the kernel reports the socket writable anew, which only an edge shows.
        with select.epoll(flags=select.EPOLL_CLOEXEC) as edges:
            edges.register(self._fd, select.EPOLLOUT | select.EPOLLET)

            def changed() -> None:
                if edges.poll(0) and not _unread_bytes(self._fd):
                    self._head_read.set()

            loop.add_reader(edges.fileno(), changed)
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_HEAD_READ_S):
                        await self._head_read.wait()
            finally:
                loop.remove_reader(edges.fileno())

    def _flow(self) -> None:
        if self._transport.is_closing():
            return
        if self._input_bytes > _MAX_INPUT_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        elif self._paused and self._input_bytes <= _MAX_INPUT_BYTES // 2:
            self._paused = False
            self._transport.resume_reading()


def _unread_bytes(fd: int) -> int:
    """Return what a unix socket's peer has not read: with the kernel's own overhead, but 0 when it has read all."""
    (count,) = struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)))
    return int(count)


class Finished(web.StreamResponse):
    """What is returned for a connection on which everything has been sent, or nobody is left; aiohttp closes it."""

    def __init__(self, status: int) -> None:
        super().__init__(status=status)
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> None:
        """Send nothing."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Send nothing."""


def wants_upgrade(request: web.BaseRequest) -> bool:
    """Whether the client asks for ``Upgrade: tcp`` and so expects 101; without it, it expects 200."""
    return request.headers.get("Upgrade", "").lower() == "tcp"


def head(*, upgrade: bool, content_type: str) -> bytes:
    """Return the status line and headers that a hijacked connection starts with."""
    if upgrade:
        lines = ["HTTP/1.1 101 UPGRADED", f"Content-Type: {content_type}", "Connection: Upgrade", "Upgrade: tcp"]
    else:
        lines = ["HTTP/1.1 200 OK", f"Content-Type: {content_type}"]
    return "\r\n".join([*lines, "", ""]).encode()
