"""Facts about the machine, for ``docker info`` and ``docker version``. Read once, but for the clock."""

import functools
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from sampan.oci.platform import host_platform


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What does not change while the machine is up."""

    name: str
    kernel: str
    machine: str  # uname's: x86_64
    architecture: str  # Go's: amd64
    operating_system: str  # "Debian GNU/Linux 12 (bookworm)"
    os_version: str  # "12"
    cpus: int
    memory_bytes: int


@functools.cache
def host_facts() -> HostFacts:
    """Read them."""
    release = _os_release()
    return HostFacts(
        name=platform.node(),
        kernel=platform.release(),
        machine=platform.machine(),
        architecture=host_platform().architecture,
        operating_system=release.get("PRETTY_NAME", "Linux"),
        os_version=release.get("VERSION_ID", ""),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    )


def _os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


@functools.cache
def engine_id(data_root: Path) -> str:
    """Return the UUID that tells this engine from others: the same after every restart, another for other roots."""
    import hashlib
    import uuid

    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine = platform.node()
    return str(uuid.UUID(bytes=hashlib.sha256(f"sampan {machine} {data_root}".encode()).digest()[:16]))


def open_files() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count needs no Path objects
