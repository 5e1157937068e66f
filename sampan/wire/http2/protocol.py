"""What HTTP/2 is spoken over."""

import asyncio
from pathlib import Path
from typing import Final, Protocol, Self

READ_BYTES: Final = 256 << 10


class ByteStream(Protocol):
    """A connection, whatever carries it: a hijacked socket, a stream of messages of another connection."""

    async def read(self) -> bytes:
        """Return the next bytes, as many as are there, one at least; none when the other side has ended.

        Raises:
            OSError: the connection is broken.
        """

    async def write(self, data: bytes) -> None:
        """Send; returns when the other side has taken enough of it that more may come.

        Raises:
            OSError: the connection is broken.
        """

    async def close(self) -> None:
        """Close it, which ends a ``read`` that waits; safe to repeat."""


class SocketStream:
    """A socket as a ``ByteStream``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, path: Path) -> Self:
        """Connect to a unix socket. OSError: nobody is there."""
        return cls(*await asyncio.open_unix_connection(path, limit=READ_BYTES))

    async def read(self) -> bytes:
        """Return the next bytes; none at the end."""
        return await self._reader.read(READ_BYTES)

    async def write(self, data: bytes) -> None:
        """Send. OSError: the connection is broken."""
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        """Close it; what was written is still sent. Safe to repeat."""
        self._writer.close()
