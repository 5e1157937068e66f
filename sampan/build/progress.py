"""How a build goes: what builders tell and clients show.

Reference: ``StatusResponse`` of moby/buildkit, api/services/control/control.proto. Times are nanoseconds since the
epoch; 0 stands for a time that has not come.
"""

from dataclasses import dataclass

from sampan.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Position:
    """Lines of a source file, both ends included, counted from 1."""

    first_line: int
    last_line: int


@dataclass(frozen=True, slots=True)
class ProgressGroup:
    """Steps that clients show as one."""

    id: str
    name: str
    weak: bool = False


@dataclass(frozen=True, slots=True)
class BuildWarning:
    """What a frontend thinks of a Dockerfile."""

    rule: str
    message: str  # "Rule: what is wrong (line 3)"
    detail: tuple[str, ...] = ()
    url: str = ""
    positions: tuple[Position, ...] = ()


@dataclass(frozen=True, slots=True)
class Vertex:
    """A vertex's state, complete each time it is told."""

    digest: Digest
    name: str
    inputs: tuple[Digest, ...] = ()
    started_ns: int = 0  # since the epoch; 0: not yet
    completed_ns: int = 0
    cached: bool = False
    error: str = ""
    progress_group: ProgressGroup | None = None


@dataclass(frozen=True, slots=True)
class VertexStatus:
    """How far a part of a vertex is."""

    id: str
    vertex: Digest
    current: int
    total: int
    timestamp_ns: int
    started_ns: int
    completed_ns: int = 0


@dataclass(frozen=True, slots=True)
class VertexLog:
    """Output of a step."""

    vertex: Digest
    stream: int
    data: bytes
    timestamp_ns: int


@dataclass(frozen=True, slots=True)
class VertexWarning:
    """A warning, with the text that it is about."""

    vertex: Digest
    warning: BuildWarning
    level: int = 1
    file_name: str = ""
    file_data: bytes = b""


Update = Vertex | VertexStatus | VertexLog | VertexWarning
