"""What more there is to say of a container than its usage: for cAdvisor's series, of which a node has many.

It takes a dozen files for each container, and a walk through the descriptors of its processes.
"""

import os
from contextlib import suppress
from typing import Final, Protocol

from runtimed.cgroups.usage import Usage, text
from sampan.resource.stats import DeviceTraffic, SampleDetails

_OPEN_FILES: Final = "Max open files"


class Cgroups(Protocol):
    """What is asked of cgroups."""

    def read(self, path: str) -> Usage | None:
        """Return what one uses; None if it is gone."""

    def processes(self, path: str) -> tuple[int, ...]:
        """Return the processes in it."""


class DeviceNames:
    """Names of block devices by their numbers; safe in several threads."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], str] = {}

    def of(self, major: int, minor: int) -> str:
        """Return ``/dev/sda``, or ``8:0`` where it has no name."""
        name = self._known.get((major, minor))
        if name is None:
            fields = dict(
                line.partition("=")[::2] for line in text(f"/sys/dev/block/{major}:{minor}/uevent").splitlines()
            )
            name = f"/dev/{fields['DEVNAME']}" if "DEVNAME" in fields else f"{major}:{minor}"
            self._known[major, minor] = name
        return name


class DetailReader:
    """Reads by cgroup path; safe in several threads."""

    def __init__(self, cgroups: Cgroups, proc: str = "/proc") -> None:
        self._cgroups = cgroups
        self._devices = DeviceNames()
        self._proc = proc

    def of(self, path: str) -> SampleDetails | None:
        """Return what more there is to say of a cgroup; None if it is gone."""
        usage = self._cgroups.read(path)
        if usage is None:
            return None
        processes = self._cgroups.processes(path)
        descriptors, sockets = self._open(processes)
        cpu, memory = usage.cpu, usage.memory
        return SampleDetails(
            cgroup_path=path,
            cpu_user_ns=cpu.user_ns,
            cpu_kernel_ns=cpu.kernel_ns,
            periods=cpu.periods,
            throttled_periods=cpu.throttled_periods,
            throttled_ns=cpu.throttled_ns,
            max_usage_bytes=memory.max_usage_bytes,
            cache_bytes=memory.cache_bytes,
            mapped_bytes=memory.mapped_bytes,
            kernel_bytes=memory.kernel_bytes,
            limit_hits=memory.failures,
            oom_kills=memory.oom_kills,
            pids_limit=usage.pids_limit,
            processes=len(processes),
            file_descriptors=descriptors,
            sockets=sockets,
            hugepages=usage.hugepages,
            open_files_limit=self._open_files_limit(processes),
            block_io=tuple(
                DeviceTraffic(self._devices.of(io.major, io.minor), io.operation, io.bytes, io.operations)
                for io in usage.block_io
            ),
        )

    def _open_files_limit(self, processes: tuple[int, ...]) -> int:
        """Return ``RLIMIT_NOFILE`` of the first process, which the others have from it."""
        content = text(f"{self._proc}/{processes[0]}/limits") if processes else ""
        for line in content.splitlines():
            if line.startswith(_OPEN_FILES):
                soft = line.removeprefix(_OPEN_FILES).split()[0]
                return int(soft) if soft.isdigit() else 0
        return 0

    def _open(self, processes: tuple[int, ...]) -> tuple[int, int]:
        """Return how many descriptors processes have, and how many of these are sockets."""
        descriptors = sockets = 0
        for pid in processes:
            directory = f"{self._proc}/{pid}/fd"
            with suppress(OSError):  # it has ended
                for name in os.listdir(directory):  # noqa: PTH208  # names are enough
                    descriptors += 1
                    with suppress(OSError):
                        sockets += os.readlink(f"{directory}/{name}").startswith("socket:")  # noqa: PTH115  # no Path
        return descriptors, sockets
