"""Numbers with units: sizes, CPUs, durations, points in time."""

import datetime
import re
from decimal import Decimal, InvalidOperation
from typing import Final

from sampan.errors import InvalidArgumentError

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp])?i?b?", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}

_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}

_SECOND: Final = 1_000_000_000
_UNIX: Final = re.compile(r"(\d+)(?:\.(\d{1,9}))?")
# Docker takes these besides RFC 3339, in the local time zone.
_LOCAL: Final = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?")


def size_bytes(text: str) -> int:
    """Parse ``512m``, ``1.5GiB``, ``1024``; units are powers of 1024.

    Raises:
        InvalidArgumentError: ``invalid size: '…'``.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InvalidArgumentError(f"invalid size: '{text}'")
    number, unit = match.groups()
    return int(Decimal(number) * 1024 ** _POWERS[(unit or "").lower()])


def nano_cpus(text: str) -> int:
    """Parse a number of CPUs such as ``1.5``.

    Raises:
        InvalidArgumentError: not a number, negative, or finer than a billionth.
    """
    try:
        nano = Decimal(text) * _SECOND
    except InvalidOperation:
        raise InvalidArgumentError(f"failed to parse {text} as a rational number") from None
    if not nano.is_finite() or nano < 0:
        raise InvalidArgumentError(f"failed to parse {text} as a rational number")
    if nano != int(nano):
        raise InvalidArgumentError("value is too precise")
    return int(nano)


def duration_ns(text: str) -> int:
    """Parse Go's durations: ``1h30m``, ``1.5s``, ``300ms``, ``0``.

    Raises:
        InvalidArgumentError: in Go's words.
    """
    if text == "0":
        return 0
    total, at = Decimal(0), 0
    while at < len(text):
        match = _DURATION.match(text, at)
        if match is None:
            break
        total += Decimal(match[1]) * _NANOSECONDS[match[2]]
        at = match.end()
    if not text or at < len(text):
        raise InvalidArgumentError(f'time: invalid duration "{text}"')
    return int(total)


def point_in_time_ns(text: str, now_ns: int) -> int:
    """Parse what ``--since`` and ``--until`` take: RFC 3339, a Unix time, or a duration back from now.

    Raises:
        InvalidArgumentError: none of these.
    """
    if unix := _UNIX.fullmatch(text):
        return int(unix[1]) * _SECOND + int((unix[2] or "").ljust(9, "0"))
    if local := _LOCAL.fullmatch(text):
        day, clock, fraction, zone = local.groups()
        try:
            moment = datetime.datetime.fromisoformat(f"{day}T{clock or '00:00'}{zone or ''}")
        except ValueError:
            raise InvalidArgumentError(f"invalid time {text!r}") from None
        seconds = int((moment if moment.tzinfo else moment.astimezone()).timestamp())
        return seconds * _SECOND + int((fraction or ".").removeprefix(".").ljust(9, "0"))
    try:
        return now_ns - duration_ns(text)
    except InvalidArgumentError:
        raise InvalidArgumentError(
            f"invalid time {text!r}: expected a time such as 2026-01-31T08:00:00Z, a Unix time, or a duration "
            "such as 10m"
        ) from None
