"""Work that a cancelled caller must not leave half done."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


async def to_the_end(job: Coroutine[None, None, T]) -> T:
    """Run ``job`` to its end even if the caller is cancelled, which is then raised afterwards.

    For work of milliseconds that must not be left half done.
    """
    task = asyncio.ensure_future(job)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None and not task.cancelled():
        task.exception()  # seen: what the caller asked for is an end, not this error
        raise cancelled
    return task.result()
