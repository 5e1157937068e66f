"""``--security-opt``: what each means here, and which of the kernel's files a container does not see."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.docker.booleans import SPELLINGS
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Security

_MASKED: Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)

_READONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


@dataclass(frozen=True, slots=True)
class SecurityOptions:
    """The options, parsed."""

    no_new_privileges: bool = False
    seccomp: str = ""  # "", "builtin", "unconfined", or a profile in JSON
    apparmor: str = ""
    labels: tuple[str, ...] = ()
    system_paths_confined: bool = True
    writable_cgroups: bool = False


def parse_security_options(options: Sequence[str]) -> SecurityOptions:
    """Read ``--security-opt`` values, ``name=value`` or the older ``name:value``; later ones win.

    Raises:
        InvalidArgumentError: an unknown option, or a seccomp profile that is no JSON object; in Docker's words.
    """
    no_new_privileges = False
    seccomp = ""
    apparmor = ""
    labels: list[str] = []
    confined = True
    writable_cgroups = False
    for option in options:
        name, separator, value = _split(option)
        match name:
            case "no-new-privileges" if not separator or value in SPELLINGS:
                no_new_privileges = not separator or SPELLINGS[value]
            case "seccomp" if separator:
                seccomp = value
            case "apparmor" if separator:
                apparmor = value
            case "label" if separator:
                labels.append(value)
            case "systempaths" if value == "unconfined":
                confined = False
            case "writable-cgroups" if value in SPELLINGS:
                writable_cgroups = SPELLINGS[value]
            case _:
                number = 1 if separator else 2
                raise InvalidArgumentError(f'invalid --security-opt {number}: "{option}"')
    if seccomp not in ("", "builtin", "unconfined"):
        _check_profile(seccomp)
    return SecurityOptions(no_new_privileges, seccomp, apparmor, tuple(labels), confined, writable_cgroups)


def hidden_paths(security: Security, options: SecurityOptions) -> tuple[list[str], list[str]]:
    """Return the paths to mask and those to make read-only."""
    if security.privileged or not options.system_paths_confined:
        return [], []
    if security.own_paths:
        return list(security.masked_paths), list(security.readonly_paths)
    return [*_MASKED, *_throttle_paths()], list(_READONLY)


def _throttle_paths() -> list[str]:
    """How hot each core has been tells neighbours apart; the path is there once per CPU, on some machines only."""
    return sorted(map(str, Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle")))


def _split(option: str) -> tuple[str, str, str]:
    name, separator, value = option.partition("=")
    if not separator:
        name, separator, value = option.partition(":")
    return name, separator, value


def _check_profile(text: str) -> None:
    try:
        profile = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidArgumentError(f"Decoding seccomp profile failed: {error}") from error
    if not isinstance(profile, dict):
        raise InvalidArgumentError("Decoding seccomp profile failed: it is not a JSON object")
