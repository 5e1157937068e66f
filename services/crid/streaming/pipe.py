"""The connection below what a client speaks: bytes in order, both ways, until one side leaves or all is silent."""

import asyncio
import contextlib
import socket
from typing import Final, Protocol

# Output that may wait for a slow client before whoever writes does.
_HIGH_WATER_BYTES: Final = 1 << 20

# Of input that is taken at a time.
_PIECE_BYTES: Final = 256 << 10


class Pipe(Protocol):
    """A connection, or what is tunnelled through one."""

    async def read_exactly(self, size: int) -> bytes:
        """Return the next ``size`` bytes. EOFError: the client has left, or ended its side."""

    def write(self, data: bytes) -> None:
        """Send ``data`` after all that was written before; dropped if the client has left."""

    async def drain(self) -> None:
        """Wait while the client is far behind. ConnectionError: it has left."""


class Source(Pipe, Protocol):
    """A connection whose bytes are taken as they come."""

    async def read(self) -> bytes:
        """Return some bytes. EOFError: the client has left, or ended its side."""


class SocketPipe:
    """A TCP connection, with TLS or without."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, idle_s: float) -> None:
        """``idle_s``: after so many seconds in which nothing came or went, the connection ends."""
        self._reader = reader
        self._writer = writer
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._used = self._loop.time()
        self._timer = self._loop.call_later(idle_s, self._look)
        writer.transport.set_write_buffer_limits(_HIGH_WATER_BYTES)
        if (sock := writer.get_extra_info("socket")) is not None:
            # The kernel asks after clients that vanished.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    async def read_exactly(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        try:
            data = await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise EOFError from error
        self._used = self._loop.time()
        return data

    async def read(self) -> bytes:
        """Return some bytes."""
        try:
            data = await self._reader.read(_PIECE_BYTES)
        except ConnectionError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        self._used = self._loop.time()
        return data

    def write(self, data: bytes) -> None:
        """Send ``data``."""
        if not self._writer.is_closing():
            self._writer.write(data)
            self._used = self._loop.time()

    async def drain(self) -> None:
        """Wait while the client is far behind."""
        await self._writer.drain()
        self._used = self._loop.time()

    async def close(self) -> None:
        """Send what is left, if the client takes it, and end the connection."""
        self._timer.cancel()
        self._writer.close()
        try:
            async with asyncio.timeout(_FAREWELL_S):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):  # it left, or takes nothing: what it has not read is lost
            self.abort()

    def abort(self) -> None:
        """End the connection at once."""
        self._timer.cancel()
        self._writer.transport.abort()

    def _look(self) -> None:
        left = self._used + self._idle_s - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self.abort()


# For the last bytes of a session to reach the client, and for the client to leave by itself.
_FAREWELL_S: Final = 2.0


async def while_connected(reading: asyncio.Task[None], work: asyncio.Task[None]) -> None:
    """Let ``work`` go on as long as ``reading``, which ends when the client leaves, does; raise what either raises.

    When ``work`` is done the client has a moment to read what it was sent and to leave.
    """
    try:
        await asyncio.wait((reading, work), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            await asyncio.wait((reading,), timeout=_FAREWELL_S)
    finally:
        for task in (work, reading):
            task.cancel()
        results = await asyncio.gather(work, reading, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, (EOFError, ConnectionError)):
            raise result


async def quietly_drain(pipe: Pipe) -> None:
    """Wait while the client is far behind; return if it has left: its reader tells."""
    with contextlib.suppress(ConnectionError):
        await pipe.drain()
