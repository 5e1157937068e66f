"""Ulimits: ``nofile=1024:2048``."""

import re
from collections.abc import Iterable
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Ulimit

NAMES: Final = (
    *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice"),
    *("nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"),
)
_VALUES: Final = re.compile(r"(-?[0-9]{1,18})(?::(-?[0-9]{1,18}))?")


def parse_ulimit(text: str) -> Ulimit:
    """Parse ``nofile=1024:2048``; one number is both limits, -1 is none.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    name, _, values = text.partition("=")
    match = _VALUES.fullmatch(values)
    if match is None:
        raise InvalidArgumentError(f"invalid ulimit argument: {text}")
    return Ulimit(name=name, soft=int(match[1]), hard=int(match[2] or match[1]))


def check_ulimits(ulimits: Iterable[Ulimit]) -> None:
    """Raise InvalidArgumentError, in Docker's words, for one that the kernel does not know or that cannot be meant."""
    for ulimit in ulimits:
        if ulimit.name not in NAMES:
            raise InvalidArgumentError(f"invalid ulimit type: {ulimit.name}")
        if ulimit.soft < -1 or ulimit.hard < -1:
            raise InvalidArgumentError(f"invalid ulimit {ulimit.name}: {min(ulimit.soft, ulimit.hard)} is negative")
        if ulimit.hard != -1 and (ulimit.soft == -1 or ulimit.soft > ulimit.hard):
            raise InvalidArgumentError(
                f"ulimit soft limit must be less than or equal to hard limit: {ulimit.soft} > {ulimit.hard}"
            )
