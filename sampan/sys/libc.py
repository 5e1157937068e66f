"""The C library, loaded once, and how its failures become OSError."""

import ctypes
import os
from typing import Final

LIBC: Final = ctypes.CDLL(None, use_errno=True)


def check(result: int, operand: str) -> int:
    """Return ``result``; raise OSError(errno, text, operand) where the call failed."""
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), operand)
    return result
