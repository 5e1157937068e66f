"""Devices of the host, ``/dev/a:/dev/b:rwm``, and rules of the device cgroup, ``c 1:* rw``."""

import re
from collections.abc import Iterable
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Device

ALL: Final = "rwm"
_PERMISSIONS: Final = re.compile(r"[rwm]{1,3}")
_RULE: Final = re.compile(r"([acb]) ([0-9]{1,10}|\*):([0-9]{1,10}|\*) ([rwm]{1,3})")


def parse_device(text: str) -> Device:
    """Parse ``/dev/a[:/dev/b][:rwm]``.

    Raises:
        InvalidArgumentError: in Docker's words, more or less than that; ``check_devices`` looks at the parts.
    """
    host, *rest = text.split(":")
    if not host or len(rest) > 2:
        raise InvalidArgumentError(f"invalid device specification: {text}")
    if len(rest) == 2:
        return device(host, rest[0], rest[1])
    if rest and _PERMISSIONS.fullmatch(rest[0]):
        return device(host, "", rest[0])
    return device(host, *rest)


def device(host: str, container: str = "", permissions: str = "") -> Device:
    """Return a device; what is empty is the same as on the host, and everything."""
    return Device(host, container or host, permissions or ALL)


def check_devices(devices: Iterable[Device], rules: Iterable[str]) -> None:
    """Raise InvalidArgumentError for paths, permissions or rules of the wrong form; a start looks for the devices."""
    for one in devices:
        if "\0" in one.host_path + one.container_path:
            raise InvalidArgumentError(f"device {one.host_path[:40]!r}: its path has a NUL byte in it")
        if one.permissions and not _PERMISSIONS.fullmatch(one.permissions):
            raise InvalidArgumentError(f"invalid device mode: {one.permissions}")
        for path in (one.host_path, one.container_path or one.host_path):
            if not path.startswith("/"):
                raise InvalidArgumentError(f"{path} is not an absolute path")
    for rule in rules:
        parse_rule(rule)


def parse_rule(text: str) -> tuple[str, str, str, str]:
    """Return type, major, minor and access of a rule; ``*`` stands for all numbers.

    Raises:
        InvalidArgumentError: it is none; in Docker's words.
    """
    match = _RULE.fullmatch(text)
    if match is None:
        raise InvalidArgumentError(f"invalid device cgroup rule format: '{text}'")
    return match[1], match[2], match[3], match[4]
