"""Which machine an image is for.

Reference: OCI image spec 1.1, "Image Index", `platform`; architecture names are Go's.
"""

import platform as host
from dataclasses import dataclass
from typing import Final

from sampan.errors import InvalidArgumentError

_MACHINES: Final = {
    "x86_64": ("amd64", ""),
    "amd64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "arm64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "i386": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_ARCHITECTURES: Final = frozenset(name for name, _ in _MACHINES.values()) | {
    "arm", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "riscv", "s390", "wasm",
}  # fmt: skip
_SYSTEMS: Final = frozenset(("linux", "windows", "darwin", "freebsd"))


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system and an architecture; an empty variant matches any."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def accepts(self, other: "Platform") -> bool:
        """Say whether an image for ``other`` is what was asked for with this."""
        if (self.os, self.architecture) != (other.os, other.architecture):
            return False
        # arm64 without a variant and with v8 are the same thing, and both are in use.
        default = "v8" if self.architecture == "arm64" else ""
        mine, theirs = self.variant or default, other.variant or default
        return not self.variant or mine == theirs


def host_platform() -> Platform:
    """Return the platform of this machine."""
    machine = host.machine()
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform("linux", architecture, variant)


def parse_platform(text: str) -> Platform:
    """Parse ``os/arch[/variant]``, a bare architecture, or a bare system, which means this machine's architecture.

    Raises:
        InvalidArgumentError: empty parts or more than three of them, or a single one that is neither.
    """
    parts = text.lower().split("/")
    if not all(parts) or len(parts) > 3:
        raise InvalidArgumentError(f"invalid platform {text!r}: expected os/architecture[/variant]")
    if len(parts) == 1:
        (part,) = parts
        if part in _SYSTEMS:
            parts = [part, host_platform().architecture]
        elif part in _ARCHITECTURES or part in _MACHINES:
            parts = ["linux", part]
        else:
            raise InvalidArgumentError(f'"{part}": unknown operating system or architecture')
    architecture, variant = _MACHINES.get(parts[1], (parts[1], ""))
    return Platform(parts[0], architecture, parts[2] if len(parts) == 3 else variant)
