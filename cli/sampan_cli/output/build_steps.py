"""The steps of a build, as whoever shows them remembers them."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from sampan.build.progress import Vertex, VertexLog, VertexStatus, VertexWarning
from sampan.oci.digest import Digest

_KEPT_LINES: Final = 100  # of a step's output, to be shown again if it fails
_SECOND_NS: Final = 10**9


@dataclass
class Step:
    """What is known of one vertex."""

    number: int
    vertex: Vertex
    lines: list[str] = field(default_factory=list)  # the last ones that it printed
    unfinished: bytes = b""  # a line that goes on
    statuses: dict[str, VertexStatus] = field(default_factory=dict)

    def printed(self, log: VertexLog) -> list[str]:
        """Take output; return the lines that are whole now, each with when it came, as BuildKit does."""
        *whole, self.unfinished = (self.unfinished + log.data).split(b"\n")
        since_s = max(0, log.timestamp_ns - self.vertex.started_ns) / _SECOND_NS
        lines = [f"{since_s:.3f} {line.decode(errors='replace').rstrip()}".rstrip() for line in whole]
        self.lines = (self.lines + lines)[-_KEPT_LINES:]
        return lines

    def rest(self) -> list[str]:
        """Return the last line, which has no end."""
        if not self.unfinished:
            return []
        line, self.unfinished = self.unfinished.decode(errors="replace").rstrip(), b""
        self.lines.append(line)
        return [line]


class Steps:
    """The vertexes that have begun, in order; each has a number by which people speak of it."""

    def __init__(self) -> None:
        self._steps: dict[Digest, Step] = {}
        self.warnings: list[VertexWarning] = []

    def __iter__(self) -> Iterator[Step]:
        return iter(self._steps.values())

    def get(self, vertex: Digest) -> Step | None:
        """Return a vertex that has begun."""
        return self._steps.get(vertex)

    def take(self, vertex: Vertex) -> Step | None:
        """Take what is told of a vertex; None if it has not begun."""
        step = self._steps.get(vertex.digest)
        if step is not None:
            step.vertex = vertex
        elif vertex.started_ns or vertex.cached or vertex.error:
            step = self._steps[vertex.digest] = Step(len(self._steps) + 1, vertex)
        return step

    def failed(self) -> Step | None:
        """Return the step that the build failed of, rather than one that was cancelled for that."""
        failures = [step for step in self if step.vertex.error and "context canceled" not in step.vertex.error]
        return failures[0] if failures else None


def seconds(vertex: Vertex, now_ns: int = 0) -> float:
    """Return how long a vertex took, or takes so far."""
    if not vertex.started_ns:
        return 0.0
    return max(0, (vertex.completed_ns or now_ns or time.time_ns()) - vertex.started_ns) / _SECOND_NS


def warnings(found: Sequence[VertexWarning]) -> list[str]:
    """Return what a Dockerfile is warned of, as it is told at the end."""
    if not found:
        return []
    count = len(found)
    lines = ["", f" {count} warning{'' if count == 1 else 's'} found:"]
    return lines + [f" - {each.warning.message}" for each in found]
