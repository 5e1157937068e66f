"""cAdvisor's series of pods and containers, for kubelet that no longer has a cAdvisor: names, labels, values.

Values are whole numbers here; seconds of processor time lose what is behind the point.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crid.cni.kernel import Counters
from crid.containers.model import Record
from crid.model.config import Resources
from crid.stats.usage import LOOPBACK, PodUse
from sampan.metrics.cadvisor import MEANINGS, is_counter
from sampan.resource.stats import ContainerSample, Pressure, SampleDetails, Stall

_NS: Final = 1_000_000_000
_US: Final = 1_000_000

# Of every series, sorted, as cAdvisor's have them.
LABELS: Final = ("container", "id", "image", "name", "namespace", "pod")

# Docker's and the kernel's own, where nothing is said.
_PERIOD: Final = 100_000
_SHARES: Final = 1024


@dataclass(frozen=True, slots=True)
class Filesystem:
    """The file system that containers write to."""

    device: str
    size_bytes: int
    inodes: int
    free_inodes: int


NOWHERE: Final = Filesystem("", 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Row:
    """One container, with all that was read of it; or a pod, of which nothing but its cgroup was read."""

    sample: ContainerSample
    details: SampleDetails
    record: Record | None = None
    started_ns: int = 0
    filesystem: Filesystem = NOWHERE

    @property
    def asked(self) -> Resources:
        """What kubelet has asked for."""
        return Resources() if self.record is None else self.record.config.linux.resources


@dataclass(frozen=True, slots=True)
class Metric:
    """One value."""

    name: str
    is_counter: bool
    labels: tuple[str, ...]
    value: int


# Values with the labels that they have beyond ``LABELS``.
Values = Iterable[tuple[tuple[str, ...], int]]


@dataclass(frozen=True, slots=True)
class Family:
    """What a series is called, and where its values are."""

    name: str
    values: Callable[[Row], Values]
    labels: tuple[str, ...] = ()  # beyond ``LABELS``


def _plain(name: str, value: Callable[[Row], int]) -> Family:
    return Family(name, lambda row: [((), value(row))])


def _labelled(name: str, label: str, content: str, value: Callable[[Row], int]) -> Family:
    return Family(name, lambda row: [((content,), value(row))], (label,))


def _traffic(name: str, operation: str, field: str) -> Family:
    def values(row: Row) -> Values:
        return [((io.device,), getattr(io, field)) for io in row.details.block_io if io.operation == operation]

    return Family(name, values, ("device",))


def _on_disk(name: str, value: Callable[[Row], int]) -> Family:
    return Family(name, lambda row: [((row.filesystem.device,), value(row))], ("device",))


def _faults(row: Row) -> Values:
    yield ("pgfault", "container"), row.sample.page_faults
    yield ("pgmajfault", "container"), row.sample.major_page_faults


def _pressure(name: str, of: str, kind: str) -> Family:
    def values(row: Row) -> Values:
        pressure: Pressure | None = getattr(row.sample, of)
        if pressure is not None:  # else the kernel does not count it here
            stall: Stall = getattr(pressure, kind)
            yield (), stall.total_us // _US

    return Family(name, values)


def _huge(name: str, field: str) -> Family:
    def values(row: Row) -> Values:
        return [((each.page_size,), getattr(each, field)) for each in row.details.hugepages]

    return Family(name, values, ("pagesize",))


def _blocks(row: Row) -> Values:
    return [((io.device, io.operation.capitalize()), io.bytes) for io in row.details.block_io]


def _quota(row: Row) -> Values:
    quota = row.asked.cpu_quota
    return [((), quota)] if quota > 0 else []  # cAdvisor has none where there is none


CONTAINERS: Final = (
    Family("container_blkio_device_usage_total", _blocks, ("device", "operation")),
    _plain("container_cpu_cfs_periods_total", lambda row: row.details.periods),
    _plain(
        "container_cpu_cfs_throttled_periods_total",
        lambda row: row.details.throttled_periods,
    ),
    _plain(
        "container_cpu_cfs_throttled_seconds_total",
        lambda row: row.details.throttled_ns // _NS,
    ),
    _plain("container_cpu_system_seconds_total", lambda row: row.details.cpu_kernel_ns // _NS),
    _labelled(
        "container_cpu_usage_seconds_total",
        "cpu",
        "total",
        lambda row: row.sample.cpu_usage_ns // _NS,
    ),
    _plain("container_cpu_user_seconds_total", lambda row: row.details.cpu_user_ns // _NS),
    _plain("container_file_descriptors", lambda row: row.details.file_descriptors),
    _on_disk("container_fs_inodes_free", lambda row: row.filesystem.free_inodes),
    _on_disk("container_fs_inodes_total", lambda row: row.filesystem.inodes),
    _on_disk("container_fs_limit_bytes", lambda row: row.filesystem.size_bytes),
    _traffic("container_fs_reads_bytes_total", "read", "bytes"),
    _traffic("container_fs_reads_total", "read", "operations"),
    _on_disk("container_fs_usage_bytes", lambda row: row.sample.layer_bytes),
    _traffic("container_fs_writes_bytes_total", "write", "bytes"),
    _traffic("container_fs_writes_total", "write", "operations"),
    _huge("container_hugetlb_max_usage_bytes", "max_usage_bytes"),
    _huge("container_hugetlb_usage_bytes", "usage_bytes"),
    _plain("container_last_seen", lambda row: int(row.sample.read.timestamp())),
    _plain("container_memory_cache", lambda row: row.details.cache_bytes),
    _plain("container_memory_failcnt", lambda row: row.details.limit_hits),
    Family("container_memory_failures_total", _faults, ("failure_type", "scope")),
    _plain("container_memory_kernel_usage", lambda row: row.details.kernel_bytes),
    _plain("container_memory_mapped_file", lambda row: row.details.mapped_bytes),
    _plain("container_memory_max_usage_bytes", lambda row: row.details.max_usage_bytes),
    _plain("container_memory_rss", lambda row: row.sample.rss_bytes),
    _plain("container_memory_swap", lambda row: row.sample.swap_usage_bytes),
    _plain("container_memory_usage_bytes", lambda row: row.sample.memory_usage_bytes),
    _plain(
        "container_memory_working_set_bytes",
        lambda row: row.sample.working_set_bytes,
    ),
    _plain("container_oom_events_total", lambda row: row.details.oom_kills),
    _pressure("container_pressure_cpu_stalled_seconds_total", "cpu_pressure", "full"),
    _pressure("container_pressure_cpu_waiting_seconds_total", "cpu_pressure", "some"),
    _pressure("container_pressure_io_stalled_seconds_total", "io_pressure", "full"),
    _pressure("container_pressure_io_waiting_seconds_total", "io_pressure", "some"),
    _pressure("container_pressure_memory_stalled_seconds_total", "memory_pressure", "full"),
    _pressure("container_pressure_memory_waiting_seconds_total", "memory_pressure", "some"),
    _plain("container_processes", lambda row: row.details.processes),
    _plain("container_sockets", lambda row: row.details.sockets),
    _plain(
        "container_spec_cpu_period",
        lambda row: row.asked.cpu_period or _PERIOD,
    ),
    Family("container_spec_cpu_quota", _quota),
    _plain(
        "container_spec_cpu_shares",
        lambda row: row.asked.cpu_shares or _SHARES,
    ),
    _plain("container_spec_memory_limit_bytes", lambda row: row.sample.memory_limit_bytes),
    _plain("container_spec_memory_reservation_limit_bytes", lambda _: 0),  # kubelet has no words for it
    _plain("container_spec_memory_swap_limit_bytes", lambda row: row.sample.swap_limit_bytes),
    _plain("container_start_time_seconds", lambda row: row.started_ns // _NS),
    _plain("container_threads", lambda row: row.sample.pids),
    _plain("container_threads_max", lambda row: row.details.pids_limit),
    _labelled("container_ulimits_soft", "ulimit", "max_open_files", lambda row: row.details.open_files_limit),
)

# What a pod's cgroup says as well, with an empty name of a container, as cAdvisor has it.
_OF_PODS_TOO: Final = tuple(
    family
    for family in CONTAINERS
    if family.name.startswith(("container_cpu_", "container_hugetlb_", "container_memory_", "container_pressure_"))
    or family.name in ("container_oom_events_total", "container_processes", "container_threads")
)

_Count = Callable[[Counters], int]

PODS: Final[tuple[tuple[str, _Count], ...]] = (
    ("container_network_receive_bytes_total", lambda each: each.received_bytes),
    ("container_network_receive_errors_total", lambda each: each.received_errors),
    ("container_network_receive_packets_dropped_total", lambda each: each.received_dropped),
    ("container_network_receive_packets_total", lambda each: each.received_packets),
    ("container_network_transmit_bytes_total", lambda each: each.sent_bytes),
    ("container_network_transmit_errors_total", lambda each: each.sent_errors),
    ("container_network_transmit_packets_dropped_total", lambda each: each.sent_dropped),
    ("container_network_transmit_packets_total", lambda each: each.sent_packets),
)


def descriptors() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield every series' name, meaning and labels."""
    for family in CONTAINERS:
        yield family.name, MEANINGS[family.name], (*LABELS, *family.labels)
    for name, _ in PODS:
        yield name, MEANINGS[name], (*LABELS, "interface")


def of_pod(pod: PodUse) -> list[Metric]:
    """Return the values that a pod has of its own: those of its network, and of its cgroup."""
    said = pod.sandbox.config.metadata
    parent = pod.sandbox.config.linux.cgroup_parent or f"/{pod.sandbox.id}"
    labels = ("", parent, "", pod.sandbox.id, said.namespace, said.name)
    network = [
        Metric(name, is_counter(name), (*labels, each.interface), value(each))
        for name, value in PODS
        for each in pod.interfaces or ()
        if each.interface != LOOPBACK
    ]
    if pod.own is None or pod.own.details is None:
        return network
    return [*network, *_metrics(_OF_PODS_TOO, labels, Row(pod.own, pod.own.details))]


def of_container(pod: PodUse, row: Row) -> list[Metric]:
    """Return the values of one container of a pod."""
    record, said = row.record, pod.sandbox.config.metadata
    assert record is not None
    labels = (
        record.config.metadata.name,
        row.details.cgroup_path,
        record.image.name,
        record.id,
        said.namespace,
        said.name,
    )
    return _metrics(CONTAINERS, labels, row)


def _metrics(families: Iterable[Family], labels: tuple[str, ...], row: Row) -> list[Metric]:
    return [
        Metric(family.name, is_counter(family.name), (*labels, *extra), value)
        for family in families
        for extra, value in family.values(row)
    ]


def rows(pod: PodUse, started_ns: Mapping[str, int], filesystem: Filesystem) -> Sequence[Row]:
    """Return the containers of a pod that were read with details."""
    return [
        Row(use.sample, use.sample.details, use.record, started_ns.get(use.record.id, 0), filesystem)
        for use in pod.containers
        if use.sample is not None and use.sample.details is not None
    ]


def filesystem_of(directory: Path) -> Filesystem:
    """Return the file system of a directory; blocks."""
    found, device = os.statvfs(directory), directory.stat().st_dev
    try:
        text = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/uevent").read_text()
        fields = dict(line.partition("=")[::2] for line in text.splitlines())
        name = f"/dev/{fields['DEVNAME']}"
    except (OSError, KeyError):
        name = f"{os.major(device)}:{os.minor(device)}"  # of a file system without a disk
    return Filesystem(name, found.f_blocks * found.f_frsize, found.f_files, found.f_ffree)
