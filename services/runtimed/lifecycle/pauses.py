"""Freeze the processes of a container, for a client or for as long as somebody looks at its files."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

from runtimed.conmon.process import is_over
from runtimed.containers.memory_store import Entry, MemoryStore
from runtimed.containers.paths import Paths
from runtimed.events import Events
from runtimed.lifecycle.background import Background
from runtimed.lifecycle.runner import Runner
from sampan.errors import ConflictError
from sampan.resource.container import Status


class Pauses:
    """Freezes and thaws containers."""

    def __init__(
        self, memory: MemoryStore, runner: Runner, events: Events, background: Background, paths: Paths
    ) -> None:
        self._memory = memory
        self._runner = runner
        self._events = events
        self._background = background
        self._paths = paths

    async def pause(self, entry: Entry) -> None:
        """Freeze all its processes. Raises ConflictError: it does not run, or is paused."""
        await self._background.finish(self._pause(entry), f"pause {entry.id}")

    async def _pause(self, entry: Entry) -> None:
        async with entry.lock:
            if entry.status is Status.PAUSED:
                raise ConflictError(f"Container {entry.id} is already paused")
            if entry.status is Status.RESTARTING:
                raise ConflictError(f"Container {entry.id} is restarting, wait until the container is running")
            if entry.status is not Status.RUNNING:
                raise ConflictError(f"Container {entry.id} is not running")
            await self._freeze(entry, held=False)

    async def _freeze(self, entry: Entry, *, held: bool) -> None:
        # Recorded first: whatever is interrupted from here on, recovery finds a record that says what to do again.
        running = entry.container.state
        await self._memory.set_state(entry, replace(running, status=Status.PAUSED, held=held))
        try:
            await self._runner.runtime(entry.container).pause(entry.id, self._paths.container(entry.id).bundle)
        except Exception as error:
            await self._memory.set_state(entry, running, happened=True)
            if is_over(entry.init_pidfd):
                raise ConflictError(f"Container {entry.id} is not running") from error
            raise
        self._events.container(entry.container, "pause")

    @contextlib.asynccontextmanager
    async def held(self, entry: Entry) -> AsyncIterator[None]:
        """Keep all its processes frozen while the block lasts, together with others that do the same.

        It ends with whoever asked for it: cancelling the block, and the end of this process, thaw the container. One
        that does not run, or has just ended, or that is paused already, is left alone.

        Raises:
            ConflictError: it could not be frozen.
        """
        holder = object()
        try:
            await self._background.finish(self._hold(entry, holder), f"hold {entry.id}")
            yield
        finally:
            await self._background.finish(self._let_go(entry, holder), f"let go of {entry.id}")

    async def _hold(self, entry: Entry, holder: object) -> None:
        async with entry.lock:
            self._memory.check_known(entry)
            if entry.status is Status.RUNNING:
                try:
                    await self._freeze(entry, held=True)
                except ConflictError:
                    if not is_over(entry.init_pidfd):
                        raise
            if entry.container.state.held:
                entry.holders.add(holder)

    async def _let_go(self, entry: Entry, holder: object) -> None:
        # Behind ``_hold`` of the same holder, even if that is still waiting: locks are given in turn.
        async with entry.lock:
            entry.holders.discard(holder)
            if not entry.holders and entry.container.state.held and entry.status is Status.PAUSED:
                await self.resume(entry)

    async def settle(self, entry: Entry) -> None:
        """Do again what an earlier process may have been killed in: thaw what it held, freeze what is to be paused."""
        async with entry.lock:
            if entry.status is not Status.PAUSED:
                return
            if entry.container.state.held:
                await self.resume(entry)
            else:
                await self._runner.runtime(entry.container).pause(entry.id, self._paths.container(entry.id).bundle)

    async def unpause(self, entry: Entry) -> None:
        """Thaw it. Raises ConflictError: it is not paused."""
        await self._background.finish(self._unpause(entry), f"unpause {entry.id}")

    async def _unpause(self, entry: Entry) -> None:
        async with entry.lock:
            if entry.status is not Status.PAUSED:
                raise ConflictError(f"Container {entry.id} is not paused")
            await self.resume(entry)

    async def resume(self, entry: Entry) -> None:
        """Thaw it, its lock being held. Raises ConflictError."""
        await self._runner.runtime(entry.container).resume(entry.id, self._paths.container(entry.id).bundle)
        running = replace(entry.container.state, status=Status.RUNNING, held=False)
        await self._memory.set_state(entry, running, happened=True)
        self._events.container(entry.container, "unpause")
