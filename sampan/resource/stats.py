"""What containers use: processor, memory, network, block devices, processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class CpuSample:
    """Processor time since the container began; all zero if it does not run."""

    usage_ns: int = 0
    user_ns: int = 0
    kernel_ns: int = 0
    system_ns: int = 0  # of the whole host, idle included
    online_cpus: int = 0
    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0


@dataclass(frozen=True, slots=True)
class MemorySample:
    """Memory now; ``stats`` is the kernel's ``memory.stat``."""

    usage_bytes: int = 0
    max_usage_bytes: int = 0
    limit_bytes: int = 0  # the host's memory where there is no limit
    stats: Mapping[str, int] = field(default_factory=dict)
    failcnt: int = 0


@dataclass(frozen=True, slots=True)
class InterfaceSample:
    """Counters of a network interface."""

    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


@dataclass(frozen=True, slots=True)
class BlockIoSample:
    """What was read from or written to a block device."""

    major: int
    minor: int
    operation: str  # "read", "write"
    bytes: int
    operations: int


@dataclass(frozen=True, slots=True)
class ContainerStats:
    """A container at one moment, and its processor time at the moment before."""

    id: str
    name: str
    read: datetime
    previous_read: datetime | None = None
    cpu: CpuSample = field(default_factory=CpuSample)
    previous_cpu: CpuSample = field(default_factory=CpuSample)
    memory: MemorySample = field(default_factory=MemorySample)
    networks: Mapping[str, InterfaceSample] = field(default_factory=dict)
    pids: int = 0
    pids_limit: int = 0
    block_io: tuple[BlockIoSample, ...] = ()


@dataclass(frozen=True, slots=True)
class Top:
    """A table of a container's processes."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
