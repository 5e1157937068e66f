"""Usage from version 2 of cgroups: one directory for everything."""

from runtimed.cgroups.files import number, table, text
from runtimed.cgroups.usage import BlockIo, CpuUsage, MemoryUsage

_NS_PER_US = 1000


def cpu_usage(directory: str) -> CpuUsage:
    """Read ``cpu.stat``."""
    stat = table(f"{directory}/cpu.stat")
    return CpuUsage(
        usage_ns=stat.get("usage_usec", 0) * _NS_PER_US,
        user_ns=stat.get("user_usec", 0) * _NS_PER_US,
        kernel_ns=stat.get("system_usec", 0) * _NS_PER_US,
        periods=stat.get("nr_periods", 0),
        throttled_periods=stat.get("nr_throttled", 0),
        throttled_ns=stat.get("throttled_usec", 0) * _NS_PER_US,
    )


def memory_usage(directory: str) -> MemoryUsage:
    """Read ``memory.*``; the root has only ``memory.stat``."""
    stats = table(f"{directory}/memory.stat")
    events = table(f"{directory}/memory.events")
    return MemoryUsage(
        usage_bytes=number(f"{directory}/memory.current"),
        max_usage_bytes=number(f"{directory}/memory.peak"),  # since Linux 5.19
        limit_bytes=number(f"{directory}/memory.max"),
        failures=events.get("max", 0),
        oom_kills=events.get("oom_kill", 0),
        rss_bytes=stats.get("anon", 0),
        cache_bytes=stats.get("file", 0),
        swap_bytes=number(f"{directory}/memory.swap.current"),
        mapped_bytes=stats.get("file_mapped", 0),
        inactive_file_bytes=stats.get("inactive_file", 0),
        stats=stats,
    )


def block_io(directory: str) -> tuple[BlockIo, ...]:
    """Read ``io.stat``: ``8:0 rbytes=1 wbytes=2 rios=3 wios=4 …``."""
    rows = []
    for line in text(f"{directory}/io.stat").splitlines():
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        counts = {name: int(value) for name, _, value in (pair.partition("=") for pair in pairs) if value.isdigit()}
        for operation, letter in (("read", "r"), ("write", "w")):
            rows.append(
                BlockIo(
                    int(major), int(minor), operation, counts.get(f"{letter}bytes", 0), counts.get(f"{letter}ios", 0)
                )
            )
    return tuple(rows)
