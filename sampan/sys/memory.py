"""A process's memory."""

from sampan.sys.libc import LIBC


def trim() -> None:
    """Give the kernel back what malloc keeps for later, after work that is not done all the time."""
    LIBC.malloc_trim(0)
