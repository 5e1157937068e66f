"""The fields of a tar header."""

import functools

from sampan.errors import InvalidArgumentError


def text(field: bytes) -> bytes:
    """Return a field up to its first NUL."""
    end = field.find(b"\0")
    return field if end < 0 else field[:end]


@functools.lru_cache(4096)  # an archive's modes, owners and times are few
def number(field: bytes, what: str) -> int:
    """Return a numeric field: octal digits, or GNU's base 256, marked by the first byte's top bit."""
    if field[0] & 0x80:
        # Two's complement of all bits but the marking one.
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
    digits = field.strip(b" \0")
    end = digits.find(b"\0")  # some writers leave old bytes after the NUL
    if end >= 0:
        digits = digits[:end]
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        raise InvalidArgumentError(f"tar header has the {what} {digits!r}, which is not an octal number")
    return int(digits, 8)
