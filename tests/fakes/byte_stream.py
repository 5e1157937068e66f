"""Both ends of a connection, in memory."""

import asyncio
from typing import Self


class FakeByteStream:
    """One end. What it writes the other reads, piece by piece."""

    def __init__(self, incoming: "asyncio.Queue[bytes]", outgoing: "asyncio.Queue[bytes]") -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self.closed = False

    @classmethod
    def pair(cls, capacity: int = 0) -> tuple[Self, Self]:
        """Return two ends; ``capacity`` writes may wait to be read, 0: any number."""
        one: asyncio.Queue[bytes] = asyncio.Queue(capacity)
        other: asyncio.Queue[bytes] = asyncio.Queue(capacity)
        return cls(one, other), cls(other, one)

    async def read(self) -> bytes:
        if self.closed:
            return b""
        return await self._incoming.get()

    async def write(self, data: bytes) -> None:
        if self.closed:
            raise BrokenPipeError
        await self._outgoing.put(data)

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            for queue in (self._incoming, self._outgoing):
                if queue.full():  # what was not read is lost
                    queue.get_nowait()
                queue.put_nowait(b"")
