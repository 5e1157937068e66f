"""What systemd is told of the limits of scopes that it makes.

It writes what it knows whenever it is reloaded (``systemctl daemon-reload``, an upgrade of any package with units), and
an infinite quota if it knows of none: a limit that only the kernel was told would be gone then.

Reference: org.freedesktop.systemd1(5), "Properties" of units with control groups; systemd.resource-control(5).
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final, cast

_PERIOD_US: Final = 100_000  # the kernel's
_SECOND_US: Final = 1_000_000
_INFINITY: Final = (1 << 64) - 1  # what systemd takes for no limit

# OCI runtimes pass annotations of this name on, as values of D-Bus.
_ANNOTATION: Final = "org.systemd.property."

_MANAGER: Final = (
    "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "SetUnitProperties",
)  # fmt: skip


def properties(resources: Mapping[str, object]) -> dict[str, int]:
    """Return systemd's properties for OCI's ``linux.resources``: for what is in these, and what has a property.

    Those for shares and processors are set by the runtimes themselves.
    """
    memory, cpu, pids = (cast("Mapping[str, int]", resources.get(name) or {}) for name in ("memory", "cpu", "pids"))
    found = {}
    if "quota" in cpu:
        quota, period = cpu["quota"], cpu.get("period") or _PERIOD_US
        found["CPUQuotaPeriodUSec"] = period
        found["CPUQuotaPerSecUSec"] = quota * _SECOND_US // period if quota > 0 else _INFINITY
    if "limit" in memory:
        found["MemoryMax"] = _limit(memory["limit"])
    if "reservation" in memory:
        found["MemoryLow"] = max(0, memory["reservation"])
    if "swap" in memory and memory.get("limit", 0) > 0:  # OCI's is the sum; of version 2 alone
        found["MemorySwapMax"] = memory["swap"] - memory["limit"] if memory["swap"] > 0 else _INFINITY
    if "limit" in pids:
        found["TasksMax"] = _limit(pids["limit"])
    return found


def _limit(value: int) -> int:
    return value if value > 0 else _INFINITY


def annotations(resources: Mapping[str, object]) -> dict[str, str]:
    """Return the same as annotations of a bundle."""
    return {f"{_ANNOTATION}{name}": f"uint64 {value}" for name, value in properties(resources).items()}


def change_command(scope: str, resources: Mapping[str, object]) -> Sequence[str]:
    """Return the command that tells systemd of changed limits until the scope ends; empty if there is nothing to tell.

    Args:
        scope: path of its control group, ``/system.slice/sampan-….scope``.
        resources: OCI's ``linux.resources``.
    """
    told = properties(resources)
    if not told:
        return ()
    values = (word for name, value in told.items() for word in (name, "t", str(value)))
    return (
        "busctl",
        "--quiet",
        "call",
        *_MANAGER,
        "sba(sv)",
        PurePosixPath(scope).name,
        "true",
        str(len(told)),
        *values,
    )
