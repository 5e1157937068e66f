"""Points in time as Docker's clients write and read them."""

import re
import time
from datetime import UTC, datetime
from typing import Final

from sampan.docker.durations import parse_duration, quoted
from sampan.errors import InvalidArgumentError

# Go's zero time, which Docker sends for "never".
NEVER: Final = "0001-01-01T00:00:00Z"

_SECOND_NS: Final = 1_000_000_000
# What datetime, protobuf's Timestamp and RFC 3339 can say: the years 1 to 9999.
_FIRST_S: Final = -62_135_596_800
_LAST_S: Final = 253_402_300_799

_MAX_DIGITS: Final = 19  # of an int64
_UNIX: Final = re.compile(r"([+-]?)([0-9]++)(?:\.([0-9]++))?")
_DATE: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:[.,](\d{1,9})\d*+)?)?)?)?"
    r"(?:Z|([+-])(\d\d):(\d\d))?",
    re.ASCII,
)
_PARTS: Final = (("month", 2, 1, 12), ("hour", 4, 0, 23), ("minute", 5, 0, 59), ("second", 6, 0, 59))


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


def local_time(seconds: float) -> str:
    """Return ``2026-11-24 03:58:18 +0100 CET``: how list templates show a time."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %z %Z")


def local_moment(moment: datetime) -> str:
    """Return ``2026-11-24 03:58:18.25 +0100 CET``: the same with the fraction that a moment has."""
    local = moment.astimezone()
    fraction = f".{local.microsecond:06d}".rstrip("0") if local.microsecond else ""
    return f"{local:%Y-%m-%d %H:%M:%S}{fraction} {local:%z %Z}"


def zoned(moment: datetime) -> str:
    """Return RFC 3339 in the zone that is local here."""
    return moment.astimezone().isoformat().replace("+00:00", "Z")


def to_ns(moment: datetime) -> int:
    """Return a datetime, which knows microseconds, in nanoseconds since 1970."""
    return int(moment.timestamp() * 1e6) * 1000


def parse_moment(text: str, now_ns: int, offset_s: int | None = None) -> int:
    """Read the moment that a filter or an option names, as Docker's GetTimestamp does.

    It is a duration before now (``1h30m``; a negative one is after now), seconds since 1970 with a fraction, or a date
    with as much of the time as is known: ``2026-01-31``, ``2026-01-31T08``, ``2026-01-31T08:00:00.5+01:00``. Without a
    zone it is in one that is ``offset_s`` ahead of UTC; None: in the local one, with the offset that holds now.

    Returns:
        nanoseconds since 1970; beyond the years 1 to 9999, the nearest end of them.

    Raises:
        InvalidArgumentError: it is none of these; in Go's words.
    """
    if text != "0":
        try:
            return _within(now_ns - parse_duration(text))
        except InvalidArgumentError:
            pass
    if offset_s is None:
        offset_s = _local_offset_s(now_ns)
    if (date := _date_ns(text, offset_s)) is not None:
        return date
    if "-" not in text and (unix := _unix_ns(text)) is not None:
        return unix
    raise InvalidArgumentError(_not_a_time(text))


def parse_point(text: str, name: str) -> int:
    """Read ``since`` or ``until`` of a request: seconds since 1970 with a fraction, or RFC 3339.

    Returns:
        nanoseconds since 1970; 0 if the text is empty or ``0``, which is no limit.

    Raises:
        InvalidArgumentError: anything else.
    """
    if text in ("", "0"):
        return 0
    if (unix := _unix_ns(text)) is not None:
        return unix
    try:
        date = _date_ns(text, _local_offset_s(time.time_ns())) if "T" in text else None
    except InvalidArgumentError:
        date = None
    if date is None:
        raise InvalidArgumentError(f"invalid value for {name}: {quoted(text)} is neither seconds nor RFC 3339")
    return date


def _unix_ns(text: str) -> int | None:
    """Return what seconds since 1970 come to, None if it is no such number or none that an int64 holds."""
    match = _UNIX.fullmatch(text)
    digits = match[2].lstrip("0") if match else ""
    if match is None or len(digits) > _MAX_DIGITS or int(digits or 0) >= 2**63:
        return None
    total = int(digits or 0) * _SECOND_NS + int((match[3] or "")[:9].ljust(9, "0"))
    return _within(-total if match[1] == "-" else total)


def _date_ns(text: str, local_s: int) -> int | None:
    """Return the moment of a date, one without a zone ``local_s`` ahead of UTC; None if it is written like none.

    Raises:
        InvalidArgumentError: it is written like one, and there is no such day or hour.
    """
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    for part, group, low, high in _PARTS:
        if match[group] is not None and not low <= int(match[group]) <= high:
            raise InvalidArgumentError(f"parsing time {quoted(text)}: {part} out of range")
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise InvalidArgumentError(f"parsing time {quoted(text)}: day out of range") from None
    seconds = int(moment.timestamp()) - _offset_s(match, local_s)
    return _within(seconds * _SECOND_NS + int((match[7] or "").ljust(9, "0")))


def _offset_s(match: re.Match[str], local_s: int) -> int:
    """Return how far the zone of a date is ahead of UTC, in seconds."""
    if match[8]:
        return (int(match[9]) * 3600 + int(match[10]) * 60) * (-1 if match[8] == "-" else 1)
    if match[0].endswith("Z"):
        return 0
    return local_s


def _local_offset_s(now_ns: int) -> int:
    return time.localtime(now_ns // _SECOND_NS).tm_gmtoff


def _within(time_ns: int) -> int:
    return max(_FIRST_S * _SECOND_NS, min(time_ns, _LAST_S * _SECOND_NS))


def _not_a_time(text: str) -> str:
    """Return what Go says of it."""
    shown = quoted(text)
    if "-" not in text:
        return f"failed to parse value as time or duration: {shown}"
    return f'parsing time {shown} as "2006-01-02": cannot parse {shown} as "2006"'


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
