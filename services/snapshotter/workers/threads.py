"""Threads whose start cannot hang."""

import _thread
from collections.abc import Callable
from typing import Final

# A thread begins within microseconds, or never: then there was no memory for its stack of frames.
_BEGIN_S: Final = 10.0


class Thread:
    """A function in a thread of its own.

    ``threading.Thread.start`` waits without an end for a word from the new thread, which one without memory for its
    first Python frame never gives.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._begun = _thread.allocate_lock()
        self._running = _thread.allocate_lock()
        self._begun.acquire()
        self._running.acquire()

    def start(self) -> None:
        """Start it, once. Raises MemoryError."""
        try:
            _thread.start_new_thread(self._run, ())
        except RuntimeError as error:
            raise MemoryError("no thread can be started") from error
        if not self._begun.acquire(timeout=_BEGIN_S):
            raise MemoryError("no thread can begin")

    def join(self) -> None:
        """Wait until it has ended."""
        with self._running:
            pass

    def is_alive(self) -> bool:
        """Say whether it has not ended yet."""
        return self._running.locked()

    def _run(self) -> None:
        self._begun.release()
        try:
            self._work()
        finally:
            self._running.release()
