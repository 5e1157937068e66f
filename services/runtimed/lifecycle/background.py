"""Work that goes on when whoever asked for it has left."""

import asyncio
from collections.abc import Coroutine
from typing import Final, TypeVar

from sampan.errors import SampanError
from sampan.log import log

T = TypeVar("T")
U = TypeVar("U")

_CLOSE_S: Final = 3.0


async def done_before(future: "asyncio.Future[T]", event: asyncio.Event) -> bool:
    """Wait until ``future`` is done or ``event`` is set; return whether ``future`` is done."""
    woken = asyncio.Event()

    def wake(_: "asyncio.Future[T]") -> None:
        woken.set()

    async def watch() -> None:
        await event.wait()
        woken.set()

    watcher = asyncio.create_task(watch(), name="end of a wait")
    future.add_done_callback(wake)
    try:
        await woken.wait()
    finally:
        future.remove_done_callback(wake)
        watcher.cancel()
    return future.done()


def _seen(future: "asyncio.Future[T]") -> None:
    if not future.cancelled():
        future.exception()


class Background:
    """Owns tasks. Closing it lets those finish that are in the middle of a change, and cancels those that only wait."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Task[object]] = set()
        self._changing: set[asyncio.Task[object]] = set()

    def watch(self, work: Coroutine[None, None, None], name: str) -> "asyncio.Task[None]":
        """Start ``work`` that may be cancelled at any time; what it raises is logged."""
        task = asyncio.create_task(work, name=name)
        self._waiting.add(task)
        task.add_done_callback(self._watched)
        return task

    async def finish(self, work: Coroutine[None, None, T], name: str) -> T:
        """Run ``work`` to its end, even if the caller is cancelled meanwhile, and return what it returns."""
        return await self.begin(work, name)

    def begin(self, work: Coroutine[None, None, T], name: str) -> "asyncio.Future[T]":
        """Start ``work``, which runs to its end whoever waits for it or not."""
        task = asyncio.create_task(work, name=name)
        self._changing.add(task)
        task.add_done_callback(self._changed)
        done = asyncio.shield(task)
        done.add_done_callback(_seen)  # nobody has to wait for it
        return done

    async def close(self) -> None:
        """Wait a moment for what must finish, then cancel everything."""
        if self._changing:
            await asyncio.wait(self._changing, timeout=_CLOSE_S)
        tasks = self._waiting | self._changing
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _changed(self, task: "asyncio.Task[object]") -> None:
        self._changing.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits for it raises it; when nobody does, it was told in the container's state

    def _watched(self, task: "asyncio.Task[None]") -> None:
        self._waiting.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, SampanError):
            log.warning("background work failed", task=task.get_name(), error=str(error))
        else:
            log.error("background work failed", task=task.get_name(), exc_info=error)
