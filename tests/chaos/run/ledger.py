"""What happened in a run: operations, kills, and every answer or state that nothing allows."""

import enum
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

QUESTION: Final = "ask"
REPEATED: Final = "again"


class Verdict(enum.Enum):
    """What kind of fault it is."""

    LOST = "lost"  # acknowledged, and not there any more
    LEAKED = "leaked"  # there, and nobody knows it
    WRONG = "wrong answers"  # another exit code, output or state than the two that are possible
    HUNG = "hung"  # no definite answer by the deadline


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, and where in the run to look for it."""

    verdict: Verdict
    text: str
    operation: int  # how many operations had begun
    at: float  # time.time(): to find it in the services' logs
    kills: tuple[str, ...]  # the latest kills, last one last


class Ledger:
    """Written by all clients and by the killer at the same time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._history: list[str] = []
        self.begun = 0
        self.stopping = False
        self.operations: Counter[str] = Counter()
        self.asides: Counter[str] = Counter()  # questions for a state, and repetitions: no operations of their own
        self.broken: Counter[str] = Counter()  # operations whose answer a kill took away, by kind
        self.kills: Counter[str] = Counter()  # by process
        self.faults: list[Fault] = []

    def begin(self, kind: str) -> None:
        """Count an operation that begins, or a question."""
        with self._changed:
            if kind in (QUESTION, REPEATED):
                self.asides[kind] += 1
                return
            self.begun += 1
            self.operations[kind] += 1
            self._changed.notify_all()

    def broke(self, kind: str) -> None:
        """Count an operation that a kill left without an answer."""
        with self._changed:
            if kind not in (QUESTION, REPEATED):
                self.broken[kind] += 1

    def killed(self, process: str) -> None:
        """Count a kill."""
        with self._changed:
            self.kills[process] += 1
            self._history.append(f"{process} at {self.begun}")

    def fault(self, verdict: Verdict, text: str) -> None:
        """Keep a fault, and tell it at once: a run may take hours."""
        with self._changed:
            print(f"at operation {self.begun}: {verdict.value}: {text[:600]}", file=sys.stderr, flush=True)
            self.faults.append(Fault(verdict, text, self.begun, time.time(), tuple(self._history[-4:])))

    def stop(self) -> None:
        """Let everybody come to an end after what they are doing."""
        with self._changed:
            self.stopping = True
            self._changed.notify_all()

    def wait_for(self, operations: int) -> bool:
        """Return as soon as so many have begun: true; or when the run stops: false."""
        with self._changed:
            self._changed.wait_for(lambda: self.stopping or self.begun >= operations)
            return not self.stopping

    def rest(self, seconds: float) -> None:
        """Return when the run is stopped, at the latest after ``seconds``."""
        with self._changed:
            self._changed.wait_for(lambda: self.stopping, seconds)

    def count(self, verdict: Verdict) -> int:
        """Return how many faults of a kind there are."""
        return sum(fault.verdict is verdict for fault in self.faults)
