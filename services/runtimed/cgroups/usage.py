"""What a cgroup uses, whichever version of cgroups says so, and the kernel's small files that say it.

A cgroup may vanish between two reads: what cannot be read is empty.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sampan.resource.stats import HugepageUse, Pressure, Stall

_PIECE_BYTES: Final = 65536
_PAGE_BYTES: Final = 4096
_LINE_BYTES: Final = 1024  # no line of these files comes near it


def text(path: str) -> str:
    """Return the content of a cgroup file, or an empty string."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        content = os.read(descriptor, _PIECE_BYTES)
        # The kernel hands out whole lines, a page of them at a time: what leaves room for another one is all there is.
        if len(content) >= _PAGE_BYTES - _LINE_BYTES:
            while part := os.read(descriptor, _PIECE_BYTES):
                content += part
        return content.decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def number(path: str) -> int:
    """Return the number in the file; 0 for none and for ``max``."""
    content = text(path).strip()
    return int(content) if content.isdigit() else 0


def table(path: str) -> dict[str, int]:
    """Return a file of lines ``name number``."""
    rows = {}
    for line in text(path).splitlines():
        name, _, value = line.partition(" ")
        if value.isdigit():
            rows[name] = int(value)
    return rows


def words(path: str) -> dict[str, str]:
    """Return a file of lines ``name number`` with its numbers as text, for who wants few of many."""
    found = text(path).split()
    return dict(zip(found[::2], found[1::2], strict=False))


def pressure(path: str) -> Pressure | None:
    """Return a file of ``some avg10=0.00 avg60=0.00 avg300=0.00 total=0`` and ``full …``; None if there is none."""
    stalls = {}
    for line in text(path).splitlines():
        kind, *pairs = line.split()
        values = dict(pair.partition("=")[::2] for pair in pairs)
        try:
            stalls[kind] = Stall(
                int(values["total"]), float(values["avg10"]), float(values["avg60"]), float(values["avg300"])
            )
        except (KeyError, ValueError):  # a kernel that writes something else
            return None
    # Older kernels have no "full" of processors, where it means nothing for the whole machine.
    return Pressure(stalls["some"], stalls.get("full", Stall())) if "some" in stalls else None


# Version 1 writes "no limit" as the largest multiple of a page that fits into 63 bits.
UNLIMITED: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class CpuUsage:
    """Time used since the cgroup was made."""

    usage_ns: int = 0
    user_ns: int = 0
    kernel_ns: int = 0
    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0
    percpu_ns: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class MemoryUsage:
    """Memory in use, and at most."""

    usage_bytes: int = 0
    max_usage_bytes: int = 0
    limit_bytes: int = 0  # 0: none
    failures: int = 0  # how often the limit was hit
    oom_kills: int = 0
    rss_bytes: int = 0
    cache_bytes: int = 0
    swap_bytes: int = 0
    mapped_bytes: int = 0
    kernel_bytes: int = 0
    inactive_file_bytes: int = 0
    stats: Mapping[str, int] = field(default_factory=dict)  # memory.stat

    @property
    def working_set_bytes(self) -> int:
        """What cannot be had back at once: all but the page cache that nobody looked at lately."""
        return max(0, self.usage_bytes - self.inactive_file_bytes)


@dataclass(frozen=True, slots=True)
class BlockIo:
    """Traffic with one block device in one direction."""

    major: int
    minor: int
    operation: str  # "read" or "write"
    bytes: int = 0
    operations: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """All of it."""

    cpu: CpuUsage = field(default_factory=CpuUsage)
    memory: MemoryUsage = field(default_factory=MemoryUsage)
    pids: int = 0  # threads count, as the kernel has it
    pids_limit: int = 0  # 0: none
    block_io: tuple[BlockIo, ...] = ()
    hugepages: tuple[HugepageUse, ...] = ()


@dataclass(frozen=True, slots=True)
class BriefUsage:
    """What is asked of many cgroups at once."""

    cpu_usage_ns: int
    memory_bytes: int
    working_set_bytes: int
    rss_bytes: int
    page_faults: int
    major_page_faults: int
    swap_bytes: int
    pids: int
    cpu_pressure: Pressure | None = None
    memory_pressure: Pressure | None = None
    io_pressure: Pressure | None = None
