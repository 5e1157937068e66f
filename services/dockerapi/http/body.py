"""A request's body as a stream."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

# dockerd's body of a stream is read in pieces like this one; smaller pieces cost gRPC calls.
_CHUNK_BYTES: Final = 1 << 20


class Body:
    """A request's body, until it ends or nobody wants more of it.

    A call that fails leaves whoever feeds it waiting for the next piece, and nobody else can read on until it lets go.
    """

    def __init__(self, request: web.BaseRequest) -> None:
        self._content = request.content
        self._reading: asyncio.Task[bytes] | None = None
        self._closed = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield pieces of ``_CHUNK_BYTES``; the last one may be shorter."""
        pending: list[bytes] = []
        size = 0
        while piece := await self._read():
            pending.append(piece)
            size += len(piece)
            if size >= _CHUNK_BYTES:
                yield b"".join(pending)
                pending.clear()
                size = 0
        if pending and not self._closed:
            yield b"".join(pending)

    def close(self) -> None:
        """End ``chunks``, also where it waits."""
        self._closed = True
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self) -> bytes:
        if self._closed:
            return b""
        self._reading = asyncio.create_task(self._content.readany(), name="read body")
        await asyncio.wait({self._reading})
        return b"" if self._reading.cancelled() else self._reading.result()
