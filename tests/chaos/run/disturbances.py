"""When an engine was hurt, and whom it concerned: the only excuse for an operation without an answer."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

STEP: Final = "step"  # stands for any step of a build: whoever builds does not know what its steps are called


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment in the run."""

    kills: int
    apis: int
    strikes: int


class Disturbances:
    """Kills of the engine's processes, each from just before the signal until its successor serves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kills = self._open = self._apis = self._open_apis = 0
        self._containers: Counter[str] = Counter()

    @contextmanager
    def disturb(self, process: str) -> Iterator[None]:
        """Mark the time in which ``process`` is not there."""
        api = process in ("dockerapi", "supervisor")
        with self._lock:
            self._kills += 1
            self._open += 1
            self._apis += api
            self._open_apis += api
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
                self._open_apis -= api

    def strike(self, container_id: str) -> None:
        """Mark a container whose own monitor, or a program that works for it, is about to be killed."""
        with self._lock:
            self._containers[container_id] += 1

    def mark(self) -> Mark:
        """Return this moment."""
        with self._lock:
            # What is open now goes on to disturb: as if it began later than the mark.
            return Mark(self._kills - self._open, self._apis - self._open_apis, self._containers.total())

    def touched(self, since: Mark) -> bool:
        """Whether any process of the engine was away at some time since."""
        with self._lock:
            return self._kills > since.kills

    def api_touched(self, since: Mark) -> bool:
        """Whether the process that clients speak to was away: what it was sending ends as if that were all."""
        with self._lock:
            return self._apis > since.apis

    def any_struck(self, since: Mark) -> bool:
        """Whether some container was hurt itself: for who does not know the ID of the one it is about."""
        with self._lock:
            return self._containers.total() > since.strikes

    def struck(self, container_id: str) -> int:
        """Return how often that container was hurt itself."""
        with self._lock:
            return self._containers[container_id]
