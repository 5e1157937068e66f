"""Waiting for containers to end."""

import asyncio

from runtimed.containers.memory_store import Entry
from runtimed.lifecycle.background import done_before
from sampan.errors import UnavailableError
from sampan.resource.container import Condition, Exit


class Wait:
    """A wait that is in place: whatever happens from here on is not missed. Close it when done."""

    def __init__(self, entry: Entry, condition: Condition, stopping: asyncio.Event) -> None:
        self._stopping = stopping
        self._future: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._waiters = entry.removal_waiters if condition is Condition.REMOVED else entry.exit_waiters
        if condition is Condition.NOT_RUNNING and entry.down.is_set():
            self._future.set_result(Exit(entry.container.state.exit_code, entry.container.state.error))
        else:
            self._waiters.add(self._future)

    async def exit(self) -> Exit:
        """Return the exit when it has come.

        Raises:
            UnavailableError: the service stops first.
        """
        if not await done_before(self._future, self._stopping):
            raise UnavailableError("runtimed is stopping; the container goes on")
        return self._future.result()

    def close(self) -> None:
        """Wait no more; safe to repeat."""
        self._waiters.discard(self._future)
        self._future.cancel()


class Waits:
    """Places waits."""

    def __init__(self, stopping: asyncio.Event) -> None:
        self._stopping = stopping

    def place(self, entry: Entry, condition: Condition) -> Wait:
        """Put a wait in place."""
        return Wait(entry, condition, self._stopping)
