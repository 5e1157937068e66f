"""What can be refused when a container is created, before anything is made, and takes a look at the machine.

Errors and warnings are in Docker's words. What an option says by itself is ``sampan.docker.options``'.
``Volumes.resolve`` looks at mounts and volumes, ``Networking.check`` at networks.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

from runtimed.host.facts import CgroupLayout, HostFacts
from runtimed.oci.namespaces import check_sysctls
from runtimed.oci.resources import below_own_oom_score
from runtimed.oci.security.capabilities import check_capabilities
from runtimed.oci.security.seccomp import own_profile
from runtimed.oci.signals import parse_signal
from sampan.docker.options.security import parse_security_options
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import ContainerSpec, Resources

_NANO: Final = 1_000_000_000
_LEAST_SHARES: Final = 2  # of cgroups of version 1, which take less for that
_MAX_CPU: Final = 8191  # far above any machine: "0-4294967295" shall not fill memory

_CPU: Final = re.compile(r"[0-9]{1,9}")

_NOT_SUPPORTED: Final = "Your kernel does not support {} or the cgroup is not mounted. {}"


def check_spec(spec: ContainerSpec, host: HostFacts, *, runtimes: Collection[str]) -> tuple[str, ...]:
    """Return warnings for ``spec``, which is complete: its image has given what it has.

    Raises:
        InvalidArgumentError: the first thing that is wrong with it; in Docker's words.
    """
    _check_process(spec)
    check_sysctls(spec.sysctls, spec)
    security = spec.security
    check_capabilities((*security.cap_add, *security.cap_add_ambient), security.cap_drop, host.capabilities)
    options = parse_security_options(security.options)
    if options.seccomp not in ("", "builtin", "unconfined"):
        own_profile(options.seccomp, host.capabilities)
    if options.apparmor not in ("", "unconfined") and not host.apparmor:
        raise InvalidArgumentError(
            f'invalid --security-opt: AppArmor is not enabled here, profile "{options.apparmor}" cannot be used'
        )
    if spec.runtime and spec.runtime not in runtimes:
        raise InvalidArgumentError(f"unknown or invalid runtime name: {spec.runtime}")
    if spec.resources.unified and host.layout is not CgroupLayout.UNIFIED:
        raise InvalidArgumentError(
            f"{', '.join(sorted(spec.resources.unified))} cannot be set: this host has cgroups of version 1"
        )
    return tuple(warning for check in _LIMITS for warning in check(spec.resources, host))


def _check_process(spec: ContainerSpec) -> None:
    process = spec.process
    if not process.args:
        raise InvalidArgumentError("no command specified")
    for entry in process.env:
        if entry.startswith("=") or not entry:
            raise InvalidArgumentError(f"invalid environment variable: {entry}")
    for text in (*process.args, *process.env, process.working_dir, process.user):
        if "\0" in text:
            raise InvalidArgumentError(f"{text!r} has a NUL byte in it")
    if spec.stop_signal:
        parse_signal(spec.stop_signal)


def _memory(resources: Resources, host: HostFacts) -> list[str]:
    limits = host.limits
    warnings = []
    if resources.memory_bytes and not limits.memory:
        warnings.append(_NOT_SUPPORTED.format("memory limit capabilities", "Limitation discarded."))
    elif resources.memory_bytes and not limits.swap and resources.memory_swap_bytes != -1:
        warnings.append(_NOT_SUPPORTED.format("swap limit capabilities", "Memory limited without swap."))
    if resources.memory_swappiness not in (None, -1) and not limits.swappiness:
        warnings.append(_NOT_SUPPORTED.format("memory swappiness capabilities", "Memory swappiness discarded."))
    if resources.memory_reservation_bytes and not limits.memory:
        warnings.append(_NOT_SUPPORTED.format("memory soft limit capabilities", "Limitation discarded."))
    if resources.oom_kill_disable and not limits.oom_kill_disable:
        warnings.append("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
    elif resources.oom_kill_disable and not resources.memory_bytes:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, "
            "this can result in the system running out of resources."
        )
    return warnings


def _cpu(resources: Resources, host: HostFacts) -> list[str]:
    least = _NANO // 100
    if resources.nano_cpus and not least <= resources.nano_cpus <= host.cpus * _NANO:
        raise InvalidArgumentError(
            f"Range of CPUs is from 0.01 to {host.cpus}.00, as there are only {host.cpus} CPUs available"
        )
    if (resources.cpu_realtime_period_us or resources.cpu_realtime_runtime_us) and not host.limits.cpu_realtime:
        raise InvalidArgumentError("Your kernel does not support CPU real-time scheduler")
    if 0 < resources.cpu_shares < _LEAST_SHARES and host.layout.version == 1:
        raise InvalidArgumentError(f"the minimum allowed cpu-shares is {_LEAST_SHARES}")
    warnings = []
    if resources.cpu_shares and not host.limits.cpu_shares:
        warnings.append(_NOT_SUPPORTED.format("CPU shares", "Shares discarded."))
    if (resources.nano_cpus or resources.cpu_quota_us or resources.cpu_period_us) and not host.limits.cpu_quota:
        warnings.append(_NOT_SUPPORTED.format("CPU CFS scheduler", "CPU quota and period discarded."))
    return warnings


def _cpuset(resources: Resources, host: HostFacts) -> list[str]:
    for kind, what, asked, available in (
        ("cpus", "CPUs", resources.cpuset_cpus, host.cpuset_cpus),
        ("mems", "memory nodes", resources.cpuset_mems, host.cpuset_mems),
    ):
        if not asked:
            continue
        wanted = _parse_set(asked)
        if wanted is None:
            raise InvalidArgumentError(f"Invalid value {asked} for cpuset {kind}: invalid format: {asked}")
        if host.limits.cpuset and not wanted <= (_parse_set(available) or frozenset()):
            raise InvalidArgumentError(
                f"Requested {what} are not available - requested {asked}, available: {available}"
            )
    if (resources.cpuset_cpus or resources.cpuset_mems) and not host.limits.cpuset:
        return [_NOT_SUPPORTED.format("cpuset", "Cpuset discarded.")]
    return []


def _parse_set(text: str) -> frozenset[int] | None:
    """Return the members of ``0-3,8``, or None if it is no such list."""
    members: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not _CPU.fullmatch(first) or (dash and not _CPU.fullmatch(last)):
            return None
        low, high = int(first), int(last) if dash else int(first)
        if high < low or high > _MAX_CPU:
            return None
        members.update(range(low, high + 1))
    return frozenset(members)


_THROTTLES: Final = {
    "device_read_bps": "BPS Block I/O read limit",
    "device_write_bps": "BPS Block I/O write limit",
    "device_read_iops": "IOPS Block read limit",
    "device_write_iops": "IOPS Block I/O write limit",
}


def _rest(resources: Resources, host: HostFacts) -> list[str]:
    warnings = []
    if resources.pids_limit > 0 and not host.limits.pids:
        warnings.append(_NOT_SUPPORTED.format("PIDs limit capabilities", "PIDs limit discarded."))
    if resources.blkio_weight_devices and not host.limits.blkio_weight_device:
        warnings.append(_NOT_SUPPORTED.format("Block I/O weight_device", "Weight-device discarded."))
    for field, what in _THROTTLES.items():
        if getattr(resources, field) and not host.limits.blkio_throttle:
            warnings.append(_NOT_SUPPORTED.format(what, f"{what} discarded."))
    if any(limit.limit_bytes for limit in resources.hugepage_limits) and not host.limits.hugepages:
        warnings.append(_NOT_SUPPORTED.format("huge page limits", "Limitation discarded."))
    if resources.blkio_weight and not host.limits.blkio_weight:
        warnings.append(_NOT_SUPPORTED.format("Block I/O weight", "Weight discarded."))
    return warnings


def enforced(resources: Resources, host: HostFacts) -> Resources:
    """Return the limits without those that the kernel does not know here, of which ``check_spec`` warns."""
    able = host.limits
    kept = resources
    if not able.memory:
        unlimited = -1 if kept.memory_bytes else kept.memory_swap_bytes
        kept = replace(kept, memory_bytes=0, memory_swap_bytes=unlimited, memory_reservation_bytes=0)
    elif kept.memory_bytes and not able.swap:
        kept = replace(kept, memory_swap_bytes=-1)
    for known, nothing in (
        (able.swappiness, {"memory_swappiness": None}),
        (able.oom_kill_disable, {"oom_kill_disable": False}),
        (able.cpu_shares, {"cpu_shares": 0}),
        (able.cpu_quota, {"nano_cpus": 0, "cpu_quota_us": 0, "cpu_period_us": 0}),
        (able.cpuset, {"cpuset_cpus": "", "cpuset_mems": ""}),
        (able.pids, {"pids_limit": 0}),
        (able.blkio_weight, {"blkio_weight": 0}),
        (able.blkio_weight_device, {"blkio_weight_devices": ()}),
        (able.blkio_throttle, dict.fromkeys(_THROTTLES, ())),
        (able.hugepages, {"hugepage_limits": ()}),
    ):
        if not known:
            kept = replace(kept, **nothing)
    return kept


def _ulimits(resources: Resources, host: HostFacts) -> list[str]:
    warnings = []
    for ulimit in resources.ulimits:
        most = host.hard_limits.get(ulimit.name)
        if most is not None and (ulimit.hard == -1 or ulimit.hard > most):
            warnings.append(
                f"The engine may not raise limits here: ulimit {ulimit.name} is {most} instead of {ulimit.hard}."
            )
    return warnings


def _oom_score(resources: Resources, host: HostFacts) -> list[str]:
    asked, own = resources.oom_score_adj, host.oom_score_adj
    if asked and below_own_oom_score(asked, host):
        return [f"The engine may not lower OOM scores here: oom_score_adj is {own} instead of {asked}."]
    return []


_LIMITS: Final[tuple[Callable[[Resources, HostFacts], list[str]], ...]] = (
    _memory,
    _cpu,
    _cpuset,
    _rest,
    _ulimits,
    _oom_score,
)
