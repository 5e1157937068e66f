"""Readings of a running container: once, or one a second.

Interfaces are counted in ``/proc/<pid>/net/dev`` of a process in their network namespace.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from runtimed.cgroups.reader import CgroupReader
from runtimed.cgroups.usage import Usage, text
from runtimed.host.facts import HostFacts
from sampan.resource.container import Container
from sampan.resource.stats import BlockIoSample, ContainerStats, CpuSample, InterfaceSample, MemorySample


@dataclass(frozen=True, slots=True)
class Interface:
    """What went through an interface, as seen from inside."""

    name: str
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


def read_interfaces(pid: int) -> tuple[Interface, ...]:
    """Return the interfaces of ``pid``'s network namespace but for the loopback; none if the process is gone."""
    return parse_interfaces(text(f"/proc/{pid}/net/dev"))


def parse_interfaces(content: str) -> tuple[Interface, ...]:
    """Read the table: two lines of titles, then eight columns received and eight sent."""
    interfaces = []
    for line in content.split("\n")[2:]:  # names may have what ends lines elsewhere
        name, _, columns = line.rpartition(":")
        values = [int(value) for value in columns.split()]
        if name.strip() != "lo" and len(values) >= 12:
            interfaces.append(Interface(name.strip(), *values[0:4], *values[8:12]))
    return tuple(interfaces)


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


def stats_of(container: Container, sample: Sample) -> ContainerStats:
    """Return a sample as clients see it."""
    reading, previous = sample.reading, sample.previous
    usage = reading.usage
    return ContainerStats(
        id=container.id,
        name=container.name,
        read=reading.time,
        previous_read=previous.time if previous else None,
        cpu=_cpu(reading),
        previous_cpu=_cpu(previous) if previous else CpuSample(),
        memory=MemorySample(
            usage_bytes=usage.memory.usage_bytes,
            max_usage_bytes=usage.memory.max_usage_bytes,
            limit_bytes=reading.memory_limit_bytes,
            stats=usage.memory.stats,
            failcnt=usage.memory.failures,
        ),
        networks={interface.name: _interface(interface) for interface in reading.networks},
        pids=usage.pids,
        pids_limit=usage.pids_limit,
        block_io=tuple(
            BlockIoSample(io.major, io.minor, io.operation, io.bytes, io.operations) for io in usage.block_io
        ),
    )


def _cpu(reading: Reading) -> CpuSample:
    cpu = reading.usage.cpu
    return CpuSample(
        usage_ns=cpu.usage_ns,
        user_ns=cpu.user_ns,
        kernel_ns=cpu.kernel_ns,
        system_ns=reading.system_ns,
        online_cpus=reading.online_cpus,
        periods=cpu.periods,
        throttled_periods=cpu.throttled_periods,
        throttled_ns=cpu.throttled_ns,
        percpu_ns=cpu.percpu_ns,
    )


def _interface(interface: Interface) -> InterfaceSample:
    return InterfaceSample(
        rx_bytes=interface.rx_bytes,
        rx_packets=interface.rx_packets,
        rx_errors=interface.rx_errors,
        rx_dropped=interface.rx_dropped,
        tx_bytes=interface.tx_bytes,
        tx_packets=interface.tx_packets,
        tx_errors=interface.tx_errors,
        tx_dropped=interface.tx_dropped,
    )


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
    ) -> AsyncGenerator[Sample, None]:
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
