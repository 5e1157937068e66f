"""Bytes of a client on their way to a reader that may be slower."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final, Protocol

from sampan.resource.streams import Stream

# What may wait for the reader before the client is held up.
LIMIT_BYTES: Final = 1 << 20


class Inlet:
    """A queue of bytes with one writer and one reader.

    The writer is held up at ``LIMIT_BYTES``. Neither SPDY as Kubernetes speaks it nor WebSocket has a window per
    stream, so everything on the connection waits with it, as it does with other servers.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self.ended = False
        self._discards = False
        self._broken = asyncio.Event()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def broken(self) -> bool:
        """Whether the client took the stream back, or left: nothing that is written to it arrives."""
        return self._broken.is_set()

    async def until_broken(self) -> None:
        """Wait until that is so."""
        await self._broken.wait()

    async def put(self, data: bytes) -> None:
        """Add ``data``; wait while too much waits already. What comes after the end, or to nobody, is dropped."""
        if self.ended or self._discards or not data:
            return
        self._pieces.append(data)
        self._size += len(data)
        self._arrived.set()
        if self._size >= LIMIT_BYTES:
            self._room.clear()
            await self._room.wait()

    def end(self, *, broken: bool = False) -> None:
        """Say that no more comes. Safe to repeat."""
        self.ended = True
        if broken:
            self._broken.set()
        self._arrived.set()
        self._room.set()

    def discard(self) -> None:
        """Say that nobody reads any more."""
        self._discards = True
        self._pieces.clear()
        self._size = 0
        self._room.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield what comes, until its end. For one reader; one that leaves early lets the writer go on."""
        try:
            while True:
                if self._pieces:
                    data = b"".join(self._pieces)
                    self._pieces.clear()
                    self._size = 0
                    self._room.set()
                    yield data
                elif self.ended:
                    return
                else:
                    self._arrived.clear()
                    await self._arrived.wait()
        finally:
            self.discard()


class Duplex(Protocol):
    """One stream of a client, whatever it speaks."""

    inlet: Inlet

    async def write(self, data: bytes) -> None:
        """Send ``data``; wait while the client is far behind. Dropped if it has left, or taken the stream back."""

    async def finish(self) -> None:
        """End the output, where the protocol can say so. Safe to repeat."""


# By the names that Kubernetes' clients have for them.
STDIN: Final = "stdin"
STDOUT: Final = "stdout"
STDERR: Final = "stderr"
ERROR: Final = "error"
RESIZE: Final = "resize"
DATA: Final = "data"

OUTPUTS: Final = {Stream.STDOUT: STDOUT, Stream.STDERR: STDERR}
