"""Limits on memory, processors and the rest, as far as they say by themselves that they cannot be meant."""

import re
from collections.abc import Mapping
from typing import Final

from sampan.docker.options.devices import check_device_limits, check_devices
from sampan.docker.options.ulimits import check_ulimits
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Resources

_LEAST_MEMORY: Final = 6 << 20
_PERIOD_US: Final = range(1_000, 1_000_001)
_BLKIO_WEIGHT: Final = range(10, 1_001)
_OOM_SCORE: Final = range(-1_000, 1_001)
# Twice as much is asked for when nothing is said of swap, and the kernel's numbers end at 2^63.
_MOST_BYTES: Final = (1 << 62) - 1
_MOST_SHARES: Final = 262_144  # of cgroup v1, which v2's weights are made from
_LONGEST_CGROUP: Final = 1024  # with room for the container's own below PATH_MAX
_PAGE_SIZE: Final = re.compile(r"[0-9]{1,6}[KMG]B")
_CGROUP_FILE: Final = re.compile(r"[a-z0-9_]+(\.[A-Za-z0-9_]+)+")
_MOST_PIDS: Final = 1 << 22  # PID_MAX_LIMIT
_MOST_QUOTA_US: Final = (1 << 44) - 1  # the scheduler's MAX_BW


def check_limits(resources: Resources, *, small: bool = False) -> None:
    """Raise InvalidArgumentError, in Docker's words, for a limit that cannot be meant on any machine.

    With ``small`` there is no least amount of memory: Docker has one, pods have none.
    """
    _memory(resources, 1 if small else _LEAST_MEMORY)
    _cpu(resources)
    _rest(resources)
    check_ulimits(resources.ulimits)
    check_devices(resources.devices, resources.device_cgroup_rules)
    check_device_limits(resources)


def check_storage_options(options: Mapping[str, str]) -> None:
    """Raise InvalidArgumentError, in Docker's words, for options of a container's root: this engine keeps no quotas."""
    for name in options:
        if name != "size":
            raise InvalidArgumentError(f"Unknown option {name}")
        raise InvalidArgumentError("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")


def _memory(resources: Resources, least: int) -> None:
    memory, swap, reservation = (
        resources.memory_bytes,
        resources.memory_swap_bytes,
        resources.memory_reservation_bytes,
    )
    for name, value in (("memory", memory), ("memory swap", swap), ("memory reservation", reservation)):
        if value > _MOST_BYTES:
            raise InvalidArgumentError(f"Invalid value: {value}, the largest {name} limit is {_MOST_BYTES} bytes")
    if memory and memory < least:
        raise InvalidArgumentError("Minimum memory limit allowed is 6MB")
    if memory > 0 and 0 < swap < memory:
        raise InvalidArgumentError("Minimum memoryswap limit should be larger than memory limit, see usage")
    if memory == 0 and swap > 0:
        raise InvalidArgumentError("You should always set the Memory limit when using Memoryswap limit, see usage")
    if swap < -1:
        raise InvalidArgumentError(f"Invalid value: {swap}, memory swap is a size or -1")
    if reservation and reservation < least:
        raise InvalidArgumentError("Minimum memory reservation allowed is 6MB")
    if memory > 0 and reservation > memory:
        raise InvalidArgumentError("Minimum memory limit can not be less than memory reservation limit, see usage")
    swappiness = resources.memory_swappiness
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise InvalidArgumentError(f"Invalid value: {swappiness}, valid memory swappiness range is 0-100")


def _cpu(resources: Resources) -> None:
    if resources.nano_cpus and resources.cpu_period_us:
        raise InvalidArgumentError("Conflicting options: Nano CPUs and CPU Period cannot both be set.")
    if resources.nano_cpus and resources.cpu_quota_us:
        raise InvalidArgumentError("Conflicting options: Nano CPUs and CPU Quota cannot both be set.")
    if resources.cpu_shares < 0:
        raise InvalidArgumentError(f"invalid CPU shares ({resources.cpu_shares}): value must be a positive integer")
    if resources.cpu_shares > _MOST_SHARES:
        raise InvalidArgumentError(f"invalid CPU shares ({resources.cpu_shares}): the maximum is {_MOST_SHARES}")
    if resources.cpu_period_us and resources.cpu_period_us not in _PERIOD_US:
        raise InvalidArgumentError(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < resources.cpu_quota_us < _PERIOD_US.start:
        raise InvalidArgumentError("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    period_us, runtime_us = resources.cpu_realtime_period_us, resources.cpu_realtime_runtime_us
    if not 0 <= period_us <= _MOST_QUOTA_US or not 0 <= runtime_us <= _MOST_QUOTA_US:
        raise InvalidArgumentError(f"CPU real-time period and runtime are from 0 to {_MOST_QUOTA_US}us")
    if period_us and runtime_us > period_us:
        raise InvalidArgumentError("cpu real-time runtime cannot be higher than cpu real-time period")
    if resources.cpu_quota_us > _MOST_QUOTA_US:
        raise InvalidArgumentError(f"CPU cfs quota can not be larger than {_MOST_QUOTA_US}us")


def _rest(resources: Resources) -> None:
    if resources.oom_score_adj not in _OOM_SCORE:
        raise InvalidArgumentError(f"Invalid value {resources.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    if resources.shm_size_bytes < 0:
        raise InvalidArgumentError("SHM size can not be less than 0")
    if resources.shm_size_bytes > _MOST_BYTES:
        raise InvalidArgumentError(f"SHM size can not be larger than {_MOST_BYTES} bytes")
    if resources.pids_limit > _MOST_PIDS:
        raise InvalidArgumentError(f"PIDs limit {resources.pids_limit} can not be larger than {_MOST_PIDS}")
    if resources.blkio_weight and resources.blkio_weight not in _BLKIO_WEIGHT:
        raise InvalidArgumentError("Range of blkio weight is from 10 to 1000")
    for limit in resources.hugepage_limits:
        if not _PAGE_SIZE.fullmatch(limit.page_size):
            raise InvalidArgumentError(f"invalid huge page size: {limit.page_size}")
    for name in resources.unified:
        if not _CGROUP_FILE.fullmatch(name):
            raise InvalidArgumentError(f"invalid cgroup file: {name}")
    parent = resources.cgroup_parent
    if ".." in parent.split("/") or len(parent) > _LONGEST_CGROUP or any(c in parent for c in "\0\n"):
        raise InvalidArgumentError(f"invalid cgroup parent: {parent[:_LONGEST_CGROUP]}")
