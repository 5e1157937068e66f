"""The end of a container: everything it had is given back, then its record goes."""

import asyncio
import errno
from collections.abc import Callable
from dataclasses import replace

from runtimed.containers.memory_store import UP, Entry, MemoryStore, is_waited_for
from runtimed.containers.paths import Paths
from runtimed.containers.store import Intent
from runtimed.events import Events
from runtimed.lifecycle.runner import Runner
from runtimed.protocol import Volumes
from sampan.cancellation import both
from sampan.errors import ConflictError
from sampan.resource.container import ContainerState, Exit, Status
from sampan.sys.trees import remove_tree


class Removal:
    """Removes containers that do not run."""

    def __init__(
        self,
        memory: MemoryStore,
        runner: Runner,
        volumes: Volumes,
        events: Events,
        paths: Paths,
        forget_execs: Callable[[str], None],
    ) -> None:
        self._memory = memory
        self._runner = runner
        self._volumes = volumes
        self._events = events
        self._paths = paths
        self._forget_execs = forget_execs

    async def remove_entry(self, entry: Entry, *, volumes: bool) -> None:
        """Remove it, with its anonymous ``volumes`` if asked; nothing happens if it runs (again) or is gone.

        What fails leaves it in the state ``dead``, to be removed again.
        """
        async with entry.lock:
            if entry.status in UP or self._memory.by_id(entry.id) is not entry:
                return
            entry.removes_volumes = volumes
            # On a full disk the removal itself makes room for its record; repeated, it finds less to do.
            removing = _with(entry.container.state, Status.REMOVING)
            durable = is_waited_for(entry.container)
            await self._memory.set_state(entry, removing, intent=Intent.REMOVING, happened=True, durable=durable)
            try:
                await self.give_back(entry, volumes=volumes)
                with self._events.recording(entry.container, "destroy") as telling:
                    await self._memory.remove(entry, telling=telling)
            except Exception:
                await self._memory.set_state(entry, _with(entry.container.state, Status.DEAD), happened=True)
                raise
            self._forget_execs(entry.id)
            self._tell(entry)

    async def give_back(self, entry: Entry, *, volumes: bool) -> None:
        """Undo everything that creating and running it made, but its record. Safe to repeat."""
        if not entry.cleared:
            await self._runner.clear(entry.container)
        await both(
            self._runner.remove_snapshots(entry.container),
            both(self._volumes.release(entry.id, anonymous=volumes), self._remove_home(entry)),
        )

    async def _remove_home(self, entry: Entry) -> None:
        await self._runner.forget_log(entry)  # which is written there
        home = self._paths.container(entry.id).home
        try:
            await asyncio.to_thread(remove_tree, home)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            raise ConflictError(
                f"unable to remove filesystem for {entry.id}: {home}: device or resource busy: "
                "somebody mounted something there"
            ) from error

    def _tell(self, entry: Entry) -> None:
        end = Exit(entry.container.state.exit_code, entry.container.state.error)
        for waiter in entry.removal_waiters | entry.exit_waiters:
            if not waiter.done():
                waiter.set_result(end)
        for waiting in entry.pending:
            if not waiting.done():
                waiting.set_result(None)


def _with(state: ContainerState, status: Status) -> ContainerState:
    return replace(state, status=status)
