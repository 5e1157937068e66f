"""Usage from version 1 of cgroups: one directory per controller."""

from typing import Final

from runtimed.cgroups.files import number, table, text
from runtimed.cgroups.usage import UNLIMITED, BlockIo, CpuUsage, MemoryUsage

_OPERATIONS: Final = {"Read": "read", "Write": "write"}


def cpu_usage(cpuacct: str, cpu: str) -> CpuUsage:
    """Read ``cpuacct`` and ``cpu``, which may be one directory."""
    bandwidth = table(f"{cpu}/cpu.stat")
    return CpuUsage(
        usage_ns=number(f"{cpuacct}/cpuacct.usage"),
        user_ns=number(f"{cpuacct}/cpuacct.usage_user"),
        kernel_ns=number(f"{cpuacct}/cpuacct.usage_sys"),
        periods=bandwidth.get("nr_periods", 0),
        throttled_periods=bandwidth.get("nr_throttled", 0),
        throttled_ns=bandwidth.get("throttled_time", 0),
    )


def memory_usage(directory: str) -> MemoryUsage:
    """Read ``memory``; everything includes the cgroups below."""
    stats = table(f"{directory}/memory.stat")
    limit = number(f"{directory}/memory.limit_in_bytes")
    return MemoryUsage(
        usage_bytes=number(f"{directory}/memory.usage_in_bytes"),
        max_usage_bytes=number(f"{directory}/memory.max_usage_in_bytes"),
        limit_bytes=0 if limit >= UNLIMITED else limit,
        failures=number(f"{directory}/memory.failcnt"),
        oom_kills=table(f"{directory}/memory.oom_control").get("oom_kill", 0),
        rss_bytes=stats.get("total_rss", 0),
        cache_bytes=stats.get("total_cache", 0),
        swap_bytes=stats.get("total_swap", 0),
        mapped_bytes=stats.get("total_mapped_file", 0),
        inactive_file_bytes=stats.get("total_inactive_file", 0),
        stats=stats,
    )


def block_io(directory: str) -> tuple[BlockIo, ...]:
    """Read ``blkio``: the throttling layer's counts, which are there for every I/O scheduler."""
    sizes = _by_device(text(f"{directory}/blkio.throttle.io_service_bytes_recursive"))
    counts = _by_device(text(f"{directory}/blkio.throttle.io_serviced_recursive"))
    return tuple(
        BlockIo(*key, bytes=sizes.get(key, 0), operations=counts.get(key, 0)) for key in sorted({*sizes, *counts})
    )


def _by_device(content: str) -> dict[tuple[int, int, str], int]:
    rows = {}
    for line in content.splitlines():
        fields = line.split()  # 8:0 Read 4096
        if len(fields) == 3 and fields[1] in _OPERATIONS:
            major, _, minor = fields[0].partition(":")
            rows[int(major), int(minor), _OPERATIONS[fields[1]]] = int(fields[2])
    return rows
