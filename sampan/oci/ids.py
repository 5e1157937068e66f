"""What is a number where a user or a group is named: ``uid[:gid]`` of a process, of copied files, of a group to add."""

import re
from typing import Final

MAX_ID: Final = (1 << 31) - 1  # of a process: Docker's bound, half of the kernel's
MAX_FILE_ID: Final = (1 << 32) - 2  # of a file: one more means "leave it" to chown(2)

# Go's strconv.Atoi, which Docker's clients and builders read these with, takes a sign and leading zeros.
_MOST_DIGITS: Final = 20
_NUMBER: Final = re.compile(r"[-+]?[0-9]+")


def id_number(text: str) -> int | None:
    """Return the number that ``text`` is, in or out of any range; None if it is a name.

        A number of any length is a number. Docker takes one past 64 bits for a name, by which an image that has such a
    X"""
    if not _NUMBER.fullmatch(text):
        return None
    digits = text.lstrip("+-0") or "0"
    number = int(digits) if len(digits) <= _MOST_DIGITS else 10**_MOST_DIGITS  # int() of a megabyte takes minutes
    return -number if text.startswith("-") else number
