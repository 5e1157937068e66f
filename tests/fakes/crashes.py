"""Crash points: a process that is killed before the n-th thing that it does to the world."""

import threading
from collections.abc import Callable


class KilledError(BaseException):
    """The process is killed: nothing that it still does reaches the world."""


class Steps:
    """Counts what is done to the world, and kills whoever does it at a chosen step.

    One for each life of a process: once killed it does nothing more. Threads of that process count as well.
    """

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.killed = False
        self._kill_before: int | None = None
        self._tell: Callable[[], object] = lambda: None
        self._lock = threading.Lock()

    def arm(self, kill_before: int, tell: Callable[[], object]) -> None:
        """Kill before the step of that number, the next one being 0; ``tell`` is called then, from any thread."""
        self.taken.clear()
        self._kill_before, self._tell = kill_before, tell

    def kill(self) -> None:
        """Kill now."""
        self.killed = True

    def step(self, name: str) -> None:
        """Go on, and count it. Raises KilledError."""
        with self._lock:
            if not self.killed and len(self.taken) == self._kill_before:
                self.killed = True
                self._tell()
            if self.killed:
                raise KilledError(name)
            self.taken.append(name)
