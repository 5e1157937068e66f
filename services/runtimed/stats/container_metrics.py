"""Containers for Prometheus, under cAdvisor's names and labels, so that dashboards made for it work unchanged.

``id`` is the cgroup's path; ``id="/"`` is the whole host. What cAdvisor leaves out, stopped containers above all, is
in ``sampan_container_…``.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import Metric
from prometheus_client.registry import Collector

from runtimed.cgroups.files import text
from runtimed.cgroups.reader import CgroupReader
from runtimed.cgroups.usage import MemoryUsage, Usage
from runtimed.host.facts import HostFacts
from runtimed.stats.netdev import Interface, read_interfaces
from sampan.resource.container import Container, Status

_S_PER_NS: Final = 1e-9
_NOT_IN_A_LABEL: Final = re.compile(r"[^a-zA-Z0-9_]")
_UP: Final = frozenset((Status.RUNNING, Status.PAUSED))

Labels = Mapping[str, str]
Value = Callable[["_Row"], float | None]  # None: the row has none


@dataclass(frozen=True, slots=True)
class _Row:
    """One cgroup with everything that was read of it at one time."""

    labels: Labels
    usage: Usage
    interfaces: tuple[Interface, ...] = ()
    processes: int = 0
    container: Container | None = None  # None: the host


@dataclass(frozen=True, slots=True)
class _Series:
    """A metric with one value per row. Names that Prometheus' own rules forbid a counter are gauges here."""

    name: str
    help: str
    type: str
    value: Value
    extra: tuple[tuple[str, str], ...] = ()


_PLAIN: Final = (
    _Series(
        "container_cpu_usage_seconds_total",
        "CPU time used.",
        "counter",
        lambda row: row.usage.cpu.usage_ns * _S_PER_NS,
        (("cpu", "total"),),
    ),
    _Series(
        "container_cpu_user_seconds_total",
        "CPU time used in user space.",
        "counter",
        lambda row: row.usage.cpu.user_ns * _S_PER_NS,
    ),
    _Series(
        "container_cpu_system_seconds_total",
        "CPU time used in the kernel.",
        "counter",
        lambda row: row.usage.cpu.kernel_ns * _S_PER_NS,
    ),
    _Series(
        "container_cpu_cfs_periods_total",
        "Periods of the CPU quota.",
        "counter",
        lambda row: row.usage.cpu.periods,
    ),
    _Series(
        "container_cpu_cfs_throttled_periods_total",
        "Periods in which the CPU quota was used up.",
        "counter",
        lambda row: row.usage.cpu.throttled_periods,
    ),
    _Series(
        "container_cpu_cfs_throttled_seconds_total",
        "Time spent waiting for CPU quota.",
        "counter",
        lambda row: row.usage.cpu.throttled_ns * _S_PER_NS,
    ),
    _Series(
        "container_memory_usage_bytes",
        "Memory in use, page cache included.",
        "gauge",
        lambda row: row.usage.memory.usage_bytes,
    ),
    _Series(
        "container_memory_working_set_bytes",
        "Memory in use without inactive page cache.",
        "gauge",
        lambda row: row.usage.memory.working_set_bytes,
    ),
    _Series("container_memory_rss", "Anonymous memory.", "gauge", lambda row: row.usage.memory.rss_bytes),
    _Series("container_memory_cache", "Page cache.", "gauge", lambda row: row.usage.memory.cache_bytes),
    _Series("container_memory_swap", "Swap in use.", "gauge", lambda row: row.usage.memory.swap_bytes),
    _Series("container_memory_mapped_file", "Mapped files.", "gauge", lambda row: row.usage.memory.mapped_bytes),
    _Series(
        "container_memory_max_usage_bytes",
        "The most memory that was in use at a time.",
        "gauge",
        lambda row: row.usage.memory.max_usage_bytes,
    ),
    _Series(
        "container_memory_failcnt",
        "How often the memory limit was hit.",
        "gauge",
        lambda row: row.usage.memory.failures,
    ),
    _Series(
        "container_oom_events_total",
        "Processes that were killed for want of memory.",
        "counter",
        lambda row: row.usage.memory.oom_kills,
    ),
    _Series(
        "container_spec_memory_limit_bytes",
        "Memory limit, 0 for none.",
        "gauge",
        lambda row: row.usage.memory.limit_bytes,
    ),
    _Series("container_processes", "Processes.", "gauge", lambda row: row.processes),
    _Series("container_threads", "Threads.", "gauge", lambda row: row.usage.pids),
    _Series("container_threads_max", "Limit of threads, 0 for none.", "gauge", lambda row: row.usage.pids_limit),
    _Series("container_last_seen", "When the container was last seen.", "gauge", lambda _: float(int(time.time()))),
)

_OF_CONTAINERS: Final = (
    _Series(
        "container_spec_cpu_shares",
        "CPU shares.",
        "gauge",
        lambda row: (row.container.spec.resources.cpu_shares if row.container else 0) or 1024,
    ),
    _Series(
        "container_spec_cpu_period", "Period of the CPU quota in microseconds.", "gauge", lambda row: _quota(row)[0]
    ),
    _Series("container_spec_cpu_quota", "CPU quota in microseconds.", "gauge", lambda row: _quota(row)[1]),
    _Series("container_start_time_seconds", "When the container was started.", "gauge", lambda row: _started(row)),
)

_NETWORK: Final[tuple[tuple[str, str, Callable[[Interface], int]], ...]] = (
    ("container_network_receive_bytes_total", "Bytes received.", lambda i: i.rx_bytes),
    ("container_network_receive_packets_total", "Packets received.", lambda i: i.rx_packets),
    ("container_network_receive_errors_total", "Errors while receiving.", lambda i: i.rx_errors),
    ("container_network_receive_packets_dropped_total", "Packets received and dropped.", lambda i: i.rx_dropped),
    ("container_network_transmit_bytes_total", "Bytes sent.", lambda i: i.tx_bytes),
    ("container_network_transmit_packets_total", "Packets sent.", lambda i: i.tx_packets),
    ("container_network_transmit_errors_total", "Errors while sending.", lambda i: i.tx_errors),
    ("container_network_transmit_packets_dropped_total", "Packets dropped while sending.", lambda i: i.tx_dropped),
)

_DISK: Final = (
    ("container_fs_reads_bytes_total", "Bytes read from a block device.", "read", "bytes"),
    ("container_fs_writes_bytes_total", "Bytes written to a block device.", "write", "bytes"),
    ("container_fs_reads_total", "Reads from a block device.", "read", "operations"),
    ("container_fs_writes_total", "Writes to a block device.", "write", "operations"),
)


class ContainerCollector(Collector):
    """Reads every cgroup anew for each scrape; keeps nothing, and so may serve several threads at once.

    ``snapshot`` returns all containers, running or not. It is called from the exposition's threads.
    """

    def __init__(self, snapshot: Callable[[], Sequence[Container]], reader: CgroupReader, host: HostFacts) -> None:
        self._snapshot = snapshot
        self._reader = reader
        self._host = host
        self._devices: dict[tuple[int, int], str] = {}

    def describe(self) -> Iterable[Metric]:
        """Name nothing: reading all cgroups just to register would be waste, and no name is anyone else's."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield all families. A container that vanishes meanwhile is left out or has its last values."""
        containers = self._snapshot()
        names = _label_names(containers)
        rows = [self._host_row(names)]
        rows += [row for container in containers if (row := self._row(container, names)) is not None]
        for series in _PLAIN:
            yield _family(series, rows)
        running = rows[1:]
        for series in _OF_CONTAINERS:
            yield _family(series, running)
        yield from _network_families(rows)
        yield from self._disk_families(running)
        yield from _state_families(containers, names)
        yield _machine("machine_cpu_cores", "Processors of the host.", self._host.cpus)
        yield _machine("machine_memory_bytes", "Memory of the host.", self._host.memory_bytes)

    def _row(self, container: Container, names: Mapping[str, str]) -> _Row | None:
        if container.state.status not in _UP:
            return None
        usage = self._reader.read(container.cgroup_path)
        if usage is None:
            return None
        shares_host = container.spec.namespaces.network == "host"
        interfaces = () if shares_host else read_interfaces(container.state.pid)
        processes = len(self._reader.processes(container.cgroup_path))
        return _Row(_labels(container, names), usage, interfaces, processes, container)

    def _host_row(self, names: Mapping[str, str]) -> _Row:
        usage = self._reader.read("/") or Usage()
        if usage.memory.usage_bytes == 0:  # the root of version 2 does not say
            usage = Usage(usage.cpu, _host_memory(), usage.pids, 0, usage.block_io)
        labels = {"id": "/", "name": "", "image": "", **dict.fromkeys(names.values(), "")}
        pids = sum(1 for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208  # names are enough
        return _Row(labels, usage, read_interfaces(1), pids)

    def _disk_families(self, rows: Sequence[_Row]) -> Iterator[Metric]:
        for name, meaning, operation, field in _DISK:
            metric = Metric(name.removesuffix("_total"), meaning, "counter")
            for row in rows:
                for io in row.usage.block_io:
                    if io.operation == operation:
                        labels = {**row.labels, "device": self._device(io.major, io.minor)}
                        metric.add_sample(name, labels, float(io.bytes if field == "bytes" else io.operations))
            yield metric

    def _device(self, major: int, minor: int) -> str:
        name = self._devices.get((major, minor))
        if name is None:
            fields = dict(
                line.partition("=")[::2] for line in text(f"/sys/dev/block/{major}:{minor}/uevent").splitlines()
            )
            name = f"/dev/{fields['DEVNAME']}" if "DEVNAME" in fields else f"{major}:{minor}"
            self._devices[major, minor] = name
        return name


def _family(series: _Series, rows: Iterable[_Row]) -> Metric:
    # The exposition puts the suffix of a counter's samples back on its family's name.
    metric = Metric(
        series.name.removesuffix("_total") if series.type == "counter" else series.name, series.help, series.type
    )
    for row in rows:
        value = series.value(row)
        if value is not None:
            metric.add_sample(series.name, {**row.labels, **dict(series.extra)}, float(value))
    return metric


def _network_families(rows: Sequence[_Row]) -> Iterator[Metric]:
    for name, meaning, value in _NETWORK:
        metric = Metric(name.removesuffix("_total"), meaning, "counter")
        for row in rows:
            for interface in row.interfaces:
                metric.add_sample(name, {**row.labels, "interface": interface.name}, float(value(interface)))
        yield metric


def _state_families(containers: Sequence[Container], names: Mapping[str, str]) -> Iterator[Metric]:
    """What became of every container, running or not."""
    state = Metric("sampan_container_state", "1 for the state that the container is in.", "gauge")
    code = Metric("sampan_container_exit_code", "Exit code of the last run.", "gauge")
    finished = Metric("sampan_container_finished_time_seconds", "When the last run ended.", "gauge")
    killed = Metric("sampan_container_oom_killed", "1 if the last run ended for want of memory.", "gauge")
    restarts = Metric("sampan_container_policy_restarts", "Restarts by the restart policy so far.", "gauge")
    for container in containers:
        labels = _labels(container, names)
        now = container.state
        state.add_sample(state.name, {**labels, "state": now.status.value}, 1.0)
        restarts.add_sample(restarts.name, labels, float(container.restart_count))
        if now.status not in _UP and now.finished_at is not None:
            code.add_sample(code.name, labels, float(now.exit_code))
            finished.add_sample(finished.name, labels, now.finished_at.timestamp())
            killed.add_sample(killed.name, labels, float(now.oom_killed))
    yield from (state, code, finished, killed, restarts)


def _machine(name: str, help: str, value: float) -> Metric:
    metric = Metric(name, help, "gauge")
    metric.add_sample(name, {}, float(value))
    return metric


def _label_names(containers: Iterable[Container]) -> dict[str, str]:
    """Return the labels of all containers with their names here: all samples of a family have the same ones."""
    names = sorted({name for container in containers for name in container.spec.labels})
    return {name: f"container_label_{_NOT_IN_A_LABEL.sub('_', name)}" for name in names}


def _labels(container: Container, names: Mapping[str, str]) -> dict[str, str]:
    labels = {"id": container.cgroup_path, "name": container.name, "image": container.spec.image}
    labels |= dict.fromkeys(names.values(), "")
    for name, value in container.spec.labels.items():
        if name in names:
            labels[names[name]] = value
    return labels


def _quota(row: _Row) -> tuple[int | None, int | None]:
    resources = row.container.spec.resources if row.container else None
    if resources is None or not (resources.nano_cpus or resources.cpu_quota_us > 0):
        return None, None
    period = resources.cpu_period_us or 100_000
    if resources.nano_cpus:
        return period, resources.nano_cpus * period // 1_000_000_000
    return period, resources.cpu_quota_us


def _started(row: _Row) -> float:
    started = row.container.state.started_at if row.container else None
    return started.timestamp() if started else 0.0


def _host_memory() -> MemoryUsage:
    rows = {
        name.strip(): int(value.split()[0]) * 1024
        for name, _, value in (line.partition(":") for line in text("/proc/meminfo").splitlines())
        if value.split()
    }
    return MemoryUsage(
        usage_bytes=rows.get("MemTotal", 0) - rows.get("MemFree", 0),
        rss_bytes=rows.get("AnonPages", 0),
        cache_bytes=rows.get("Cached", 0),
        swap_bytes=rows.get("SwapTotal", 0) - rows.get("SwapFree", 0),
        mapped_bytes=rows.get("Mapped", 0),
        inactive_file_bytes=rows.get("Inactive(file)", 0),
    )
