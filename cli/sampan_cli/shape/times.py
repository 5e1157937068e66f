"""Protobuf's times as text."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sampan.docker.times import NEVER, rfc3339_ns


def shape_time(message: Timestamp) -> str:
    """Return RFC 3339 with nanoseconds, or Go's zero time for one that is not set."""
    if not message.seconds and not message.nanos:
        return NEVER
    return rfc3339_ns(message.ToNanoseconds())


def nanoseconds(message: Duration) -> int:
    """Return a duration as Docker's JSON has it."""
    return message.seconds * 1_000_000_000 + message.nanos
