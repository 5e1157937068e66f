"""Limits of a bundle: cgroup resources and rlimits."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from runtimed.host.facts import HostFacts
from sampan.errors import StartError
from sampan.log import log
from sampan.resource.container_spec import DeviceLimit, Resources, Ulimit

_PERIOD_US: Final = 100_000
_INFINITY: Final = (1 << 64) - 1  # RLIM_INFINITY
_MOST_PIDS: Final = 1 << 22  # PID_MAX_LIMIT: no machine has more


def oci_resources(resources: Resources, host: HostFacts, device_rules: list[dict[str, object]]) -> dict[str, object]:
    """Return the OCI ``resources`` object; limits that this kernel cannot enforce are left out."""
    limits = host.limits
    out: dict[str, object] = {"devices": device_rules}
    memory = _memory(resources, host)
    if memory and limits.memory:
        out["memory"] = memory
    cpu = _cpu(resources, host)
    if cpu:
        out["cpu"] = cpu
    if resources.pids_limit > 0 and limits.pids:  # a new group has none
        out["pids"] = {"limit": resources.pids_limit}
    if block_io := _block_io(resources, host):
        out["blockIO"] = block_io
    if resources.hugepage_limits and limits.hugepages:
        out["hugepageLimits"] = [
            {"pageSize": one.page_size, "limit": one.limit_bytes} for one in resources.hugepage_limits
        ]
    if resources.unified:
        out["unified"] = dict(resources.unified)
    return out


def changed_resources(resources: Resources, host: HostFacts) -> dict[str, object]:
    """Return what an update of a container's group says: limits alone, and not which devices may be used.

    Without a limit on processes, the most that there can be: crun writes -1 as it is, which the kernel refuses.
    """
    out = oci_resources(resources, host, [])
    del out["devices"]
    if resources.pids_limit < 0 and host.limits.pids:
        out["pids"] = {"limit": _MOST_PIDS}
    return out


def _block_io(resources: Resources, host: HostFacts) -> dict[str, object]:
    """Raises StartError: a device is not there, Docker's words, or is no block device."""
    limits = host.limits
    out: dict[str, object] = {}
    if resources.blkio_weight and limits.blkio_weight:
        out["weight"] = resources.blkio_weight
    if resources.blkio_weight_devices and limits.blkio_weight_device:
        out["weightDevice"] = [_of_device(limit, "weight") for limit in resources.blkio_weight_devices]
    for name, asked in (
        ("throttleReadBpsDevice", resources.device_read_bps),
        ("throttleWriteBpsDevice", resources.device_write_bps),
        ("throttleReadIOPSDevice", resources.device_read_iops),
        ("throttleWriteIOPSDevice", resources.device_write_iops),
    ):
        if asked and limits.blkio_throttle:
            out[name] = [_of_device(limit, "rate") for limit in asked]
    return out


def _of_device(limit: DeviceLimit, number: str) -> dict[str, object]:
    try:
        status = Path(limit.path).stat()
    except OSError as error:
        raise StartError(f"stat {limit.path}: {(error.strerror or '').lower()}") from error
    if not stat.S_ISBLK(status.st_mode):
        raise StartError(f"{limit.path} is not a block device: it takes no limits")
    return {"major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev), number: limit.value}


def effective_swap(resources: Resources, host: HostFacts) -> int:
    """Return memory + swap as it is set, 0 for none: without a choice twice the memory, as Docker does."""
    if not host.limits.swap:
        return 0
    if resources.memory_bytes > 0 and resources.memory_swap_bytes == 0:
        return resources.memory_bytes * 2
    return resources.memory_swap_bytes


def _memory(resources: Resources, host: HostFacts) -> dict[str, object]:
    memory: dict[str, object] = {}
    if resources.memory_bytes > 0:
        memory["limit"] = resources.memory_bytes
    if resources.memory_reservation_bytes > 0:
        memory["reservation"] = resources.memory_reservation_bytes
    swap = effective_swap(resources, host)
    if swap:
        memory["swap"] = swap
    if resources.memory_swappiness is not None and resources.memory_swappiness >= 0 and host.limits.swappiness:
        memory["swappiness"] = resources.memory_swappiness
    if resources.oom_kill_disable and host.limits.oom_kill_disable:
        memory["disableOOMKiller"] = True
    return memory


def _cpu(resources: Resources, host: HostFacts) -> dict[str, object]:
    cpu: dict[str, object] = {}
    limits = host.limits
    if resources.cpu_shares and limits.cpu_shares:
        cpu["shares"] = resources.cpu_shares
    if limits.cpu_quota:
        if resources.nano_cpus:
            cpu["period"] = _PERIOD_US
            cpu["quota"] = resources.nano_cpus * _PERIOD_US // 1_000_000_000
        if resources.cpu_period_us:
            cpu["period"] = resources.cpu_period_us
        if resources.cpu_quota_us:
            cpu["quota"] = resources.cpu_quota_us
    if limits.cpu_realtime:
        if resources.cpu_realtime_period_us:
            cpu["realtimePeriod"] = resources.cpu_realtime_period_us
        if resources.cpu_realtime_runtime_us:
            cpu["realtimeRuntime"] = resources.cpu_realtime_runtime_us
    if limits.cpuset:
        if resources.cpuset_cpus:
            cpu["cpus"] = resources.cpuset_cpus
        if resources.cpuset_mems:
            cpu["mems"] = resources.cpuset_mems
    return cpu


def oci_rlimits(ulimits: Sequence[Ulimit], host: HostFacts) -> list[dict[str, object]]:
    """Return the OCI ``rlimits``. What is above the engine's own hard limit, and cannot be set, is lowered to it."""
    rlimits: list[dict[str, object]] = []
    for ulimit in ulimits:
        soft, hard = (_INFINITY if value < 0 else value for value in (ulimit.soft, ulimit.hard))
        most = host.hard_limits.get(ulimit.name, _INFINITY)
        if hard > most:
            log.warning("ulimit lowered to the engine's own", ulimit=ulimit.name, asked=ulimit.hard, given=most)
            hard, soft = most, min(soft, most)
        rlimits.append({"type": f"RLIMIT_{ulimit.name.upper()}", "soft": soft, "hard": hard})
    return rlimits


def oom_score(score: int, host: HostFacts) -> int | None:
    """Return the score to set, or None to leave the engine's: lowering one's own takes CAP_SYS_RESOURCE."""
    if below_own_oom_score(score, host):
        if score:
            log.warning("oom score cannot be lowered", asked=score, given=host.oom_score_adj)
        return None
    return score


def below_own_oom_score(score: int, host: HostFacts) -> bool:
    """Whether the engine may not give a container so low a score."""
    return score < host.oom_score_adj and "CAP_SYS_RESOURCE" not in host.capabilities
