"""Readings of a running container: once, or one a second."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from runtimed.cgroups.files import text
from runtimed.cgroups.reader import CgroupReader
from runtimed.cgroups.usage import Usage
from runtimed.host.facts import HostFacts
from runtimed.stats.netdev import Interface, read_interfaces
from sampan.resource.container import Container

_INTERVAL_S: Final = 1.0
_NS_PER_TICK: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")

# user nice system idle iowait irq softirq steal; guest time is part of user time.
_CPU_FIELDS: Final = 8


@dataclass(frozen=True, slots=True)
class Reading:
    """A container at one moment; all zero for one that does not run."""

    time: datetime
    usage: Usage = field(default_factory=Usage)
    networks: tuple[Interface, ...] = ()
    system_ns: int = 0  # CPU time of the whole host, idle included
    online_cpus: int = 0
    memory_limit_bytes: int = 0  # the host's memory where there is no limit


@dataclass(frozen=True, slots=True)
class Sample:
    """A reading and the one before it, if any."""

    reading: Reading
    previous: Reading | None = None


class Stats:
    """Reads containers. ``read`` blocks for well under a millisecond, and is safe in any thread."""

    def __init__(self, reader: CgroupReader, host: HostFacts) -> None:
        self._reader = reader
        self._host = host

    def read(self, container: Container) -> Reading:
        """Return a reading; zeros if the container does not run."""
        now = datetime.now(UTC)
        usage = self._reader.read(container.cgroup_path) if container.state.pid else None
        if usage is None:
            return Reading(now)
        shares_host = container.spec.namespaces.network == "host"
        return Reading(
            now,
            usage,
            () if shares_host else read_interfaces(container.state.pid),
            system_ns(),
            self._host.cpus,
            min(usage.memory.limit_bytes or self._host.memory_bytes, self._host.memory_bytes),
        )

    async def follow(
        self, find: Callable[[], Container | None], stopping: asyncio.Event, *, stream: bool, one_shot: bool
    ) -> AsyncIterator[Sample]:
        """Yield samples of the container that ``find`` returns, which is asked each time.

        With ``stream`` one a second until it returns None or ``stopping`` is set. Otherwise a single one: at once
        and without a previous reading if ``one_shot``, else after a second with one, for rates to be computed.
        """
        previous: Reading | None = None
        while (container := find()) is not None:
            reading = self.read(container)
            if stream or one_shot or previous is not None or not container.state.pid:
                yield Sample(reading, previous)
                if not stream:
                    return
            previous = reading
            try:
                async with asyncio.timeout(_INTERVAL_S):
                    await stopping.wait()
                    return
            except TimeoutError:
                continue


def system_ns(content: str | None = None) -> int:
    """Return the CPU time of all processors since the boot, from the first line of ``/proc/stat``."""
    line = (text("/proc/stat") if content is None else content).partition("\n")[0]
    return sum(int(value) for value in line.split()[1 : 1 + _CPU_FIELDS]) * _NS_PER_TICK
