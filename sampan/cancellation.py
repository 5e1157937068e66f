"""Work of several tasks, and work that a cancelled caller must not leave half done."""

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable
from functools import partial
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


async def together(works: Iterable[Coroutine[None, None, T]], at_once: int | None = None) -> list[T]:
    """Return what all of them return, in order. The first failure ends the others, and is raised when they have.

    ``at_once`` are under way at most, of which none may wait for one that has not begun; None: all of them.
    """
    rest = iter(works)
    places = None if at_once is None else asyncio.Semaphore(at_once - 1)  # taken when one is begun: the last waits
    tasks: list[asyncio.Task[T]] = []
    try:
        async with asyncio.TaskGroup() as group:
            for work in rest:
                task = group.create_task(work)
                tasks.append(task)
                if places is not None:
                    task.add_done_callback(partial(_give_back, places))
                    await places.acquire()
    except ExceptionGroup as errors:
        first = errors.exceptions[0]
        raise first from first.__cause__
    finally:
        for work in rest:
            work.close()
    return [task.result() for task in tasks]


def _give_back(places: asyncio.Semaphore, _: object) -> None:
    places.release()
