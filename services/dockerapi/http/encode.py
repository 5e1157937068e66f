"""JSON as clients of Docker get it."""

import json


def encode(value: object) -> bytes:
    """Return ``value`` as Go's encoder writes it: compact, UTF-8, with a line feed at the end."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogateescape") + b"\n"
