"""Work that a cancelled caller must not leave half done."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


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


async def both(first: Awaitable[T], second: Awaitable[U]) -> tuple[T, U]:
    """Do two things side by side and return both results.

    When one fails the other is still waited for, so that whoever undoes them finds both at rest; then the first error
    is raised as it is.
    """
    a, b = await asyncio.gather(first, second, return_exceptions=True)
    if isinstance(a, BaseException):
        raise a
    if isinstance(b, BaseException):
        raise b
    return a, b
