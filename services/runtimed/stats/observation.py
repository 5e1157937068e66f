"""Looking at running containers: their processes, and what they use."""

import asyncio
from collections.abc import AsyncGenerator, Mapping

from runtimed.cgroups.reader import CgroupReader
from runtimed.containers.memory_store import UP, Entry, MemoryStore
from runtimed.stats.sampling import Sample, Stats
from runtimed.stats.top import top
from sampan.errors import ConflictError
from sampan.resource.container import Container
from sampan.resource.stats import Top


class Observation:
    """Reads what the kernel knows of containers."""

    def __init__(
        self,
        memory: MemoryStore,
        reader: CgroupReader,
        stats: Stats,
        environ: Mapping[str, str],
        stopping: asyncio.Event,
    ) -> None:
        self._memory = memory
        self._reader = reader
        self._stats = stats
        self._environ = environ
        self._stopping = stopping

    async def top(self, entry: Entry, ps_args: str) -> Top:
        """Return the container's processes as ``ps`` shows them.

        Raises:
            ConflictError: it does not run.
            InvalidArgumentError: arguments that ps refuses, or that hide the pids.
        """
        if entry.status not in UP:
            raise ConflictError(f"container {entry.id} is not running")
        pids = await asyncio.to_thread(self._reader.processes, entry.container.cgroup_path)
        return await top(pids, ps_args, self._environ)

    def stats(self, entry: Entry, *, stream: bool, one_shot: bool) -> AsyncGenerator[Sample, None]:
        """Yield samples: see ``Stats.follow``. A stream ends when the container is removed."""

        def find() -> Container | None:
            return entry.container if self._memory.by_id(entry.id) is entry else None

        return self._stats.follow(find, self._stopping, stream=stream, one_shot=one_shot)
