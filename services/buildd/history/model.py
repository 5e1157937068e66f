"""Builds as they are remembered."""

import enum
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Self

from sampan.build.progress import Update, Vertex, VertexWarning
from sampan.build.request import Export, SolveRequest
from sampan.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """One build: ``completed_ns`` 0 while it runs."""

    ref: str
    frontend: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    exports: tuple[Export, ...] = ()
    created_ns: int = 0
    completed_ns: int = 0
    error: str = ""
    response: Mapping[str, str] = field(default_factory=dict)  # what the exporters said
    cached_steps: int = 0
    completed_steps: int = 0
    total_steps: int = 0
    warnings: int = 0
    pinned: bool = False

    @classmethod
    def begun(cls, request: SolveRequest, now_ns: int) -> Self:
        """Return the record of a build that begins."""
        return cls(request.ref, request.frontend, request.frontend_attributes, request.exports, now_ns)

    def counted(self, updates: Iterable[Update]) -> "BuildRecord":
        """Return this with the numbers of steps and warnings."""
        last: dict[Digest, Vertex] = {}
        warnings = 0
        for update in updates:
            if isinstance(update, Vertex):
                last[update.digest] = update
            elif isinstance(update, VertexWarning):
                warnings += 1
        return replace(
            self,
            cached_steps=sum(each.cached for each in last.values()),
            completed_steps=sum(bool(each.completed_ns) for each in last.values()),
            total_steps=len(last),
            warnings=warnings,
        )

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str, *, pinned: bool) -> Self:
        """Return what ``to_json`` has written."""
        members = json.loads(text)
        exports = tuple(Export(**each) for each in members.pop("exports"))
        return cls(**{**members, "exports": exports, "pinned": pinned})


class Happened(enum.Enum):
    """What a listener is told of a build."""

    STARTED = 0
    COMPLETE = 1
    DELETED = 2


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """Which builds are asked for."""

    ref: str = ""  # empty: all
    active_only: bool = False
    early_exit: bool = False  # end with what there is now
    limit: int = 0  # of those that have ended, the latest ones; 0: all
