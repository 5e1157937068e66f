"""Show another command line than the one that this process was started with.

For a process that was forked to do something else than its parent: ``ps`` and whoever reads ``/proc/<pid>/cmdline`` see
what it is. Reference: prctl(2), PR_SET_MM_MAP; proc(5), ``/proc/pid/stat``.
"""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sampan.sys.libc import LIBC, check

_PR_SET_MM: Final = 35
_PR_SET_MM_MAP: Final = 14

_SAME_PROGRAM: Final = 0xFFFFFFFF


class _MemoryMap(ctypes.Structure):  # prctl_mm_map
    _fields_ = (
        ("start_code", ctypes.c_uint64),
        ("end_code", ctypes.c_uint64),
        ("start_data", ctypes.c_uint64),
        ("end_data", ctypes.c_uint64),
        ("start_brk", ctypes.c_uint64),
        ("brk", ctypes.c_uint64),
        ("start_stack", ctypes.c_uint64),
        ("arg_start", ctypes.c_uint64),
        ("arg_end", ctypes.c_uint64),
        ("env_start", ctypes.c_uint64),
        ("env_end", ctypes.c_uint64),
        ("auxv", ctypes.c_uint64),
        ("auxv_size", ctypes.c_uint32),
        ("exe_fd", ctypes.c_uint32),
    )


# The kernel reads the words from here for as long as the process lives.
_shown: "ctypes.Array[ctypes.c_char] | None" = None


def show_command_line(words: Sequence[str]) -> None:
    """Let ``/proc/self/cmdline`` be ``words``. Raises OSError where the kernel was built without the means."""
    global _shown  # a process has one command line
    text = b"".join(os.fsencode(word) + b"\0" for word in words)
    buffer = ctypes.create_string_buffer(text, len(text))
    start = ctypes.addressof(buffer)
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()

    def field(number: int) -> int:
        return int(stat[number - 3])  # as proc(5) counts them; the first two are before the bracket

    LIBC.sbrk.restype = ctypes.c_void_p
    as_it_is_but = _MemoryMap(
        start_code=field(26),
        end_code=field(27),
        start_data=field(45),
        end_data=field(46),
        start_brk=field(47),
        brk=LIBC.sbrk(0),
        start_stack=field(28),
        arg_start=start,
        arg_end=start + len(text),
        env_start=field(50),
        env_end=field(51),
        exe_fd=_SAME_PROGRAM,
    )
    size = ctypes.c_ulong(ctypes.sizeof(as_it_is_but))
    check(LIBC.prctl(_PR_SET_MM, _PR_SET_MM_MAP, ctypes.byref(as_it_is_but), size, 0), "PR_SET_MM_MAP")
    _shown = buffer


def forget_environment() -> None:
    """Have no variables, and keep none in memory of those that this process was started with."""
    os.environ.clear()
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[50 - 3]), int(fields[51 - 3])
    if 0 < start < end:
        ctypes.memset(start, 0, end - start)
