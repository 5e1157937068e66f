"""Containers for Prometheus, under cAdvisor's names and labels, so that dashboards made for it work unchanged.

``id`` is the cgroup's path; ``id="/"`` is the whole host. What cAdvisor leaves out, stopped containers above all, is
in ``sampan_container_…``.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from runtimed.cgroups.reader import CgroupReader
from runtimed.cgroups.usage import MemoryUsage, Usage, text
from runtimed.host.facts import HostFacts
from runtimed.stats.container_labels import ContainerLabels, LeftOut
from runtimed.stats.details import DeviceNames
from runtimed.stats.machine_series import machine_families
from runtimed.stats.sampling import Interface, read_interfaces
from sampan.metrics.cadvisor import cadvisor_family
from sampan.metrics.text import family_text, label_text
from sampan.resource.container import Container, Status

_S_PER_NS: Final = 1e-9
_UP: Final = frozenset((Status.RUNNING, Status.PAUSED))

Value = Callable[["_Row"], float | None]  # None: the row has none


@dataclass(frozen=True, slots=True)
class _Row:
    """One cgroup with everything that was read of it at one time."""

    labels: str  # as the exposition writes them
    usage: Usage
    interfaces: tuple[Interface, ...] = ()
    processes: int = 0
    container: Container | None = None  # None: the host


@dataclass(frozen=True, slots=True)
class _Series:
    """A metric with one value per row."""

    name: str
    value: Value
    extra: str = ""  # a further label


_PLAIN: Final = (
    _Series(
        "container_cpu_usage_seconds_total",
        lambda row: row.usage.cpu.usage_ns * _S_PER_NS,
        'cpu="total"',
    ),
    _Series(
        "container_cpu_user_seconds_total",
        lambda row: row.usage.cpu.user_ns * _S_PER_NS,
    ),
    _Series(
        "container_cpu_system_seconds_total",
        lambda row: row.usage.cpu.kernel_ns * _S_PER_NS,
    ),
    _Series(
        "container_cpu_cfs_periods_total",
        lambda row: row.usage.cpu.periods,
    ),
    _Series(
        "container_cpu_cfs_throttled_periods_total",
        lambda row: row.usage.cpu.throttled_periods,
    ),
    _Series(
        "container_cpu_cfs_throttled_seconds_total",
        lambda row: row.usage.cpu.throttled_ns * _S_PER_NS,
    ),
    _Series(
        "container_memory_usage_bytes",
        lambda row: row.usage.memory.usage_bytes,
    ),
    _Series(
        "container_memory_working_set_bytes",
        lambda row: row.usage.memory.working_set_bytes,
    ),
    _Series("container_memory_rss", lambda row: row.usage.memory.rss_bytes),
    _Series("container_memory_cache", lambda row: row.usage.memory.cache_bytes),
    _Series("container_memory_swap", lambda row: row.usage.memory.swap_bytes),
    _Series("container_memory_mapped_file", lambda row: row.usage.memory.mapped_bytes),
    _Series(
        "container_memory_max_usage_bytes",
        lambda row: row.usage.memory.max_usage_bytes,
    ),
    _Series(
        "container_memory_failcnt",
        lambda row: row.usage.memory.failures,
    ),
    _Series(
        "container_oom_events_total",
        lambda row: row.usage.memory.oom_kills,
    ),
    _Series(
        "container_spec_memory_limit_bytes",
        lambda row: row.usage.memory.limit_bytes,
    ),
    _Series(
        "container_spec_memory_reservation_limit_bytes",
        lambda row: row.container.spec.resources.memory_reservation_bytes if row.container else 0,
    ),
    _Series("container_processes", lambda row: row.processes),
    _Series("container_threads", lambda row: row.usage.pids),
    _Series("container_threads_max", lambda row: row.usage.pids_limit),
    _Series("container_last_seen", lambda _: float(int(time.time()))),
)

_OF_CONTAINERS: Final = (
    _Series(
        "container_spec_cpu_shares",
        lambda row: (row.container.spec.resources.cpu_shares if row.container else 0) or 1024,
    ),
    _Series("container_spec_cpu_period", lambda row: _quota(row)[0]),
    _Series("container_spec_cpu_quota", lambda row: _quota(row)[1]),
    _Series("container_start_time_seconds", lambda row: _started(row)),
)

_NETWORK: Final[tuple[tuple[str, Callable[[Interface], int]], ...]] = (
    ("container_network_receive_bytes_total", lambda i: i.rx_bytes),
    ("container_network_receive_packets_total", lambda i: i.rx_packets),
    ("container_network_receive_errors_total", lambda i: i.rx_errors),
    ("container_network_receive_packets_dropped_total", lambda i: i.rx_dropped),
    ("container_network_transmit_bytes_total", lambda i: i.tx_bytes),
    ("container_network_transmit_packets_total", lambda i: i.tx_packets),
    ("container_network_transmit_errors_total", lambda i: i.tx_errors),
    ("container_network_transmit_packets_dropped_total", lambda i: i.tx_dropped),
)

_DISK: Final = (
    ("container_fs_reads_bytes_total", "read", "bytes"),
    ("container_fs_writes_bytes_total", "write", "bytes"),
    ("container_fs_reads_total", "read", "operations"),
    ("container_fs_writes_total", "write", "operations"),
)


class ContainerSeries:
    """Reads every cgroup anew for each scrape; keeps nothing, and so may serve several threads at once.

    ``snapshot`` returns all containers, running or not. It is called from the exposition's threads.
    """

    def __init__(
        self,
        snapshot: Callable[[], Sequence[Container]],
        reader: CgroupReader,
        host: HostFacts,
        labels: ContainerLabels | None = None,
        disks: Sequence[Path] = (),
    ) -> None:
        """``disks`` are paths whose file systems the host's row tells of."""
        self._snapshot = snapshot
        self._reader = reader
        self._host = host
        self._labels = labels or ContainerLabels()
        self._disks = tuple(disks)
        self._device = DeviceNames().of

    def render(self) -> Iterator[str]:
        """Yield the families, one after the other, in the text format of Prometheus.

        A container that vanishes meanwhile is left out or has its last values.
        """
        containers = self._snapshot()
        choice = self._labels.among(containers)
        rows = [self._host_row(choice)]
        rows += [row for container in containers if (row := self._row(container, choice)) is not None]
        for series in _PLAIN:
            yield _family(series, rows)
        running = rows[1:]
        yield _failure_family(rows)
        for series in _OF_CONTAINERS:
            yield _family(series, running)
        yield from _network_families(rows)
        yield from self._disk_families(running)
        yield from _state_families(containers, choice)
        yield from _info_families(containers, choice)
        yield from machine_families(self._host, self._disks, rows[0].labels, self._device)

    def _row(self, container: Container, labels: ContainerLabels) -> _Row | None:
        if container.state.status not in _UP:
            return None
        usage = self._reader.read(container.cgroup_path)
        if usage is None:
            return None
        shares_host = container.spec.namespaces.network == "host"
        interfaces = () if shares_host else read_interfaces(container.state.pid)
        processes = len(self._reader.processes(container.cgroup_path))
        return _Row(labels.of_series(container), usage, interfaces, processes, container)

    def _host_row(self, labels: ContainerLabels) -> _Row:
        usage = self._reader.read("/") or Usage()
        if usage.memory.usage_bytes == 0:  # the root of version 2 does not say
            usage = Usage(usage.cpu, _host_memory(), usage.pids, 0, usage.block_io)
        pids = sum(1 for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208  # names are enough
        return _Row(labels.of_host(), usage, read_interfaces(1), pids)

    def _disk_families(self, rows: Sequence[_Row]) -> Iterator[str]:
        for name, operation, field in _DISK:
            yield cadvisor_family(
                name,
                (
                    (f'{row.labels},device="{self._device(io.major, io.minor)}"', getattr(io, field))
                    for row in rows
                    for io in row.usage.block_io
                    if io.operation == operation
                ),
            )


def _family(series: _Series, rows: Iterable[_Row]) -> str:
    values = ((row.labels, series.value(row)) for row in rows)
    extra = f",{series.extra}" if series.extra else ""
    samples = ((f"{labels}{extra}", value) for labels, value in values if value is not None)
    return cadvisor_family(series.name, samples)


def _failure_family(rows: Sequence[_Row]) -> str:
    return cadvisor_family(
        "container_memory_failures_total",
        (
            (f'{row.labels},failure_type="{kind}",scope="container"', row.usage.memory.stats.get(kind, 0))
            for row in rows
            for kind in ("pgfault", "pgmajfault")
        ),
    )


def _network_families(rows: Sequence[_Row]) -> Iterator[str]:
    for name, value in _NETWORK:
        yield cadvisor_family(
            name,
            (
                (f"{row.labels},{label_text({'interface': interface.name})}", value(interface))
                for row in rows
                for interface in row.interfaces
            ),
        )


def _state_families(containers: Sequence[Container], labels: ContainerLabels) -> Iterator[str]:
    """What became of every container, running or not."""
    every = [(labels.of_series(container), container) for container in containers]
    ended = [(text, c) for text, c in every if c.state.status not in _UP and c.state.finished_at is not None]
    yield family_text(
        "sampan_container_state",
        "1 for the state that the container is in.",
        "gauge",
        ((f'{text},state="{c.state.status.value}"', 1) for text, c in every),
    )
    yield family_text(
        "sampan_container_health",
        "1 for what the health check of the container says, if it has one.",
        "gauge",
        (
            (f'{text},health="{c.state.health.status.value}"', 1)
            for text, c in every
            if c.state.health is not None and c.state.status in _UP
        ),
    )
    for name, meaning, rows, value in (
        ("sampan_container_exit_code", "Exit code of the last run.", ended, lambda c: c.state.exit_code),
        ("sampan_container_finished_time_seconds", "When the last run ended.", ended, _finished),
        ("sampan_container_oom_killed", "1 if the last run ended for want of memory.", ended, _oom_killed),
        ("sampan_container_policy_restarts", "Restarts by the policy so far.", every, lambda c: c.restart_count),
    ):
        yield family_text(name, meaning, "gauge", ((text, value(c)) for text, c in rows))


def _info_families(containers: Sequence[Container], labels: ContainerLabels) -> Iterator[str]:
    left_out = LeftOut()
    yield family_text(
        "sampan_container_info",
        "1 for every container, with its labels: join them on id.",
        "gauge",
        ((text, 1) for text in labels.info(containers, left_out)),
    )
    yield family_text(
        "sampan_container_labels_left_out",
        "Labels that this answer does not tell, by the bound that they are beyond.",
        "gauge",
        ((f'reason="{reason}"', count) for reason, count in asdict(left_out).items()),
    )


def _finished(container: Container) -> float:
    return container.state.finished_at.timestamp() if container.state.finished_at else 0.0


def _oom_killed(container: Container) -> float:
    return float(container.state.oom_killed)


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
