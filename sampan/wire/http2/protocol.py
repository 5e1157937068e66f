"""What HTTP/2 is spoken over."""

from typing import Protocol


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
