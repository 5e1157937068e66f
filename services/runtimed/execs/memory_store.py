"""All execs, in memory and in the database: those that run, and the latest that have ended."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from runtimed.conmon.stdio import StdioConnection
from runtimed.containers.memory_store import Entry, MemoryStore
from runtimed.containers.paths import Paths
from runtimed.containers.store import ContainerStore
from runtimed.execs.prepared import Prepared, remove_files
from sampan.errors import NotFoundError
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.exec import Exec

# Execs that have ended and are kept for whoever asks for their exit code.
_KEPT_PER_CONTAINER: Final = 256
# Execs that were made and not started. Their clients may be about to, many at a time; but some never do.
_UNSTARTED_PER_CONTAINER: Final = 4096


@dataclass(slots=True, eq=False)
class Running:
    """An exec in this process."""

    exec: Exec
    entry: Entry
    console_size: ConsoleSize | None = None
    detached: bool = False
    session: int = 0  # of its process; 0: it was begun by an earlier process of ours
    connection: StdioConnection | None = None
    ahead: "asyncio.Task[Prepared] | None" = None  # what is prepared for a start that comes soon
    ahead_in: datetime | None = None  # when that run of the container began
    preparing: asyncio.Lock = field(default_factory=asyncio.Lock)  # whoever takes it back, or prepares it
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)


class ExecMemory:
    """Execs by ID."""

    def __init__(self, containers: MemoryStore, store: ContainerStore, paths: Paths) -> None:
        self._containers = containers
        self._store = store
        self._paths = paths
        self._by_id: dict[str, Running] = {}

    def add(self, running: Running) -> None:
        """Know it from now on."""
        self._by_id[running.exec.id] = running

    def drop(self, id: str) -> None:
        """Know it no more; its record stays. No error if it is not known."""
        self._by_id.pop(id, None)

    def get(self, id: str) -> Exec:
        """Return an exec by its ID or an unambiguous prefix of it. Raises NotFoundError."""
        return self.find(id).exec

    def ids(self) -> dict[str, tuple[str, ...]]:
        """Return the IDs of execs that have not ended, oldest first, by their containers' IDs."""
        found: dict[str, tuple[str, ...]] = {}
        for key, one in self._by_id.items():
            if one.exec.exit_code is None:
                found[one.entry.id] = (*found.get(one.entry.id, ()), key)
        return found

    def find(self, id: str) -> Running:
        """Return an exec by its ID or an unambiguous prefix of it. Raises NotFoundError."""
        if (found := self._by_id.get(id)) is None or self._containers.by_id(found.entry.id) is None:
            matches = [one for key, one in self._by_id.items() if id and key.startswith(id)]
            if len(matches) != 1:
                raise NotFoundError(f"No such exec instance: {id}")
            found = matches[0]
        return found

    def forget_container(self, container_id: str) -> None:
        """Drop the execs of a container that is gone; the store has dropped them with it."""
        for key in [key for key, one in self._by_id.items() if one.entry.id == container_id]:
            del self._by_id[key]
            remove_files(self._paths.exec(key))

    async def forget_old(self, container_id: str) -> None:
        """Drop the oldest records beyond the bounds.

        They are chosen and dropped in one step: others come here, start an exec or remove the container while the
        store is waited for. A row that a crash leaves is dropped by a later process.
        """
        own = [(key, one.exec) for key, one in self._by_id.items() if one.entry.id == container_id]
        ended = [key for key, record in own if record.exit_code is not None]
        unstarted = [key for key, record in own if not record.started]
        old = ended[: max(0, len(ended) - _KEPT_PER_CONTAINER)]
        old += unstarted[: max(0, len(unstarted) - _UNSTARTED_PER_CONTAINER)]
        for key in old:
            del self._by_id[key]
        for key in old:
            await self._store.remove_exec(key)

    async def record(self, running: Running) -> None:
        """Record one that was added. Raises NotFoundError: its container was removed meanwhile."""
        record = running.exec
        gone = NotFoundError(f"No such container: {record.container_id}")
        try:
            await self._store.add_exec(record, time.time_ns())
        except Exception as error:
            if record.id in self._by_id:
                raise
            raise gone from error  # the row needs its container's
        if record.id not in self._by_id:
            raise gone
