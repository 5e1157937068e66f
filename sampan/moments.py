"""Durations and points in time as Docker's filters write them, read in time linear in the text."""

import json
import re
from datetime import datetime
from typing import Final

from sampan.errors import InvalidArgumentError

_NUMBER: Final = r"(?:\d++(?:\.\d*+)?|\.\d++)"
_UNIT: Final = r"(?:ns|us|µs|ms|s|m|h)"
_PIECE: Final = re.compile(rf"({_NUMBER})({_UNIT})", re.ASCII)
# Numbers are possessive, and the whole is matched before pieces are looked for: no digit is read twice.
_DURATION: Final = re.compile(rf"(?:{_NUMBER}{_UNIT})+", re.ASCII)
_UNITS_NS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_SECONDS: Final = re.compile(r"(\d{1,10})(?:\.(\d{1,9})\d*+)?", re.ASCII)
_DATE: Final = re.compile(r"\d{4}-(\d\d)-\d\d.*", re.ASCII)
_MAX_INT64: Final = 2**63 - 1


def duration_ns(text: str) -> int | None:
    """Return the nanoseconds of ``1h30m``, ``1.5s`` and the like; None for anything else, or what int64 cannot hold."""
    if not _DURATION.fullmatch(text):
        return None
    total = sum(float(number) * _UNITS_NS[unit] for number, unit in _PIECE.findall(text))
    return int(total) if total <= _MAX_INT64 else None


def until_ns(text: str, now_ns: int) -> int:
    """Read a moment: seconds since 1970, a date or RFC 3339, or a duration such as ``1h30m`` before now.

    Returns:
        nanoseconds since the epoch.

    Raises:
        InvalidArgumentError: it is none of these; in Go's words.
    """
    if (duration := duration_ns(text)) is not None:
        return now_ns - duration
    if match := _SECONDS.fullmatch(text):
        return int(match[1]) * 10**9 + int((match[2] or "").ljust(9, "0"))
    try:
        moment = datetime.fromisoformat(text)
        return to_ns(moment if moment.tzinfo else moment.astimezone())
    except (ValueError, OverflowError):
        raise InvalidArgumentError(_not_a_time(text)) from None


def to_ns(moment: datetime) -> int:
    """Return a datetime, which knows microseconds, in nanoseconds since the epoch."""
    return int(moment.timestamp() * 1e6) * 1000


def _not_a_time(text: str) -> str:
    """Return what Go says of it."""
    quoted = json.dumps(text[:200], ensure_ascii=False)
    if "-" not in text:
        return f"failed to parse value as time or duration: {quoted}"
    if date := _DATE.fullmatch(text):
        return f"parsing time {quoted}: {'day' if 1 <= int(date[1]) <= 12 else 'month'} out of range"
    return f'parsing time {quoted} as "2006-01-02": cannot parse {quoted} as "2006"'
