"""Points in time and durations as Docker's clients write and read them."""

import re
from datetime import UTC, datetime
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from dockerapi.http.decode import shown
from sampan.errors import InvalidArgumentError

# Go's zero time, which Docker sends for "never".
NEVER: Final = "0001-01-01T00:00:00Z"

_SECONDS: Final = re.compile(r"(-?)(\d{1,19})(?:\.(\d{1,9})\d*)?")
_UNIX_RANGE: Final = 253_402_300_799  # the last second of the year 9999


def rfc3339(stamp: Timestamp) -> str:
    """Return RFC 3339 with nanoseconds without trailing zeros, as Go's RFC3339Nano; ``NEVER`` if not set."""
    return rfc3339_known(stamp) if stamp.seconds or stamp.nanos else NEVER


def rfc3339_known(stamp: Timestamp) -> str:
    """Return the same for a time that is there: zero is the beginning of 1970, as files and images often have it."""
    return _date(stamp.seconds) + (f".{stamp.nanos:09d}".rstrip("0") if stamp.nanos else "") + "Z"


def rfc3339_fixed(stamp: Timestamp) -> str:
    """Return RFC 3339 with all nine digits, the form of log lines."""
    return f"{_date(stamp.seconds)}.{stamp.nanos:09d}Z"


def nanoseconds(stamp: Timestamp) -> int:
    """Return nanoseconds since the epoch."""
    return stamp.seconds * 1_000_000_000 + stamp.nanos


def duration_ns(duration: Duration) -> int:
    """Return a duration in nanoseconds."""
    return duration.seconds * 1_000_000_000 + duration.nanos


def to_duration(value_ns: int) -> Duration:
    """Return a duration of ``value_ns`` nanoseconds."""
    seconds, nanos = divmod(value_ns, 1_000_000_000)
    return Duration(seconds=seconds, nanos=nanos)


def parse_point(text: str, name: str) -> Timestamp | None:
    """Parse ``since`` or ``until``: seconds since the epoch with a fraction, or RFC 3339; None if empty or ``0``.

    Raises:
        InvalidArgumentError: anything else.
    """
    if text in ("", "0"):
        return None
    match = _SECONDS.fullmatch(text)
    if match and int(match[2]) <= _UNIX_RANGE:
        sign = -1 if match[1] else 1
        fraction = int((match[3] or "").ljust(9, "0") or 0)
        total = sign * (int(match[2]) * 1_000_000_000 + fraction)
        seconds, nanos = divmod(total, 1_000_000_000)
        return Timestamp(seconds=seconds, nanos=nanos)
    stamp = Timestamp()
    try:
        stamp.FromJsonString(text)
    except ValueError:
        raise InvalidArgumentError(f"invalid value for {name}: {shown(text)} is neither seconds nor RFC 3339") from None
    return stamp


def point_ns(text: str, name: str) -> int:
    """Parse ``since`` or ``until`` to nanoseconds since 1970; 0 if empty or ``0``. Raises as ``parse_point``."""
    stamp = parse_point(text, name)
    return 0 if stamp is None else nanoseconds(stamp)


def now() -> Timestamp:
    """Return the present."""
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp


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
