"""What all containers use at one moment, in one answer: a reading of a few files for each, and no rates.

What a container wrote to its root takes a walk through that. So it is measured by the side, at most every ten seconds,
and told with the time of the measurement.
"""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from runtimed.cgroups.naming import CgroupNames
from runtimed.cgroups.usage import BriefUsage
from runtimed.containers.memory_store import UP, MemoryStore
from runtimed.lifecycle.background import Background
from sampan.errors import InvalidArgumentError, SampanError
from sampan.resource.container import Container
from sampan.resource.container_spec import Resources
from sampan.resource.listing import EVERYONE
from sampan.resource.stats import ContainerSample, SampleDetails
from sampan.sys.measuring import Usage

_FRESH_S: Final = 10.0
_KEPT_S: Final = 60.0
_NO_LIMITS: Final = Resources()  # of a cgroup that is no container's
_AT_ONCE: Final = 4  # walks through snapshots, each of which reads a disk


class Layers(Protocol):
    """What is asked of the snapshotter."""

    async def usage(self, key: str) -> Usage:
        """Measure what was written to a snapshot."""


class Details(Protocol):
    """What is asked for details, which take several times as long."""

    def of(self, path: str) -> SampleDetails | None:
        """Return what more there is to say of a cgroup; None if it is gone."""


class Reader(Protocol):
    """What is asked of cgroups."""

    def read_briefly(self, path: str) -> BriefUsage | None:
        """Return what the cgroup uses; None if it is gone."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was written to a root, and when it was."""

    usage: Usage
    at: datetime
    at_s: float  # by the monotonic clock


class LayerUsage:
    """Keeps what containers wrote, measured anew while somebody asks."""

    def __init__(self, layers: Layers, background: Background) -> None:
        self._layers = layers
        self._background = background
        self._measured: dict[str, Measured] = {}
        self._under_way: dict[str, asyncio.Future[None]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def of(self, ids: Collection[str]) -> dict[str, Measured]:
        """Return what is known; those that were never measured are waited for."""
        now_s = time.monotonic()
        self._measured = {key: one for key, one in self._measured.items() if now_s - one.at_s < _KEPT_S}
        first = []
        for key in ids:
            known = self._measured.get(key)
            if known is None or now_s - known.at_s > _FRESH_S:
                measuring = self._measuring(key)
                if known is None:
                    first.append(measuring)
        if first:
            await asyncio.wait(first)  # not gather, with which a caller who leaves would end it for all others
        return dict(self._measured)

    def _measuring(self, id: str) -> "asyncio.Future[None]":
        if id not in self._under_way:
            self._under_way[id] = self._background.begin(self._measure(id), f"size of {id}")
        return self._under_way[id]

    async def _measure(self, id: str) -> None:
        try:
            async with self._turns:
                usage = await self._layers.usage(id)
            self._measured[id] = Measured(usage, datetime.now(UTC), time.monotonic())
        except SampanError:  # it is being removed, or the snapshotter is away: the next one who asks tries again
            pass
        finally:
            del self._under_way[id]


class Samples:
    """Reads all containers that run."""

    def __init__(
        self, memory: MemoryStore, reader: Reader, layers: LayerUsage, details: Details, cgroups: CgroupNames
    ) -> None:
        self._cgroups = cgroups
        self._memory = memory
        self._reader = reader
        self._layers = layers
        self._details = details

    async def of(
        self, owner: str, ids: Sequence[str], *, detailed: bool = False, parents: Sequence[str] = ()
    ) -> tuple[ContainerSample, ...]:
        """Return a sample of each that runs: of ``owner``'s, and with ``ids`` of those alone; and of ``parents``."""
        above = {name: self._parent_path(name, owner) for name in parents}
        wanted = frozenset(ids)
        chosen = [
            entry.container
            for entry in self._memory
            if entry.status in UP
            and owner in (entry.container.spec.owner, EVERYONE)
            and (not wanted or entry.id in wanted)
        ]
        layers = await self._layers.of([one.id for one in chosen])
        return await asyncio.to_thread(self._read, chosen, above, layers, detailed)

    def _read(
        self, chosen: Sequence[Container], above: Mapping[str, str], layers: dict[str, Measured], detailed: bool
    ) -> tuple[ContainerSample, ...]:
        own = (
            self._sample(one.id, one.cgroup_path, detailed, one.spec.resources, layers.get(one.id)) for one in chosen
        )
        parents = (self._sample(name, path, detailed) for name, path in above.items())
        return tuple([sample for sample in (*own, *parents) if sample is not None])

    def _parent_path(self, name: str, owner: str) -> str:
        try:
            return self._cgroups.parent_path(name, owned=bool(owner))
        except InvalidArgumentError:  # no slice, as of containers that were made before systemd made cgroups
            return f"/{name.strip('/')}"

    def _sample(
        self,
        id: str,
        path: str,
        detailed: bool,
        limits: Resources = _NO_LIMITS,
        layer: Measured | None = None,
    ) -> ContainerSample | None:
        """Return what a cgroup uses, with what a container's spec says and its file system; None if it is gone."""
        usage = self._reader.read_briefly(path)
        if usage is None:
            return None
        return ContainerSample(
            id=id,
            read=datetime.now(UTC),
            cpu_usage_ns=usage.cpu_usage_ns,
            memory_usage_bytes=usage.memory_bytes,
            working_set_bytes=usage.working_set_bytes,
            rss_bytes=usage.rss_bytes,
            page_faults=usage.page_faults,
            major_page_faults=usage.major_page_faults,
            swap_usage_bytes=usage.swap_bytes,
            pids=usage.pids,
            memory_limit_bytes=limits.memory_bytes,
            swap_limit_bytes=max(0, limits.memory_swap_bytes - limits.memory_bytes),
            layer_bytes=layer.usage.size_bytes if layer else 0,
            layer_inodes=layer.usage.inodes if layer else 0,
            layer_read=layer.at if layer else None,
            details=self._details.of(path) if detailed else None,
            cpu_pressure=usage.cpu_pressure,
            memory_pressure=usage.memory_pressure,
            io_pressure=usage.io_pressure,
        )
