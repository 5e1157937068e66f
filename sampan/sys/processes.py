"""What a process can ask of the kernel about itself."""

import os
import signal
from typing import Final

from sampan.sys.libc import LIBC, check

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent() -> None:
    """Have this process killed when the thread that started it ends; if it has ended already, die now."""
    parent = os.getppid()
    check(LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "PR_SET_PDEATHSIG")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
