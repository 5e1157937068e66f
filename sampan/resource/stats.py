"""What containers use: processor, memory, network, block devices, processes; and what their host can do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class OciRuntimeInfo:
    """An OCI runtime that was found."""

    name: str
    path: str
    version: str
    usable: bool
    reason: str = ""  # why not
    features: str = ""  # the OCI runtime spec's features structure, JSON; empty: it tells none


@dataclass(frozen=True, slots=True)
class HostInfo:
    """The host as runtimed sees it, and how many containers are in which state."""

    default_runtime: str = ""
    runtimes: tuple[OciRuntimeInfo, ...] = ()
    cgroup_version: int = 0
    cgroup_layout: str = ""  # "unified", "hybrid", "legacy"
    security_options: tuple[str, ...] = ()  # Docker's form: "name=seccomp,profile=builtin"
    warnings: tuple[str, ...] = ()
    containers_running: int = 0
    containers_paused: int = 0
    containers_stopped: int = 0
    conmon_version: str = ""
    log_drivers: tuple[str, ...] = ()
    network_drivers: tuple[str, ...] = ()
    volume_drivers: tuple[str, ...] = ()
    events: int = 0  # published since runtimed started
    cdi_spec_dirs: tuple[str, ...] = ()
    cdi_devices: tuple[str, ...] = ()  # "vendor/class=name"
    cgroup_driver: str = ""  # who makes containers' cgroups: "cgroupfs", the runtime itself
    labels: tuple[str, ...] = ()  # of the engine: "name=value"
    log_driver: str = ""  # of containers that ask for none
    stops_containers: bool = False  # when it is stopped
    limits: tuple[str, ...] = ()  # what of containers the kernel can limit here: "memory", "swap", "cpu_quota"
    ipv4_forwarding: bool = False  # the kernel's, at present
    default_address_pools: tuple[str, ...] = ()  # by its configuration: "10.200.0.0/16:24"
    init_path: str = ""  # of the program for --init; empty: none is installed
    system_time: str = ""  # RFC 3339, in the zone of the engine


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
    percpu_ns: tuple[int, ...] = ()  # cgroup version 1 alone counts it


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
class Stall:
    """For how long processes waited for something: altogether, and in per cent of the last 10, 60 and 300 seconds."""

    total_us: int = 0
    avg10: float = 0.0
    avg60: float = 0.0
    avg300: float = 0.0


@dataclass(frozen=True, slots=True)
class Pressure:
    """Pressure stall information of the kernel (PSI)."""

    some: Stall = field(default_factory=Stall)  # one process at least waited
    full: Stall = field(default_factory=Stall)  # all of them did


@dataclass(frozen=True, slots=True)
class HugepageUse:
    """Huge pages of one size."""

    page_size: str  # "2MB"
    usage_bytes: int
    max_usage_bytes: int  # 0 where the kernel does not count it, as with cgroup version 2


@dataclass(frozen=True, slots=True)
class DeviceTraffic:
    """What went to or came from a block device."""

    device: str  # "/dev/sda", or "8:0" where it has no name
    operation: str  # "read", "write"
    bytes: int
    operations: int


@dataclass(frozen=True, slots=True)
class SampleDetails:
    """What takes several times as long to read as the rest of a sample."""

    cgroup_path: str = ""
    cpu_user_ns: int = 0
    cpu_kernel_ns: int = 0
    periods: int = 0  # of the CPU quota
    throttled_periods: int = 0
    throttled_ns: int = 0
    max_usage_bytes: int = 0
    cache_bytes: int = 0
    mapped_bytes: int = 0
    kernel_bytes: int = 0
    limit_hits: int = 0  # how often memory was at its limit
    oom_kills: int = 0
    pids_limit: int = 0  # 0: none
    processes: int = 0
    file_descriptors: int = 0  # of these that are open
    sockets: int = 0  # of these
    block_io: tuple[DeviceTraffic, ...] = ()
    hugepages: tuple[HugepageUse, ...] = ()
    open_files_limit: int = 0  # the soft one of its first process; 0: none, or no process


@dataclass(frozen=True, slots=True)
class ContainerSample:
    """What a container uses at one moment, as far as many are asked for at once; or what a parent cgroup does."""

    id: str  # of a parent: its name, as it was asked for
    read: datetime
    cpu_usage_ns: int = 0  # since it began
    memory_usage_bytes: int = 0
    working_set_bytes: int = 0  # what cannot be given back for the asking
    rss_bytes: int = 0
    page_faults: int = 0
    major_page_faults: int = 0
    memory_limit_bytes: int = 0  # 0: none
    swap_usage_bytes: int = 0
    swap_limit_bytes: int = 0  # 0: none
    pids: int = 0
    layer_bytes: int = 0  # what it wrote to its root file system
    layer_inodes: int = 0
    layer_read: datetime | None = None  # when that was; None: not measured yet
    details: SampleDetails | None = None  # if asked for
    cpu_pressure: Pressure | None = None  # None: the kernel does not count it here
    memory_pressure: Pressure | None = None
    io_pressure: Pressure | None = None


@dataclass(frozen=True, slots=True)
class Top:
    """A table of a container's processes."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
