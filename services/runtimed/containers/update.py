"""Merge new limits into old ones, as ``docker update`` does."""

from dataclasses import fields, replace

from sampan.errors import ConflictError, InvalidArgumentError
from sampan.resource.container_spec import Resources


def changed_resources(old: Resources, new: Resources) -> Resources:
    """Return ``old`` with every limit of ``new`` that is set: one that is 0, empty or None stays as it is.

    Raises:
        InvalidArgumentError: nano CPUs together with a period or a quota.
        ConflictError: the memory limit would exceed memory + swap.
    """
    given = {f.name: value for f in fields(new) if (value := getattr(new, f.name)) not in (0, "", None, (), False)}
    if "nano_cpus" in given and (old.cpu_quota_us or old.cpu_period_us):
        raise InvalidArgumentError(
            "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set"
        )
    if ("cpu_quota_us" in given or "cpu_period_us" in given) and old.nano_cpus:
        raise InvalidArgumentError("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set")
    merged = replace(old, **given)
    if 0 < merged.memory_swap_bytes < merged.memory_bytes:
        raise ConflictError(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    return merged
