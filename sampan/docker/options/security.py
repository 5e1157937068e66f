"""Security options, and which of the kernel's files a container does not see unless it asks for them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sampan.docker.booleans import SPELLINGS
from sampan.errors import InvalidArgumentError

MASKED_PATHS: Final = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


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
        match split_option(option):
            case "no-new-privileges", None:
                no_new_privileges = True
            case "no-new-privileges", str(value) if value in SPELLINGS:
                no_new_privileges = SPELLINGS[value]
            case "seccomp", str(value):
                seccomp = value
            case "apparmor", str(value):
                apparmor = value
            case "label", str(value):
                labels.append(value)
            case "systempaths", "unconfined":
                confined = False
            case "writable-cgroups", str(value) if value in SPELLINGS:
                writable_cgroups = SPELLINGS[value]
            case _, value:
                number = 1 if value is None else 2
                raise InvalidArgumentError(f'invalid --security-opt {number}: "{option}"')
    if seccomp not in ("", "builtin", "unconfined"):
        _check_profile(seccomp)
    return SecurityOptions(no_new_privileges, seccomp, apparmor, tuple(labels), confined, writable_cgroups)


def split_option(option: str) -> tuple[str, str | None]:
    """Return name and value of one of them; None if it has no value."""
    for separator in "=:":
        name, found, value = option.partition(separator)
        if found:
            return name, value
    return option, None


def _check_profile(text: str) -> None:
    try:
        profile = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidArgumentError(f"Decoding seccomp profile failed: {_in_go_s_words(error)}") from error
    except RecursionError as error:
        raise InvalidArgumentError(f"Decoding seccomp profile failed: {error}") from error
    if profile is not None and not isinstance(profile, dict):
        raise InvalidArgumentError("Decoding seccomp profile failed: it is not a JSON object")


def _in_go_s_words(error: json.JSONDecodeError) -> str:
    """Say of what is no JSON what Docker says where a value should begin: of a file's name, above all."""
    if not error.msg.startswith("Expecting value"):
        return str(error)
    rest = error.doc[error.pos :]
    return f"invalid character '{rest[0]}' looking for beginning of value" if rest else "unexpected end of JSON input"
