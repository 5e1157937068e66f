"""What the process that works on a container's files is told, and what it says of a path."""

import json
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Bind:
    """A mount of the container's, to be made again."""

    source: str  # host path; empty: as the running container has it at ``target``
    target: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class ArchiveJob:
    """What to do, and where."""

    action: str  # stat, read or write
    path: str
    root: str  # directory on which the worker, and it alone, has the container's files
    live_root: str = ""  # where the root of a container that runs is mounted
    pid: int = 0  # a process in a container that runs
    root_mounts: tuple[tuple[str, str, tuple[str, ...]], ...] = ()  # of one that does not: type, source, options
    read_only: bool = False  # the root alone
    binds: tuple[Bind, ...] = ()
    keep_kinds: bool = False

    def to_json(self) -> str:
        """Return the job as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Undo ``to_json``."""
        fields = json.loads(text)
        root_mounts = tuple((kind, source, tuple(options)) for kind, source, options in fields["root_mounts"])
        return cls(**fields | {"root_mounts": root_mounts, "binds": tuple(Bind(**bind) for bind in fields["binds"])})
