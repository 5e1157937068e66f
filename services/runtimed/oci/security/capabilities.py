"""Which capabilities a container gets: Docker's default set, and what is added to or dropped from it."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Security

# By their numbers in linux/capability.h.
KNOWN: Final = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
        "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
        "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
        "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
        "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
        "CHECKPOINT_RESTORE",
    )
)  # fmt: skip

DEFAULT: Final = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
        "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
    )
)  # fmt: skip

_ALL: Final = "ALL"
_BOUNDING: Final = re.compile(r"^CapBnd:\s*([0-9a-f]+)$", re.MULTILINE)


def bounding_set(status: Path = Path("/proc/self/status")) -> tuple[str, ...]:
    """Return what this process may give away at most."""
    match = _BOUNDING.search(status.read_text())
    bits = int(match[1], 16) if match else 0
    return tuple(name for number, name in enumerate(KNOWN) if bits >> number & 1)


def check_capabilities(adds: Sequence[str], drops: Sequence[str], available: Collection[str]) -> None:
    """Raise InvalidArgumentError, in Docker's words, for a name that is none or that the host cannot give."""
    for option, names in (("CapAdd", adds), ("CapDrop", drops)):
        for name in map(_normal, names):
            if name == _ALL:
                continue
            if name not in KNOWN:
                raise InvalidArgumentError(f'invalid {option}: unknown capability: "{name}"')
            if option == "CapAdd" and name not in available:
                raise InvalidArgumentError(
                    f"invalid {option}: capability not supported by your kernel or not available in the current "
                    f'environment: "{name}"'
                )


def granted(
    adds: Sequence[str], drops: Sequence[str], available: Sequence[str], *, privileged: bool
) -> tuple[str, ...]:
    """Return what the container gets: of ``available`` all if privileged, else the default set as adjusted."""
    add = {_normal(name) for name in adds}
    drop = {_normal(name) for name in drops}
    if privileged:
        return tuple(available)
    if _ALL in add:
        wanted = {name for name in available if name not in drop}
    elif _ALL in drop:
        wanted = add
    else:
        wanted = {name for name in DEFAULT if name not in drop} | add
    return tuple(name for name in KNOWN if name in wanted and name in available)


def security_capabilities(
    security: Security, available: Sequence[str], *, privileged: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what the container gets, and what of it other users than root keep."""
    adds = (*security.cap_add, *security.cap_add_ambient)
    everything = granted(adds, security.cap_drop, available, privileged=privileged)
    kept = {_normal(name) for name in security.cap_add_ambient}
    return everything, tuple(name for name in everything if name in kept or _ALL in kept)


def oci_capabilities(names: Sequence[str], uid: int, ambient: Sequence[str] = ()) -> dict[str, object]:
    """Return the OCI object. Another user than root starts with those of ``ambient`` in effect, as after execve(2)."""
    everything, kept = list(names), list(ambient)
    effective = everything if uid == 0 else kept
    found: dict[str, object] = {"bounding": everything, "effective": effective, "permitted": effective}
    # The kernel keeps none ambient that is not inheritable as well.
    return {key: value for key, value in (found | {"inheritable": kept, "ambient": kept}).items() if value}


def _normal(name: str) -> str:
    upper = name.upper()
    return upper if upper == _ALL or upper.startswith("CAP_") else f"CAP_{upper}"
