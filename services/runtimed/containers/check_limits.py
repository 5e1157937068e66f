"""Limits that are asked for, against what the kernel and the machine have: errors and warnings in Docker's words."""

import re
from collections.abc import Callable
from typing import Final

from runtimed.host.facts import ULIMITS, HostFacts
from runtimed.oci.resources import check_oom_score
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Resources

_LEAST_MEMORY: Final = 6 << 20
_NANO: Final = 1_000_000_000
_PERIOD_US: Final = range(1_000, 1_000_001)
_BLKIO_WEIGHT: Final = range(10, 1_001)
# Twice as much is asked for when nothing is said of swap, and the kernel's numbers end at 2^63.
_MOST_BYTES: Final = (1 << 62) - 1
_MOST_SHARES: Final = 262_144  # of cgroup v1, which v2's weights are made from
_LONGEST_CGROUP: Final = 1024  # with room for the container's own below PATH_MAX
_MOST_PIDS: Final = 1 << 22  # PID_MAX_LIMIT
_MOST_QUOTA_US: Final = (1 << 44) - 1  # the scheduler's MAX_BW
_MAX_CPU: Final = 8191  # far above any machine: "0-4294967295" shall not fill memory

_CPU: Final = re.compile(r"[0-9]{1,9}")

_NOT_SUPPORTED: Final = "Your kernel does not support {} or the cgroup is not mounted. {}"


def check_limits(resources: Resources, host: HostFacts) -> tuple[str, ...]:
    """Return warnings: limits that will not hold here.

    Raises:
        InvalidArgumentError: a limit that cannot be meant.
    """
    warnings: list[str] = []
    for check in _CHECKS:
        warnings += check(resources, host)
    return tuple(warnings)


def _memory(resources: Resources, host: HostFacts) -> list[str]:
    memory, swap, reservation = (
        resources.memory_bytes,
        resources.memory_swap_bytes,
        resources.memory_reservation_bytes,
    )
    for name, value in (("memory", memory), ("memory swap", swap), ("memory reservation", reservation)):
        if value > _MOST_BYTES:
            raise InvalidArgumentError(f"Invalid value: {value}, the largest {name} limit is {_MOST_BYTES} bytes")
    if memory and memory < _LEAST_MEMORY:
        raise InvalidArgumentError("Minimum memory limit allowed is 6MB")
    if memory > 0 and 0 < swap < memory:
        raise InvalidArgumentError("Minimum memoryswap limit should be larger than memory limit, see usage")
    if memory == 0 and swap > 0:
        raise InvalidArgumentError("You should always set the Memory limit when using Memoryswap limit, see usage")
    if swap < -1:
        raise InvalidArgumentError(f"Invalid value: {swap}, memory swap is a size or -1")
    if reservation and reservation < _LEAST_MEMORY:
        raise InvalidArgumentError("Minimum memory reservation allowed is 6MB")
    if memory > 0 and reservation > memory:
        raise InvalidArgumentError("Minimum memory limit can not be less than memory reservation limit, see usage")
    swappiness = resources.memory_swappiness
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise InvalidArgumentError(f"Invalid value: {swappiness}, valid memory swappiness range is 0-100")
    return _memory_warnings(resources, host)


def _memory_warnings(resources: Resources, host: HostFacts) -> list[str]:
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
    if resources.nano_cpus and resources.cpu_period_us:
        raise InvalidArgumentError("Conflicting options: Nano CPUs and CPU Period cannot both be set.")
    if resources.nano_cpus and resources.cpu_quota_us:
        raise InvalidArgumentError("Conflicting options: Nano CPUs and CPU Quota cannot both be set.")
    least = _NANO // 100
    if resources.nano_cpus and not least <= resources.nano_cpus <= host.cpus * _NANO:
        raise InvalidArgumentError(
            f"Range of CPUs is from 0.01 to {host.cpus}.00, as there are only {host.cpus} CPUs available"
        )
    if resources.cpu_shares < 0:
        raise InvalidArgumentError(f"invalid CPU shares ({resources.cpu_shares}): value must be a positive integer")
    if resources.cpu_shares > _MOST_SHARES:
        raise InvalidArgumentError(f"invalid CPU shares ({resources.cpu_shares}): the maximum is {_MOST_SHARES}")
    if resources.cpu_period_us and resources.cpu_period_us not in _PERIOD_US:
        raise InvalidArgumentError(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if resources.cpu_quota_us > 0 and resources.cpu_quota_us < _PERIOD_US.start:
        raise InvalidArgumentError("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if resources.cpu_quota_us > _MOST_QUOTA_US:
        raise InvalidArgumentError(f"CPU cfs quota can not be larger than {_MOST_QUOTA_US}us")
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


def _rest(resources: Resources, host: HostFacts) -> list[str]:
    check_oom_score(resources.oom_score_adj)
    if resources.shm_size_bytes < 0:
        raise InvalidArgumentError("SHM size can not be less than 0")
    if resources.shm_size_bytes > _MOST_BYTES:
        raise InvalidArgumentError(f"SHM size can not be larger than {_MOST_BYTES} bytes")
    if resources.pids_limit > _MOST_PIDS:
        raise InvalidArgumentError(f"PIDs limit {resources.pids_limit} can not be larger than {_MOST_PIDS}")
    if resources.blkio_weight and resources.blkio_weight not in _BLKIO_WEIGHT:
        raise InvalidArgumentError("Range of blkio weight is from 10 to 1000")
    parent = resources.cgroup_parent
    if ".." in parent.split("/") or len(parent) > _LONGEST_CGROUP or any(c in parent for c in "\0\n"):
        raise InvalidArgumentError(f"invalid cgroup parent: {parent[:_LONGEST_CGROUP]}")
    warnings = []
    if resources.pids_limit and not host.limits.pids:
        warnings.append(_NOT_SUPPORTED.format("PIDs limit capabilities", "PIDs limit discarded."))
    if resources.blkio_weight and not host.limits.blkio_weight:
        warnings.append(_NOT_SUPPORTED.format("Block I/O weight", "Weight discarded."))
    return warnings


def _ulimits(resources: Resources, host: HostFacts) -> list[str]:
    warnings = []
    for ulimit in resources.ulimits:
        if ulimit.name not in ULIMITS:
            raise InvalidArgumentError(f"invalid ulimit type: {ulimit.name}")
        if ulimit.soft < -1 or ulimit.hard < -1:
            raise InvalidArgumentError(f"invalid ulimit {ulimit.name}: {min(ulimit.soft, ulimit.hard)} is negative")
        if ulimit.hard != -1 and (ulimit.soft == -1 or ulimit.soft > ulimit.hard):
            raise InvalidArgumentError(
                f"ulimit soft limit must be less than or equal to hard limit: {ulimit.soft} > {ulimit.hard}"
            )
        most = host.hard_limits.get(ulimit.name)
        if most is not None and (ulimit.hard == -1 or ulimit.hard > most):
            warnings.append(
                f"The engine may not raise limits here: ulimit {ulimit.name} is {most} instead of {ulimit.hard}."
            )
    return warnings


_CHECKS: Final[tuple[Callable[[Resources, HostFacts], list[str]], ...]] = (
    _memory,
    _cpu,
    _cpuset,
    _rest,
    _ulimits,
)
