"""Work that several wait for: begun once, cancelled when the last of them leaves."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Final, Generic, TypeVar

from sampan.errors import UnavailableError

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

# Of a vertex's inputs, of which there may be 100,000: the event loop has others to serve.
AT_ONCE: Final = 128


class Flight(Generic[T]):
    """One piece of work, and those who wait for it."""

    def __init__(self, work: Coroutine[None, None, T], name: str) -> None:
        self._task = asyncio.create_task(work, name=name)
        self._waiting = 0

    @property
    def task(self) -> asyncio.Task[T]:
        """The work."""
        return self._task

    @property
    def over(self) -> bool:
        """Whether it has ended, or is cancelled and about to end."""
        return self._task.done() or self._task.cancelling() > 0

    async def wait(self) -> T:
        """Return what comes of it. Whoever leaves as the last one has the work cancelled, and waits for its end.

        Raises:
            UnavailableError: somebody else has cancelled it: the builder stops.
        """
        self._waiting += 1
        try:
            await asyncio.wait((self._task,))
        finally:
            self._waiting -= 1
            if not self._waiting and not self._task.done():
                self._task.cancel()
                await asyncio.wait((self._task,))
        if self._task.cancelled():
            raise UnavailableError("the builder stops")
        return self._task.result()


class Flights(Generic[K, T]):
    """Pieces of work by what they are for. Close it in the end."""

    def __init__(self) -> None:
        self._flying: dict[K, Flight[T]] = {}
        self._tasks: set[asyncio.Task[T]] = set()

    def get(self, key: K) -> Flight[T] | None:
        """Return the work that is under way."""
        found = self._flying.get(key)
        return None if found is None or found.over else found

    def begin(self, key: K, work: Callable[[], Coroutine[None, None, T]], name: str) -> Flight[T]:
        """Return the work that is under way, or begin it."""
        found = self.get(key)
        if found is not None:
            return found
        flight = Flight(work(), name)
        self._flying[key] = flight
        self._tasks.add(flight.task)
        flight.task.add_done_callback(lambda task: self._ended(key, flight, task))
        return flight

    def _ended(self, key: K, flight: Flight[T], task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        if self._flying.get(key) is flight:
            del self._flying[key]
        if not task.cancelled():
            task.exception()  # whoever still waits raises it; if nobody does, it is nobody's

    async def close(self) -> None:
        """Cancel what is under way, and wait for its end."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
