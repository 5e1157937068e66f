"""What a process can ask of the kernel about itself."""

import ctypes
import errno
import functools
import os
import platform
import signal
import time
from pathlib import Path
from typing import Final

from sampan.sys.libc import LIBC, check

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15

_X32_SYSCALL_BIT: Final = 0x40000000
_SYS_GETPID: Final = 39


def die_with_parent(parent: int | None = None) -> None:
    """Have this process killed when the thread that started it ends; if it has ended already, die now.

    One that knows its parent's number says so: who asks for it may come too late.
    """
    parent = parent or os.getppid()
    check(LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "PR_SET_PDEATHSIG")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def set_name(name: str) -> None:
    """Give this process a name of up to 15 bytes, which ``ps`` and the kernel's messages show."""
    check(LIBC.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0), "PR_SET_NAME")


def open_process(pid: int) -> int:
    """Return a descriptor of process ``pid``, as pidfd_open(2) does, for a number that may be out of date.

    Raises:
        ProcessLookupError: there is no such process; also if the number is a thread's by now, of which the kernel says
            ENOENT, and before Linux 6.9 EINVAL.
    """
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if pid > 0 and error.errno in (errno.ENOENT, errno.EINVAL):
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), str(pid)) from error
        raise


def most_processes(kernel: Path = Path("/proc/sys/kernel")) -> int:
    """Return how many processes and threads the whole system can have: the lesser of what numbers and memory allow."""
    return min(int((kernel / name).read_text()) for name in ("pid_max", "threads-max"))


def is_exhausted(error: BaseException) -> bool:
    """Say whether the system means that it has no room for one more process or thread, or for what one needs."""
    if isinstance(error, RuntimeError):  # of threading, which keeps the number to itself
        return str(error) == "can't start new thread"
    return isinstance(error, BlockingIOError | MemoryError) or (
        isinstance(error, OSError) and error.errno == errno.ENOMEM
    )


@functools.cache
def has_x32_abi() -> bool:
    """Whether this kernel has the x32 ABI: 64-bit registers, 32-bit pointers, and a bit of its own in call numbers."""
    if platform.machine() != "x86_64":
        return False
    return int(LIBC.syscall(ctypes.c_long(_X32_SYSCALL_BIT | _SYS_GETPID))) == os.getpid()


# The process that the user has started, if this one was forked to do its work.
_stands_for: int | None = None


def stand_for(pid: int) -> None:
    """Do from here on what ``pid`` was started for, which lives as long as this process."""
    global _stands_for
    _stands_for = pid


def age_s() -> float:
    """Return how long ago the user has started this process, or the one that it stands for."""
    stat = Path(f"/proc/{_stands_for or 'self'}/stat").read_text()
    began_s = int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began_s
