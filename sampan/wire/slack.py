"""How punctually gRPC's threads wake up: as usual in a process that is used, by and by in one that rests.

Each gRPC process has threads that look for work up to ten times a second, though nothing has come and whatever comes
wakes them anyway; of an idle engine's processor time that is nearly all. The kernel may let a thread sleep longer than
it asks for, by its timer slack.

Reference: prctl(2), PR_SET_TIMERSLACK; proc_pid_timerslack_ns(5).
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from sampan.sys.libc import LIBC

# As the kernel shows them, 15 bytes of each: what waits with a time limit. Nobody waits for any of them by name, so a
# gRPC that calls them otherwise is one that wakes up as usual.
_THREADS: Final = frozenset({"grpc_global_tim", "event_engine", "lifeguard"})

_USUAL_NS: Final = 50_000  # the kernel's; to write 0 gives a thread what it was born with, which may have been at rest
_WIDE_NS: Final = 10_000_000_000

# Ignored where nobody handles it, and by asyncio too. A handler has to be there for a thread's wait to end.
_NUDGE: Final = signal.SIGURG


class TimerSlack:
    """That of all gRPC threads of this process. ``narrow`` may be called in any thread, and costs nothing as a rule."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wide = False
        self._narrowed: Callable[[], object] = bool

    def prepare(self, narrowed: Callable[[], object]) -> None:
        """Have ``narrowed`` called each time that threads become punctual again. To be called in the main thread."""
        signal.signal(_NUDGE, lambda *_: None)
        self._narrowed = narrowed

    def widen(self) -> None:
        """Let timers be up to ten seconds late: deadlines of calls, and pauses between attempts to connect."""
        with self._lock:
            self._wide = True
            for thread in _threads():
                # Somebody else's user, or a kernel that has no such file: threads stay as they are.
                with suppress(OSError):
                    _set(thread, _WIDE_NS)

    def narrow(self) -> None:
        """Have timers run out when they should, those too that are being waited for."""
        if not self._wide:
            return
        with self._lock:
            self._wide = False
            for thread in _threads():
                with suppress(OSError):
                    _set(thread, _USUAL_NS)
                    # Its wait goes on until the time that it was begun with; interrupted, it begins anew.
                    LIBC.tgkill(os.getpid(), thread, int(_NUDGE))
        self._narrowed()


# One for the process, as gRPC's threads are, whichever channel or server they work for.
TIMER_SLACK: Final = TimerSlack()


def _threads() -> Iterator[int]:
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has just ended
            if (task / "comm").read_text().rstrip("\n") in _THREADS:
                yield int(task.name)


def _set(thread: int, slack_ns: int) -> None:
    # A file of the process's, in the kernel's eyes, but found by any thread's number.
    Path(f"/proc/{thread}/timerslack_ns").write_text(str(slack_ns))
