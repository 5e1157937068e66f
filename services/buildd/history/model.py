"""Builds as they are remembered."""

import enum
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Final, Self

from sampan.build.progress import Update, Vertex, VertexWarning
from sampan.build.request import Export, SolveRequest
from sampan.oci.digest import Digest

CANCELLED: Final = "context canceled"  # the error of a build that was; clients look for it


@dataclass(frozen=True, slots=True)
class KeptBlob:
    """Something that the history has by its digest, as clients are told of it."""

    media_type: str
    digest: str
    size: int  # bytes
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, media_type: str, data: bytes, annotations: Mapping[str, str] | None = None) -> Self:
        """Return how bytes are named."""
        return cls(media_type, Digest.of(data), len(data), annotations or {})


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
    log: KeptBlob | None = None
    failure: KeptBlob | None = None  # an error with its details
    results: Mapping[str, KeptBlob] = field(default_factory=dict)  # images, by the number of the export
    attestations: Mapping[str, tuple[KeptBlob, ...]] = field(default_factory=dict)  # by platform ID

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
        members["exports"] = tuple(Export(**each) for each in members["exports"])
        for name in ("log", "failure"):
            members[name] = KeptBlob(**members[name]) if members.get(name) else None
        members["results"] = {name: KeptBlob(**each) for name, each in members.get("results", {}).items()}
        members["attestations"] = {
            name: tuple(KeptBlob(**each) for each in several)
            for name, several in members.get("attestations", {}).items()
        }
        return cls(**{**members, "pinned": pinned})


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
    filters: tuple[str, ...] = ()  # one of which has to hold; each a list of conditions
    limit: int = 0  # of those that have ended, the latest ones; 0: all
