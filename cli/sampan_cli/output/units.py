"""Sizes, durations and times as people read them, in Docker's words."""

import datetime
from typing import Final

_DECIMAL: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_BINARY: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE


def human_size(size_bytes: float, digits: int = 4) -> str:
    """Return ``13.26kB``, in powers of 1000."""
    return _scaled(size_bytes, 1000, _DECIMAL, digits)


def binary_size(size_bytes: float, digits: int = 4) -> str:
    """Return ``12.95KiB``, in powers of 1024."""
    return _scaled(size_bytes, 1024, _BINARY, digits)


def _scaled(size: float, base: int, units: tuple[str, ...], digits: int) -> str:
    exponent = 0
    while size >= base and exponent < len(units) - 1:
        size /= base
        exponent += 1
    return f"{size:.{digits}g}{units[exponent]}"


def human_duration(seconds: float) -> str:
    """Return ``About an hour``, ``3 weeks``; whole units, rounded as Docker does."""
    whole = int(seconds)
    hours = int(seconds / _HOUR + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole < _MINUTE:
        return "1 second" if whole == 1 else f"{whole} seconds"
    if whole < _HOUR:
        return "About a minute" if whole < 2 * _MINUTE else f"{whole // _MINUTE} minutes"
    if hours == 1:
        return "About an hour"
    for limit, unit, name in (
        (48, 1, "hours"),
        (24 * 7 * 2, 24, "days"),
        (24 * 30 * 2, 24 * 7, "weeks"),
        (24 * 365 * 2, 24 * 30, "months"),
    ):
        if hours < limit:
            return f"{hours // unit} {name}"
    return f"{hours // (24 * 365)} years"


def ago(then_s: float, now_s: float) -> str:
    """Return ``3 weeks ago``; a time that is not known is ``N/A``."""
    return f"{human_duration(max(0.0, now_s - then_s))} ago" if then_s else "N/A"


def local_time(seconds: float) -> str:
    """Return ``2026-11-24 03:58:18 +0100 CET``: how list templates show a time."""
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %z %Z")


def rfc3339(seconds: int, nanos: int) -> str:
    """Return ``2026-11-24T03:58:18.000000012Z``; trailing zeros are left out as Go does."""
    text = datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{nanos:09d}".rstrip("0").rstrip(".")
    return f"{text}{fraction}Z"


def rfc3339_fixed(seconds: int, nanos: int) -> str:
    """Return a time with all nine digits, as log lines have it, so that lines align."""
    text = datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{nanos:09d}Z"
