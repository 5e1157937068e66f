"""Runtime handlers: what a cluster's RuntimeClass names, and the OCI runtime that it means."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from sampan.errors import InvalidArgumentError
from sampan.resource.stats import HostInfo

# The first kernels that make all mounts below a mount read-only, and that show layers of an overlay by other IDs.
_RECURSIVE_SINCE: Final = (5, 12)
_MAPPED_SINCE: Final = (5, 19)

DEFAULT: Final = ""


@dataclass(frozen=True, slots=True)
class Handlers:
    """All handlers; the default one has an empty name."""

    runtimes: Mapping[str, str]  # by handler; empty: runtimed's own choice
    recursive_read_only: bool = False
    user_namespaces: bool = False

    @classmethod
    def of(cls, configured: Sequence[str], info: HostInfo, release: str = "") -> Self:
        """Put together what is configured, as ``NAME=RUNTIME``, and what runtimes there are.

        Raises:
            InvalidArgumentError: something that is no such pair, or a runtime that is not here.
        """
        known = [runtime.name for runtime in info.runtimes if runtime.usable]
        found = {DEFAULT: "", **{name: name for name in known}}
        for text in configured:
            name, sign, runtime = text.partition("=")
            if not name or not sign:
                raise InvalidArgumentError(f"runtime_handlers has {text!r}: expected NAME=RUNTIME")
            if runtime not in known:
                raise InvalidArgumentError(f"runtime_handlers: no runtime {runtime!r}: there are {', '.join(known)}")
            found[name] = runtime
        version = (release or os.uname().release).split(".")
        major, minor = (int("".join(filter(str.isdigit, part)) or 0) for part in (*version, "0", "0")[:2])
        return cls(found, (major, minor) >= _RECURSIVE_SINCE, (major, minor) >= _MAPPED_SINCE)

    @property
    def names(self) -> Sequence[str]:
        """What pods may name."""
        return tuple(self.runtimes)
