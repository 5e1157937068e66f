"""Read what a container's cgroup uses, from whatever trees the host has; on a hybrid host from several."""

import os
from collections.abc import Sequence

from runtimed.cgroups import v1, v2
from runtimed.cgroups.files import number, text
from runtimed.cgroups.usage import CpuUsage, MemoryUsage, Usage
from runtimed.host.facts import CgroupTree

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
            block_io=(v1.block_io(self._v1["blkio"] + path) if "blkio" in self._v1 else v2.block_io(self._v2 + path)),
        )

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
            return v1.cpu_usage(self._v1["cpuacct"] + path, self._v1.get("cpu", "") + path)
        return v2.cpu_usage(self._v2 + path)

    def _memory(self, path: str) -> MemoryUsage:
        if "memory" in self._v1:
            return v1.memory_usage(self._v1["memory"] + path)
        return v2.memory_usage(self._v2 + path)
