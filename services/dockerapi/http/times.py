"""Protobuf's times in the shape that Docker's clients know."""

from datetime import UTC, datetime
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

# Go's zero time, which Docker sends for "never".
NEVER: Final = "0001-01-01T00:00:00Z"


def rfc3339(stamp: Timestamp) -> str:
    """Return RFC 3339 with nanoseconds without trailing zeros, as Go's RFC3339Nano; ``NEVER`` if not set."""
    return rfc3339_known(stamp) if stamp.seconds or stamp.nanos else NEVER


def rfc3339_known(stamp: Timestamp) -> str:
    """Return the same for a time that is there: zero is the beginning of 1970, as files and images often have it."""
    return _date(stamp.seconds) + (f".{stamp.nanos:09d}".rstrip("0") if stamp.nanos else "") + "Z"


def duration_ns(duration: Duration) -> int:
    """Return a duration in nanoseconds."""
    return duration.seconds * 1_000_000_000 + duration.nanos


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
