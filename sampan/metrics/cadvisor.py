"""cAdvisor's series of containers: what each means, once for all who tell of containers by its names.

Reference: google/cadvisor, ``docs/storage/prometheus.md``.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from sampan.metrics.text import family_text

MEANINGS: Final[Mapping[str, str]] = {
    "container_blkio_device_usage_total": "Bytes to and from devices.",
    "container_cpu_cfs_periods_total": "Periods of the CPU quota.",
    "container_cpu_cfs_throttled_periods_total": "Periods in which the CPU quota was used up.",
    "container_cpu_cfs_throttled_seconds_total": "Time spent waiting for CPU quota.",
    "container_cpu_system_seconds_total": "CPU time used in the kernel.",
    "container_cpu_usage_seconds_total": "CPU time used.",
    "container_cpu_user_seconds_total": "CPU time used in user space.",
    "container_file_descriptors": "Open descriptors.",
    "container_fs_inodes_free": "Inodes of the file system that are free.",
    "container_fs_inodes_total": "Inodes of the file system.",
    "container_fs_limit_bytes": "Size of the file system.",
    "container_fs_reads_bytes_total": "Bytes read from a block device.",
    "container_fs_reads_total": "Reads from a block device.",
    "container_fs_usage_bytes": "Bytes in use: of the file system, or by what the container has written.",
    "container_fs_writes_bytes_total": "Bytes written to a block device.",
    "container_fs_writes_total": "Writes to a block device.",
    "container_hugetlb_max_usage_bytes": "The most huge pages that were in use at a time.",
    "container_hugetlb_usage_bytes": "Huge pages in use.",
    "container_last_seen": "When the container was last seen.",
    "container_memory_cache": "Page cache.",
    "container_memory_failcnt": "How often the memory limit was hit.",
    "container_memory_failures_total": "Page faults; major ones had to read from a disk.",
    "container_memory_kernel_usage": "Kernel memory.",
    "container_memory_mapped_file": "Mapped files.",
    "container_memory_max_usage_bytes": "The most memory that was in use at a time.",
    "container_memory_rss": "Anonymous memory.",
    "container_memory_swap": "Swap in use.",
    "container_memory_usage_bytes": "Memory in use, page cache included.",
    "container_memory_working_set_bytes": "Memory in use without inactive page cache.",
    "container_network_receive_bytes_total": "Bytes received.",
    "container_network_receive_errors_total": "Errors while receiving.",
    "container_network_receive_packets_dropped_total": "Packets received and dropped.",
    "container_network_receive_packets_total": "Packets received.",
    "container_network_transmit_bytes_total": "Bytes sent.",
    "container_network_transmit_errors_total": "Errors while sending.",
    "container_network_transmit_packets_dropped_total": "Packets dropped while sending.",
    "container_network_transmit_packets_total": "Packets sent.",
    "container_oom_events_total": "Processes that were killed for want of memory.",
    "container_pressure_cpu_stalled_seconds_total": "Time for which all processes waited for a CPU.",
    "container_pressure_cpu_waiting_seconds_total": "Time for which processes waited for a CPU.",
    "container_pressure_io_stalled_seconds_total": "Time for which all processes waited for I/O.",
    "container_pressure_io_waiting_seconds_total": "Time for which processes waited for I/O.",
    "container_pressure_memory_stalled_seconds_total": "Time for which all processes waited for memory.",
    "container_pressure_memory_waiting_seconds_total": "Time for which processes waited for memory.",
    "container_processes": "Processes.",
    "container_sockets": "Open sockets.",
    "container_spec_cpu_period": "Period of the CPU quota in microseconds.",
    "container_spec_cpu_quota": "CPU quota in microseconds.",
    "container_spec_cpu_shares": "CPU shares.",
    "container_spec_memory_limit_bytes": "Memory limit, 0 for none.",
    "container_spec_memory_reservation_limit_bytes": "Memory reservation, 0 for none.",
    "container_spec_memory_swap_limit_bytes": "Swap limit, 0 for none.",
    "container_start_time_seconds": "When the container was started.",
    "container_threads": "Threads.",
    "container_threads_max": "Limit of threads, 0 for none.",
    "container_ulimits_soft": "Soft limits of the first process, 0 for none.",
}

# What only grows is a counter; the number of a file system's inodes has a counter's name alone.
_COUNTERS: Final = frozenset(name for name in MEANINGS if name.endswith("_total")) - {"container_fs_inodes_total"}


def is_counter(name: str) -> bool:
    """Whether a series only grows. Counters without ``_total`` are gauges, as Prometheus' own rules forbid the name."""
    return name in _COUNTERS


def cadvisor_family(name: str, samples: Iterable[tuple[str, float]]) -> str:
    """Return one of these families as ``text.family_text`` does. KeyError: it is none of them."""
    return family_text(name, MEANINGS[name], "counter" if is_counter(name) else "gauge", samples)
