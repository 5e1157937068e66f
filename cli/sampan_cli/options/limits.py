"""``--ulimit``, ``--device``, ``--restart``, ``--cpus`` and other limits."""

import re
from decimal import Decimal, InvalidOperation
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Device, RestartPolicy, Ulimit

_ULIMITS: Final = (
    *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice"),
    *("nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"),
)
_POLICIES: Final = ("no", "always", "unless-stopped", "on-failure")


def parse_ulimit(text: str) -> Ulimit:
    """Parse ``nofile=1024:2048``; one number is both limits, -1 is none.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    name, equals, values = text.partition("=")
    if not equals:
        raise InvalidArgumentError(f"invalid ulimit argument: {text}")
    if name not in _ULIMITS:
        raise InvalidArgumentError(f"invalid ulimit type: {name}")
    soft, colon, hard = values.partition(":")
    try:
        limits = int(soft), int(hard if colon else soft)
    except ValueError:
        raise InvalidArgumentError(f"invalid ulimit argument: {text}") from None
    if limits[1] != -1 and (limits[0] == -1 or limits[0] > limits[1]):
        raise InvalidArgumentError(
            f"ulimit soft limit must be less than or equal to hard limit: {limits[0]} > {limits[1]}"
        )
    return Ulimit(name=name, soft=limits[0], hard=limits[1])


def parse_device(text: str) -> Device:
    """Parse ``/dev/a[:/dev/b][:rwm]``.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    parts = text.split(":")
    permissions = "rwm"
    if len(parts) > 1 and re.fullmatch("[rwm]{1,3}", parts[-1]):
        permissions = parts.pop()
    elif len(parts) == 3:
        raise InvalidArgumentError(f"invalid device mode: {parts[2]}")
    if len(parts) > 2 or not parts[0]:
        raise InvalidArgumentError(f"invalid device specification: {text}")
    for path in parts:
        if not path.startswith("/"):
            raise InvalidArgumentError(f"{path} is not an absolute path")
    return Device(host_path=parts[0], container_path=parts[-1], permissions=permissions)


def parse_restart(text: str) -> RestartPolicy:
    """Parse ``on-failure:3``, ``always``.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    name, colon, count = text.partition(":")
    if colon and not name:
        raise InvalidArgumentError("invalid restart policy format: no policy provided before colon")
    if count and not count.isdigit():
        raise InvalidArgumentError("invalid restart policy format: maximum retry count must be an integer")
    if name and name not in _POLICIES:
        raise InvalidArgumentError(
            f"invalid restart policy: unknown policy '{name}'; use one of {', '.join(map(repr, _POLICIES))}"
        )
    if count and name != "on-failure":
        raise InvalidArgumentError("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    return RestartPolicy(name=name or "no", maximum_retries=int(count or 0))


def nano_cpus(text: str) -> int:
    """Parse a number of CPUs such as ``1.5``.

    Raises:
        InvalidArgumentError: not a number, negative, or finer than a billionth.
    """
    try:
        nano = Decimal(text) * 10**9
    except InvalidOperation:
        raise InvalidArgumentError(f"failed to parse {text} as a rational number") from None
    if not nano.is_finite() or nano < 0:
        raise InvalidArgumentError(f"failed to parse {text} as a rational number")
    if nano != int(nano):
        raise InvalidArgumentError("value is too precise")
    return int(nano)
