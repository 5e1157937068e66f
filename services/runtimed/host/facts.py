"""What this machine offers to containers, read once at start-up."""

import enum
import os
import platform
import re
import resource
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from runtimed.oci.security.capabilities import bounding_set

_CGROUPS: Final = Path("/sys/fs/cgroup")
_UNLIMITED: Final = resource.RLIM_INFINITY


class CgroupLayout(enum.Enum):
    """How the cgroup trees are mounted."""

    UNIFIED = "unified"  # version 2 alone
    HYBRID = "hybrid"  # version 1, and an extra version 2 tree
    LEGACY = "legacy"  # version 1 alone
    NONE = "none"  # nothing is mounted

    @property
    def version(self) -> int:
        """Docker's ``CgroupVersion``."""
        return 2 if self is CgroupLayout.UNIFIED else 1


@dataclass(frozen=True, slots=True)
class CgroupTree:
    """One mounted hierarchy."""

    path: Path
    version: int
    controllers: frozenset[str]  # of version 1 also "name=systemd"


@dataclass(frozen=True, slots=True)
class Limits:
    """Which limits the kernel can enforce here."""

    memory: bool = True
    swap: bool = True
    swappiness: bool = True
    oom_kill_disable: bool = True
    cpu_shares: bool = True
    cpu_quota: bool = True
    cpuset: bool = True
    pids: bool = True
    blkio_weight: bool = True
    blkio_weight_device: bool = True
    blkio_throttle: bool = True
    cpu_realtime: bool = True
    hugepages: bool = True


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Everything else that a bundle depends on."""

    cpus: int
    memory_bytes: int
    hostname: str
    kernel: str
    layout: CgroupLayout
    trees: tuple[CgroupTree, ...] = ()
    limits: Limits = field(default_factory=Limits)
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    capabilities: tuple[str, ...] = ()
    # Hard limits that cannot be exceeded for want of CAP_SYS_RESOURCE, by the names that --ulimit uses.
    hard_limits: dict[str, int] = field(default_factory=dict)
    oom_score_adj: int = 0
    apparmor: bool = False
    selinux: bool = False
    seccomp: bool = True

    def is_at_least(self, major: int, minor: int) -> bool:
        """Whether the kernel is that new."""
        numbers = [int(digits) for digits in re.findall(r"\d+", self.kernel)[:2]]
        return numbers >= [major, minor]


ULIMITS: Final[dict[str, int]] = {
    "core": resource.RLIMIT_CORE,
    "cpu": resource.RLIMIT_CPU,
    "data": resource.RLIMIT_DATA,
    "fsize": resource.RLIMIT_FSIZE,
    "locks": 10,  # RLIMIT_LOCKS, which the module leaves out
    "memlock": resource.RLIMIT_MEMLOCK,
    "msgqueue": resource.RLIMIT_MSGQUEUE,
    "nice": resource.RLIMIT_NICE,
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "rss": resource.RLIMIT_RSS,
    "rtprio": resource.RLIMIT_RTPRIO,
    "rttime": resource.RLIMIT_RTTIME,
    "sigpending": resource.RLIMIT_SIGPENDING,
    "stack": resource.RLIMIT_STACK,
}


def read_host() -> HostFacts:
    """Look at the machine. Nothing raises: what cannot be read is taken as absent."""
    trees = cgroup_trees()
    layout = layout_of(trees)
    capabilities = bounding_set()
    hard = {} if "CAP_SYS_RESOURCE" in capabilities else _hard_limits()
    cpus, mems = _cpuset(trees)
    return HostFacts(
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        hostname=socket.gethostname(),
        kernel=platform.release(),
        layout=layout,
        trees=trees,
        limits=_limits(trees),
        cpuset_cpus=cpus,
        cpuset_mems=mems,
        capabilities=capabilities,
        hard_limits=hard,
        oom_score_adj=int(_text(Path("/proc/self/oom_score_adj")) or 0),
        apparmor=_text(Path("/sys/module/apparmor/parameters/enabled")) == "Y",
        selinux=Path("/sys/fs/selinux/enforce").exists(),
        seccomp=Path("/proc/sys/kernel/seccomp/actions_avail").exists(),
    )


def forwards_ipv4() -> bool:
    """Whether the kernel passes packets on from one interface to another, at present."""
    return _text(Path("/proc/sys/net/ipv4/ip_forward")) == "1"


def cgroup_trees(mounts: str | None = None) -> tuple[CgroupTree, ...]:
    """Return the cgroup hierarchies mounted under /sys/fs/cgroup, from ``/proc/self/mounts``."""
    text = _text(Path("/proc/self/mounts")) if mounts is None else mounts
    trees = []
    for line in text.splitlines():
        _, where, fstype, options, *_ = [*line.split(" "), "", "", "", ""]
        path = Path(where)
        if fstype not in ("cgroup", "cgroup2") or not path.is_relative_to(_CGROUPS):
            continue
        if fstype == "cgroup2":
            trees.append(CgroupTree(path, 2, frozenset(_text(path / "cgroup.controllers").split())))
        else:
            names = {option for option in options.split(",") if option in _V1_CONTROLLERS or option.startswith("name=")}
            trees.append(CgroupTree(path, 1, frozenset(names)))
    return tuple(trees)


_V1_CONTROLLERS: Final = frozenset(
    (
        *("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "misc", "net_cls"),
        *("net_prio", "perf_event", "pids", "rdma"),
    )
)


def layout_of(trees: tuple[CgroupTree, ...]) -> CgroupLayout:
    """Return the layout that ``trees`` make."""
    versions = {tree.version for tree in trees}
    if not versions:
        return CgroupLayout.NONE
    if versions == {2}:
        return CgroupLayout.UNIFIED
    return CgroupLayout.LEGACY if versions == {1} else CgroupLayout.HYBRID


def _tree(trees: tuple[CgroupTree, ...], controller: str) -> CgroupTree | None:
    return next((tree for tree in trees if controller in tree.controllers), None)


def _limits(trees: tuple[CgroupTree, ...]) -> Limits:
    def has(controller: str, v1_file: str) -> bool:
        tree = _tree(trees, controller)
        return tree is not None and (tree.version == 2 or (tree.path / v1_file).exists())

    memory, cpu = _tree(trees, "memory"), _tree(trees, "cpu")
    old_memory = memory is not None and memory.version == 1
    return Limits(
        memory=has("memory", "memory.limit_in_bytes"),
        swap=has("memory", "memory.memsw.limit_in_bytes"),
        swappiness=old_memory and has("memory", "memory.swappiness"),
        oom_kill_disable=old_memory and has("memory", "memory.oom_control"),
        cpu_shares=has("cpu", "cpu.shares"),
        # The root group of version 1 has the file only where bandwidth control is built in.
        cpu_quota=has("cpu", "cpu.cfs_quota_us") or has("cpu", "cpu.stat"),
        cpuset=has("cpuset", "cpuset.cpus"),
        pids=has("pids", "cgroup.procs"),
        # BFQ's weight has a name in version 1 that not every runtime knows: Docker takes it for none, too.
        blkio_weight=has("blkio", "blkio.weight") or has("io", ""),
        blkio_weight_device=has("blkio", "blkio.weight_device") or has("io", ""),
        blkio_throttle=has("blkio", "blkio.throttle.read_bps_device") or has("io", ""),
        # Version 2 has none; that of version 1 is built in seldom.
        cpu_realtime=cpu is not None and cpu.version == 1 and has("cpu", "cpu.rt_period_us"),
        # Runtimes look for it where they look for all others.
        hugepages=any("hugetlb" in tree.controllers for tree in trees if tree.version == layout_of(trees).version),
    )


def _cpuset(trees: tuple[CgroupTree, ...]) -> tuple[str, str]:
    tree = _tree(trees, "cpuset")
    if tree is None:
        return "", ""
    suffix = ".effective" if tree.version == 2 else ""
    return _text(tree.path / f"cpuset.cpus{suffix}"), _text(tree.path / f"cpuset.mems{suffix}")


def _hard_limits() -> dict[str, int]:
    limits = {}
    for name, number in ULIMITS.items():
        try:
            hard = resource.getrlimit(number)[1]
        except (ValueError, OSError):
            continue
        if hard != _UNLIMITED:
            limits[name] = hard
    return limits


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
