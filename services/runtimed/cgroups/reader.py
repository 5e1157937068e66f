"""Read what a container's cgroup uses, from whatever trees the host has; on a hybrid host from several.

Version 1 has one directory for each controller, version 2 one for everything.
"""

import os
from collections.abc import Sequence
from typing import Final

from runtimed.cgroups.usage import (
    UNLIMITED,
    BlockIo,
    BriefUsage,
    CpuUsage,
    MemoryUsage,
    Usage,
    number,
    pressure,
    table,
    text,
    words,
)
from runtimed.host.facts import CgroupTree
from sampan.resource.stats import HugepageUse, Pressure

_NS_PER_US = 1000
_HUGETLB: Final = "hugetlb."


def cpu_usage_v2(directory: str) -> CpuUsage:
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


def memory_usage_v2(directory: str) -> MemoryUsage:
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
        kernel_bytes=stats.get("kernel", 0),  # since Linux 5.18
        inactive_file_bytes=stats.get("inactive_file", 0),
        stats=stats,
    )


def block_io_v2(directory: str) -> tuple[BlockIo, ...]:
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


_OPERATIONS: Final = {"Read": "read", "Write": "write"}


def cpu_usage_v1(cpuacct: str, cpu: str) -> CpuUsage:
    """Read ``cpuacct`` and ``cpu``, which may be one directory."""
    bandwidth = table(f"{cpu}/cpu.stat")
    return CpuUsage(
        usage_ns=number(f"{cpuacct}/cpuacct.usage"),
        user_ns=number(f"{cpuacct}/cpuacct.usage_user"),
        kernel_ns=number(f"{cpuacct}/cpuacct.usage_sys"),
        periods=bandwidth.get("nr_periods", 0),
        throttled_periods=bandwidth.get("nr_throttled", 0),
        throttled_ns=bandwidth.get("throttled_time", 0),
        percpu_ns=tuple(int(each) for each in text(f"{cpuacct}/cpuacct.usage_percpu").split()),
    )


def memory_usage_v1(directory: str) -> MemoryUsage:
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
        kernel_bytes=number(f"{directory}/memory.kmem.usage_in_bytes"),
        inactive_file_bytes=stats.get("total_inactive_file", 0),
        stats=stats,
    )


def block_io_v1(directory: str) -> tuple[BlockIo, ...]:
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


def hugepages_v1(directory: str) -> tuple[HugepageUse, ...]:
    """Read ``hugetlb.<size>.*``."""
    return tuple(
        HugepageUse(
            size,
            number(f"{directory}/hugetlb.{size}.usage_in_bytes"),
            number(f"{directory}/hugetlb.{size}.max_usage_in_bytes"),
        )
        for size in _page_sizes(directory, ".usage_in_bytes")
    )


def hugepages_v2(directory: str) -> tuple[HugepageUse, ...]:
    """Read ``hugetlb.<size>.*``, among which is no most usage."""
    return tuple(
        HugepageUse(size, number(f"{directory}/hugetlb.{size}.current"), 0)
        for size in _page_sizes(directory, ".current")
    )


def _page_sizes(directory: str, ending: str) -> list[str]:
    """Return the sizes that a cgroup has files of, which are those of the machine."""
    try:
        names = os.listdir(directory)  # noqa: PTH208  # names are enough
    except OSError:
        return []
    middles = (name.removeprefix(_HUGETLB).removesuffix(ending) for name in names if name.endswith(ending))
    return sorted(size for size in middles if size.endswith("B") and "." not in size)


# What processes are looked up by: controllers that every container is in, best first.
_FOR_PROCESSES = ("pids", "devices", "memory", "cpu", "name=systemd")


class CgroupReader:
    """Reads by cgroup path (``/sampan/<id>``); safe to use from several threads."""

    def __init__(self, trees: Sequence[CgroupTree]) -> None:
        self._v1 = {
            controller: str(tree.path) for tree in trees if tree.version == 1 for controller in tree.controllers
        }
        unified = next((tree for tree in trees if tree.version == 2), None)
        self._v2 = str(unified.path) if unified else ""
        self._v2_controllers = unified.controllers if unified else frozenset()

    def read(self, path: str) -> Usage | None:
        """Return what the cgroup uses, or None if it is gone."""
        if not self.exists(path):
            return None
        pids = self._v1.get("pids", self._v2)
        return Usage(
            cpu=self._cpu(path),
            memory=self._memory(path),
            pids=number(f"{pids}{path}/pids.current"),
            pids_limit=number(f"{pids}{path}/pids.max"),
            block_io=(block_io_v1(self._v1["blkio"] + path) if "blkio" in self._v1 else block_io_v2(self._v2 + path)),
            hugepages=self._hugepages(path),
        )

    def read_briefly(self, path: str) -> BriefUsage | None:
        """Return what is asked of many containers at once, by the fewest files; None if the cgroup is gone."""
        if "cpuacct" in self._v1:
            usage_ns = number(f"{self._v1['cpuacct']}{path}/cpuacct.usage")
        else:
            usage_ns = table(f"{self._v2}{path}/cpu.stat").get("usage_usec", 0) * _NS_PER_US
        prefix, memory, current = "", self._v2 + path, "memory.current"
        if "memory" in self._v1:
            prefix, memory, current = "total_", self._v1["memory"] + path, "memory.usage_in_bytes"
        stat, used = words(f"{memory}/memory.stat"), number(f"{memory}/{current}")
        if not stat and not self.exists(path):
            return None
        swap = int(stat.get("total_swap", 0)) if prefix else number(f"{memory}/memory.swap.current")
        cpu_pressure, memory_pressure, io_pressure = self._pressures(path)
        return BriefUsage(
            cpu_usage_ns=usage_ns,
            memory_bytes=used,
            working_set_bytes=max(0, used - int(stat.get(f"{prefix}inactive_file", 0))),
            rss_bytes=int(stat.get("total_rss" if prefix else "anon", 0)),
            page_faults=int(stat.get(f"{prefix}pgfault", 0)),
            major_page_faults=int(stat.get(f"{prefix}pgmajfault", 0)),
            swap_bytes=swap,
            pids=number(f"{self._v1.get('pids', self._v2)}{path}/pids.current"),
            cpu_pressure=cpu_pressure,
            memory_pressure=memory_pressure,
            io_pressure=io_pressure,
        )

    def _pressures(self, path: str) -> tuple[Pressure | None, Pressure | None, Pressure | None]:
        """Return that of processors, memory and I/O, which version 2 alone counts, also beside version 1."""
        cpu = pressure(f"{self._v2}{path}/cpu.pressure") if self._v2 else None
        if cpu is None:  # most likely the cgroup is not in this tree
            return None, None, None
        return cpu, pressure(f"{self._v2}{path}/memory.pressure"), pressure(f"{self._v2}{path}/io.pressure")

    def _hugepages(self, path: str) -> tuple[HugepageUse, ...]:
        if "hugetlb" in self._v1:
            return hugepages_v1(self._v1["hugetlb"] + path)
        return hugepages_v2(self._v2 + path) if "hugetlb" in self._v2_controllers else ()

    def exists(self, path: str) -> bool:
        """Whether there is such a cgroup."""
        return bool(path) and os.path.isdir(self._process_tree() + path)  # noqa: PTH112  # hot: no Path objects

    def processes(self, path: str) -> tuple[int, ...]:
        """Return the processes in the cgroup and those below it."""
        found: set[int] = set()
        for directory, _, _ in os.walk(self._process_tree() + path):
            found.update(int(line) for line in text(f"{directory}/cgroup.procs").split())
        return tuple(sorted(found))

    def _process_tree(self) -> str:
        return next((self._v1[name] for name in _FOR_PROCESSES if name in self._v1), self._v2)

    def _cpu(self, path: str) -> CpuUsage:
        if "cpuacct" in self._v1:
            return cpu_usage_v1(self._v1["cpuacct"] + path, self._v1.get("cpu", "") + path)
        return cpu_usage_v2(self._v2 + path)

    def _memory(self, path: str) -> MemoryUsage:
        if "memory" in self._v1:
            return memory_usage_v1(self._v1["memory"] + path)
        return memory_usage_v2(self._v2 + path)
