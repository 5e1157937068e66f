"""The machine for Prometheus, as cAdvisor tells of it: its processors and memory, its file systems, versions."""

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from runtimed.cgroups.usage import text
from runtimed.host.facts import HostFacts
from sampan.metrics.cadvisor import cadvisor_family
from sampan.metrics.text import family_text, label_text
from sampan.version import VERSION

_CPUINFO: Final = "/proc/cpuinfo"


def machine_families(
    host: HostFacts, disks: Sequence[Path], labels: str, device: Callable[[int, int], str]
) -> Iterator[str]:
    """Yield the families.

    Args:
        host: what was found when the service started.
        disks: paths whose file systems are told of, each of those once.
        labels: of the host's row.
        device: names a block device by its numbers.
    """
    for name, meaning, value in (
        ("machine_cpu_cores", "Processors of the host.", host.cpus),
        ("machine_cpu_physical_cores", "Processors of the host without those that share a core.", _cores()),
        ("machine_memory_bytes", "Memory of the host.", host.memory_bytes),
        ("machine_swap_bytes", "Swap of the host.", _swap_bytes()),
    ):
        yield family_text(name, meaning, "gauge", [("", value)])
    sizes = list(_sizes(disks, device))
    for family, index in (
        ("container_fs_limit_bytes", 0),
        ("container_fs_usage_bytes", 1),
        ("container_fs_inodes_total", 2),
        ("container_fs_inodes_free", 3),
    ):
        yield cadvisor_family(
            family,
            ((f"{labels},{label_text({'device': name})}", values[index]) for name, values in sizes),
        )
    versions = {
        "cadvisorRevision": "",
        "cadvisorVersion": "",
        "dockerVersion": VERSION,
        "kernelVersion": host.kernel,
        "osVersion": _system(),
    }
    yield family_text(
        "cadvisor_version_info",
        "1, labelled with versions; dockerVersion is the engine's, and there is no cAdvisor.",
        "gauge",
        [(label_text(versions), 1)],
    )


def _sizes(
    disks: Sequence[Path], device: Callable[[int, int], str]
) -> Iterator[tuple[str, tuple[float, float, float, float]]]:
    """Yield each file system's device and: size and use in bytes, and its inodes, all and free ones."""
    seen: set[int] = set()
    for path in disks:
        try:
            number, found = path.stat().st_dev, os.statvfs(path)
        except OSError:  # it is gone, or not reached any more
            continue
        if number not in seen:
            seen.add(number)
            size, free = found.f_blocks * found.f_frsize, found.f_bfree * found.f_frsize
            yield device(os.major(number), os.minor(number)), (size, size - free, found.f_files, found.f_ffree)


def _cores() -> int:
    """Return how many cores there are; a virtual machine may not say which processors share one."""
    lines = [line.partition(":") for line in text(_CPUINFO).splitlines()]
    fields = [(name.strip(), value.strip()) for name, _, value in lines]
    packages = [value for name, value in fields if name == "physical id"]
    cores = [value for name, value in fields if name == "core id"]
    return len(set(zip(packages, cores, strict=False))) or (os.cpu_count() or 1)


def _swap_bytes() -> int:
    for line in text("/proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "SwapTotal":
            return int(value.split()[0]) * 1024
    return 0


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
