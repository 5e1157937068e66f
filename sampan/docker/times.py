"""Points in time and durations as Docker's clients write and read them."""

from datetime import UTC, datetime
from typing import Final

# Go's zero time, which Docker sends for "never".
NEVER: Final = "0001-01-01T00:00:00Z"

_SECOND_NS: Final = 1_000_000_000


def rfc3339(moment: datetime | None) -> str:
    """Return RFC 3339 with a fraction without trailing zeros, as Go's RFC3339Nano; ``NEVER`` for None."""
    if moment is None:
        return NEVER
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"


def rfc3339_ns(time_ns: int) -> str:
    """Return the same for nanoseconds since 1970; zero is the beginning of 1970, as files often have it."""
    seconds, nanos = divmod(time_ns, _SECOND_NS)
    return _date(seconds) + (f".{nanos:09d}".rstrip("0") if nanos else "") + "Z"


def rfc3339_fixed(time_ns: int) -> str:
    """Return RFC 3339 with all nine digits, the form of log lines."""
    seconds, nanos = divmod(time_ns, _SECOND_NS)
    return f"{_date(seconds)}.{nanos:09d}Z"


def duration_ns(seconds: float) -> int:
    """Return a duration as Docker's JSON has it."""
    return round(seconds * _SECOND_NS)


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


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
