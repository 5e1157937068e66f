"""A connection whose bytes travel in the messages of one call."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

from sampan.api.buildkit.control.v1 import control_pb2 as pb


class CallStream:
    """A ``sampan.wire.http2.protocol.ByteStream`` over a call of which this is the server."""

    def __init__(self, requests: AsyncIterator[pb.BytesMessage]) -> None:
        self._requests = requests
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue(1)  # the next one waits until this one is on its way
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def read(self) -> bytes:
        """Return the next bytes; none when the client has ended, or the connection is closed."""
        while not self._closed.done():
            receiving = asyncio.ensure_future(anext(self._requests, None))
            try:
                await asyncio.wait((receiving, self._closed), return_when=asyncio.FIRST_COMPLETED)
            finally:
                receiving.cancel()  # no more than a word if it is done
            if self._closed.done():
                return b""
            message = receiving.result()
            if message is None or message.data:
                return message.data if message is not None else b""
        return b""

    async def write(self, data: bytes) -> None:
        """Send, after what was sent before is on its way. BrokenPipeError: the connection is closed."""
        if self._closed.done():
            raise BrokenPipeError("the session's call has ended")
        await self._outgoing.put(data)

    async def close(self) -> None:
        """End it."""
        if not self._closed.done():
            self._closed.set_result(None)

    @asynccontextmanager
    async def serving(self, work: Coroutine[None, None, None]) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield what ``work`` writes, until it ends. Raises what it raises; at the end it is cancelled and awaited."""
        task = asyncio.create_task(work, name="serve session")
        try:
            yield self._sent(task)
        finally:
            await self.close()
            task.cancel()
            await asyncio.wait((task,))

    async def _sent(self, task: "asyncio.Task[None]") -> AsyncIterator[bytes]:
        while True:
            getting = asyncio.ensure_future(self._outgoing.get())
            try:
                await asyncio.wait((getting, task), return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not getting.done():
                    getting.cancel()
            if getting.done() and not getting.cancelled():
                yield getting.result()
            else:
                await task
                return
