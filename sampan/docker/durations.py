"""Durations as Docker's clients write and read them: Go's syntax, JSON's nanoseconds, and words."""

import json
import re
from typing import Final

from sampan.errors import InvalidArgumentError

# What Go's time.Duration holds.
MIN_NS: Final = -(2**63)
MAX_NS: Final = 2**63 - 1

_SECOND_NS: Final = 10**9
_UNITS_NS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,  # U+00B5, the micro sign
    "μs": 10**3,  # U+03BC, the Greek letter
    "ms": 10**6,
    "s": _SECOND_NS,
    "m": 60 * _SECOND_NS,
    "h": 3600 * _SECOND_NS,
}
# A number and its unit. Every part is possessive: no character is looked at twice, however long the text is.
_PIECE: Final = re.compile(r"([0-9]*+)(?:\.([0-9]*+))?([^0-9.]*+)")
_MAX_DIGITS: Final = 19  # of an int64
_MAX_FRACTION: Final = 18  # digits behind the point that Go looks at


def parse_duration(text: str) -> int:
    """Return the nanoseconds of ``1h30m``, ``.5h``, ``-1.5s`` or ``0``, as Go's time.ParseDuration does.

    Raises:
        InvalidArgumentError: in Go's words, for anything else and for what an int64 cannot hold.
    """
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text.startswith(("-", "+")) else text
    if rest == "0":
        return 0
    if not rest:
        raise InvalidArgumentError(f"time: invalid duration {quoted(text)}")
    total = at = 0
    while at < len(rest):
        match = _PIECE.match(rest, at)
        assert match is not None  # it matches anything, and at least one character of what is left
        total += _piece_ns(text, match)
        if total > MAX_NS + (sign < 0):
            raise InvalidArgumentError(f"time: invalid duration {quoted(text)}")
        at = match.end()
    return sign * total


def _piece_ns(text: str, match: re.Match[str]) -> int:
    whole, fraction, unit = match[1].lstrip("0"), match[2] or "", match[3]
    if not (match[1] or fraction) or len(whole) > _MAX_DIGITS:
        raise InvalidArgumentError(f"time: invalid duration {quoted(text)}")
    if not unit:
        raise InvalidArgumentError(f"time: missing unit in duration {quoted(text)}")
    unit_ns = _UNITS_NS.get(unit)
    if unit_ns is None:
        raise InvalidArgumentError(f"time: unknown unit {quoted(unit)} in duration {quoted(text)}")
    fraction = fraction[:_MAX_FRACTION]
    scale: int = 10 ** len(fraction)
    return int(whole or "0") * unit_ns + int(fraction or "0") * unit_ns // scale


def duration_ns(seconds: float) -> int:
    """Return a duration as Docker's JSON has it."""
    return round(seconds * _SECOND_NS)


def go_duration(duration_ns: int) -> str:
    """Return a duration as Go writes it: ``1m30s``, ``1.5s``, ``100ms``."""
    if duration_ns == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 1000), ("ms", 10**6)):
        if duration_ns < size * 1000:
            return f"{duration_ns / size:.9f}".rstrip("0").rstrip(".") + unit
    minutes, rest_ns = divmod(duration_ns, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest_ns // 10**9}.{rest_ns % 10**9:09d}".rstrip("0").rstrip(".")
    return f"{f'{hours}h' if hours else ''}{f'{minutes}m' if hours or minutes else ''}{seconds}s"


def human_duration(seconds: float) -> str:
    """Say how long something took the way ``docker ps`` does.

    Each unit goes on until the next one is clearly the better word: 59 seconds, 59 minutes, 47 hours, 13 days.
    """
    whole = max(0, int(seconds))
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    for size, unit, end in (
        (1, "hours", 48),
        (24, "days", 24 * 14),
        (168, "weeks", 720 * 2),
        (720, "months", 8760 * 2),
    ):
        if hours < end:
            return f"{hours // size} {unit}"
    return f"{int(seconds / 3600) // 8760} years"


def ago(then_s: float, now_s: float) -> str:
    """Return ``3 weeks ago``; a time that is not known is ``N/A``."""
    return f"{human_duration(max(0.0, now_s - then_s))} ago" if then_s else "N/A"


def quoted(text: str) -> str:
    """Return a text as Go's ``%q`` has it in an error, not longer than a line or two."""
    return json.dumps(text[:200], ensure_ascii=False)
