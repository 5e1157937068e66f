"""JSON as clients of Docker get it."""

import json


class Written(bytes):
    """What is JSON already, without a line feed: a row of a list."""


def encode(value: object) -> bytes:
    """Return ``value`` as Go's encoder writes it: compact, UTF-8, with a line feed at the end."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogateescape") + b"\n"
