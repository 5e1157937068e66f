"""Who is told what builds do, to count it: ``metrics`` for Prometheus, nobody by default."""

import enum
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, Protocol


class Phase(enum.Enum):
    """What a build's time goes to."""

    CONTEXT = "context"  # a client's directory is brought up to date
    RESOLVE = "resolve"  # a source is asked what it is just now
    RUN = "run"  # a step that no cache has is carried out, however many builds want it
    TOTAL = "total"  # a build, from its beginning to its end
    EXPORT = "export"  # an exporter makes what the client wants


class Kind(enum.Enum):
    """What a step does."""

    EXEC = "exec"
    FILE = "file"
    SOURCE = "source"
    MERGE = "merge"  # a difference of trees, too


class StepMark:
    """One step at work, which says whether a cache had its result."""

    def __init__(self) -> None:
        self.cached = False


class Meter(Protocol):
    """Told in passing: nothing here fails or waits. Names are few and fixed, never an ID or what a stranger chose."""

    def build(self) -> AbstractContextManager[None]:
        """Count a build while it lasts, and how it ends, which is told by what is raised within."""

    def step(self, kind: Kind) -> AbstractContextManager[StepMark]:
        """Count a step of one build, inputs not included, while it lasts, and how it ends."""

    def timed(self, phase: Phase) -> AbstractContextManager[None]:
        """Measure how long something takes, if it succeeds."""

    def context(self, sent_bytes: int, saved_bytes: int) -> None:
        """Count content of a client's directory: what came, and what had come before."""

    def cache(self, taken: Mapping[str, tuple[int, int]]) -> None:
        """Show the build cache as it was just measured: records and bytes of each type."""


class Unmetered:
    """Counts nothing."""

    def build(self) -> AbstractContextManager[None]:
        """See ``Meter``."""
        return nullcontext()

    @contextmanager
    def step(self, kind: Kind) -> Iterator[StepMark]:  # noqa: ARG002 - of the protocol
        """See ``Meter``."""
        yield StepMark()

    def timed(self, phase: Phase) -> AbstractContextManager[None]:  # noqa: ARG002 - of the protocol
        """See ``Meter``."""
        return nullcontext()

    def context(self, sent_bytes: int, saved_bytes: int) -> None:
        """See ``Meter``."""

    def cache(self, taken: Mapping[str, tuple[int, int]]) -> None:
        """See ``Meter``."""


UNMETERED: Final = Unmetered()
