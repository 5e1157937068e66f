"""A stream of a caller's that is sent in a call."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager


class Feed:
    """Chunks on their way; what goes wrong while they are read is what the call ends with.

    gRPC cancels a call whose requests fail, and the failure itself would be lost.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._failure: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the chunks, and remember why there are no more."""
        try:
            async for chunk in self._chunks:
                yield chunk
        except Exception as error:
            self._failure = error
            raise

    @contextmanager
    def told(self) -> Iterator[None]:
        """Raise in the block, where the call is made, what went wrong with the chunks."""
        try:
            yield
        except (asyncio.CancelledError, Exception) as error:
            task = asyncio.current_task()
            if self._failure is None or (task is not None and task.cancelling()):
                raise
            raise self._failure from error
