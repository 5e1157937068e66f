"""Records of a pax extended header.

Reference: POSIX.1-2017 ``pax``, "pax Extended Header"; star's SCHILY.xattr records.
"""

import os
import re
from typing import Final

from sampan.errors import InvalidArgumentError

_XATTR: Final = "SCHILY.xattr."
_XATTR_NAME_MAX: Final = 255  # linux/limits.h, as the next
_XATTR_SIZE_MAX: Final = 65536
_XATTR_LIST_MAX: Final = 65536
_NAMESPACES: Final = frozenset({"user.", "trusted.", "security.", "system."})  # a prefix alone names nothing
_DECIMAL: Final = re.compile(rb"(-?)(\d{1,19})(?:\.(\d*))?")
# Seconds that fit a 64-bit count of nanoseconds.
_MAX_SECONDS: Final = 2**63 // 10**9 - 1


def parse(body: bytes) -> dict[str, bytes]:
    """Return the records of ``"<length> <key>=<value>\\n"``; of a repeated key the last.

    GNU's sparse format 0.0 repeats two keys per part of a file, so their values are collected under GNU.sparse.map,
    as format 0.1 has them.

    Raises:
        InvalidArgumentError: a record is malformed.
    """
    records: dict[str, bytes] = {}
    numbers: list[bytes] = []
    start = 0
    while start < len(body):
        space = body.find(b" ", start, start + 20)
        digits = body[start:space]
        if space < 0 or not digits.isdigit():
            raise InvalidArgumentError("tar archive has a pax header without a length")
        end = start + int(digits)
        record = body[space + 1 : end]
        key, equals, value = record[:-1].partition(b"=")
        if end > len(body) or end <= space or not equals or not key or record[-1:] != b"\n":
            raise InvalidArgumentError("tar archive has a malformed pax header")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            numbers.append(value)
        else:
            records[key.decode(errors="surrogateescape")] = value
        start = end
    if numbers:
        records["GNU.sparse.map"] = b",".join(numbers)
    return records


def integer(records: dict[str, bytes], key: str, default: int) -> int:
    """Return a record that is a whole number; an empty one, by POSIX, is as good as none."""
    value = records.get(key)
    if not value:
        return default
    if not value.isdigit() or len(value) > 20:
        raise InvalidArgumentError(f"tar archive has a pax header with {key} {value[:40]!r}, which is no whole number")
    return int(value)


def nanoseconds(records: dict[str, bytes], key: str, default_s: int) -> int:
    """Return a time; digits past the nanosecond are dropped.

    One that 64 bits of nanoseconds cannot hold, as of the years 0 and 9999, is none: it becomes 1970, as in Docker.
    """
    value = records.get(key)
    if not value:
        seconds, fraction, negative = abs(default_s), 0, default_s < 0
    else:
        match = _DECIMAL.fullmatch(value)
        if match is None:
            raise InvalidArgumentError(f"tar archive has a pax header with {key} {value[:40]!r}, which is no time")
        seconds, negative = int(match[2]), bool(match[1])
        fraction = int((match[3] or b"")[:9].ljust(9, b"0"))
    if seconds > _MAX_SECONDS:
        return 0
    total = seconds * 10**9 + fraction
    return -total if negative else total


def xattrs(records: dict[str, bytes]) -> dict[str, bytes]:
    """Return the extended attributes among the records.

    Raises:
        InvalidArgumentError: one that no Linux file system can have.
    """
    found = {key[len(_XATTR) :]: value for key, value in records.items() if key.startswith(_XATTR)}
    if sum(len(os.fsencode(name)) + 1 for name in found) > _XATTR_LIST_MAX:
        raise InvalidArgumentError(
            f"tar archive has {len(found)} extended attributes on an entry: names may take {_XATTR_LIST_MAX} bytes"
        )
    for name, value in found.items():
        if not name or name in _NAMESPACES or "\0" in name or len(os.fsencode(name)) > _XATTR_NAME_MAX:
            raise InvalidArgumentError(
                f"tar archive has an extended attribute {name[:40]!r}: names have 1 to {_XATTR_NAME_MAX} bytes, no NUL"
            )
        if len(value) > _XATTR_SIZE_MAX:
            raise InvalidArgumentError(
                f"tar archive has an extended attribute {name!r} of {len(value)} bytes, the most is {_XATTR_SIZE_MAX}"
            )
    return found
