"""Which machine an image is for.

Reference: OCI image spec 1.1, "Image Index", `platform`; architecture names are Go's.
"""

import platform as host
import re
from collections.abc import Sequence
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
# What a variant is where none is named.
_UNSAID: Final = {"amd64": "v1", "arm": "v7", "arm64": "v8"}
_VERSIONS: Final = 100  # more than any architecture's variants
_COMPONENT: Final = re.compile("[A-Za-z0-9_-]+")
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

    def preference(self, other: "Platform") -> int | None:
        """Return how well an image for ``other`` runs where this is asked for, 0 best; None: it does not.

        An older variant of the architecture runs on a newer one, 386 on amd64, arm on arm64; never the reverse. An
        image for arm without a variant is for v7, as everywhere.
        """
        wanted, found = self._normal(), other._normal()
        if wanted.os != found.os:
            return None
        for position, (architecture, newest) in enumerate(_runs(wanted.architecture, wanted._version())):
            if found.architecture == architecture:
                behind = newest - found._version()
                return None if behind < 0 else position * _VERSIONS + behind
        return None

    def runs(self, other: "Platform") -> bool:
        """Say whether an image whose config names ``other`` can be used where this is asked for.

        Old builders leave the variant out of a config, whatever it is.
        """
        untold = not other.variant and (self.os, self.architecture) == (other.os, other.architecture)
        return untold or self.preference(other) is not None

    def _normal(self) -> "Platform":
        architecture, variant = _MACHINES.get(self.architecture, (self.architecture, ""))
        return Platform(self.os, architecture, self.variant or variant or _UNSAID.get(architecture, ""))

    def _version(self) -> int:
        version = self.variant.removeprefix("v")
        return int(version) if version.isascii() and version.isdecimal() and len(version) <= 2 else 0


def _runs(architecture: str, version: int) -> Sequence[tuple[str, int]]:
    """Return the architectures whose programs run on one, each with the newest version of it, best first."""
    match architecture:
        case "amd64":
            return (architecture, version), ("386", 0)
        case "arm64":
            return (architecture, version), ("arm", 8)
    return ((architecture, version),)


def host_platform() -> Platform:
    """Return the platform of this machine."""
    machine = host.machine()
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform("linux", architecture, variant)


def parse_platform(text: str) -> Platform:
    """Parse ``os/arch[/variant]``, a bare architecture, or a bare system, which means this machine's architecture.

    Raises:
        InvalidArgumentError: empty parts or more than three of them, or a single one that is neither; in Docker's
            words.
    """
    parts = text.lower().split("/")
    for part in parts:
        if not _COMPONENT.fullmatch(part):
            raise InvalidArgumentError(
                f'"{part[:200]}" is an invalid component of "{text[:200]}": platform specifier component must match '
                f'"^{_COMPONENT.pattern}$": invalid argument'
            )
    if len(parts) > 3:
        raise InvalidArgumentError(f'"{text[:200]}": cannot parse platform specifier: invalid argument')
    if len(parts) == 1:
        (part,) = parts
        if part in _SYSTEMS:
            parts = [part, host_platform().architecture]
        elif part in _ARCHITECTURES or part in _MACHINES:
            parts = ["linux", part]
        else:
            raise InvalidArgumentError(f'"{part}": unknown operating system or architecture: invalid argument')
    architecture, variant = _MACHINES.get(parts[1], (parts[1], ""))
    return Platform(parts[0], architecture, parts[2] if len(parts) == 3 else variant)
