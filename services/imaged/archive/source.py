"""Chunks that arrive on the event loop, read by a thread: what a tar reader wants, unpacked on the way."""

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

from imaged.archive.decompress import decompressor
from sampan.errors import UnavailableError
from sampan.tar.compression import MAGIC_BYTES

T = TypeVar("T")


class Bridge:
    """Lets a thread wait for coroutines of the loop that made this, until ``close``."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._cancel: Callable[[], bool] | None = None  # of the wait that goes on

    def wait(self, work: Callable[[], Coroutine[object, object, T]]) -> T:
        """Run ``work`` on the loop and return its result; blocks, and is for the thread alone.

        Raises:
            UnavailableError: nobody waits for the thread any more.
        """
        coroutine = work()
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        self._cancel = future.cancel
        if self._closed:
            future.cancel()
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise UnavailableError("the caller has left") from None

    def close(self) -> None:
        """Have the thread's waits, this one and all later ones, fail."""
        self._closed = True
        if self._cancel is not None:
            self._cancel()

    async def run(self, work: Callable[[Self], T]) -> T:
        """Run ``work`` in a thread of its own; cancelling ends its waits and returns when it is over.

        Its own, because it may wait for work that needs one of the common threads.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="archive") as executor:
            future = self._loop.run_in_executor(executor, work, self)
            try:
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                self.close()
                await asyncio.wait([future])
                raise


class ChunkSource:
    """Satisfies ``sampan.tar.reader.Source``. Plain, or packed with gzip, zstd, bzip2 or xz."""

    def __init__(self, bridge: Bridge, chunks: AsyncIterator[bytes]) -> None:
        self._bridge = bridge
        self._chunks = chunks
        self._pieces = self._unpacked()
        self._rest = memoryview(b"")

    def read(self, size: int) -> memoryview:
        """Return 1 to ``size`` bytes, or none at the end.

        Raises:
            InvalidArgumentError: packed data is damaged or ends too early.
        """
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return memoryview(b"")
            self._rest = memoryview(piece)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def _unpacked(self) -> Iterator[bytes]:
        head = b""
        while len(head) < MAGIC_BYTES and (chunk := self._next()):
            head += chunk
        unpack = decompressor(head[:MAGIC_BYTES])
        chunk = head
        while chunk:
            yield from unpack.feed(chunk)
            chunk = self._next()
        unpack.finish()

    def _next(self) -> bytes:
        async def take() -> bytes:
            # An empty chunk is not the end.
            async for chunk in self._chunks:
                if chunk:
                    return chunk
            return b""

        return self._bridge.wait(take)
