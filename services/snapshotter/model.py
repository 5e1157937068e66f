"""The snapshotter's nouns."""

import enum
from dataclasses import dataclass
from pathlib import Path

from sampan.oci.digest import Digest
from sampan.resource.snapshot import SnapshotInfo
from sampan.sys.measuring import NO_USAGE, Usage
from snapshotter.layers.formats import LayerFormat


class SnapshotFormat(enum.Enum):
    """What a snapshot's own directory holds."""

    UPPER = "upper"  # what differs from its parents, with overlayfs's marks
    FULL = "full"  # everything, with no mark: its parents are not needed to read it


@dataclass(frozen=True, slots=True)
class Piece:
    """One directory of those that, laid over each other, make up a file system."""

    path: Path
    complete: bool = False  # whatever lies below it is hidden


@dataclass(frozen=True, slots=True)
class Snapshot(SnapshotInfo):
    """A snapshot and where it is on disk."""

    diff_id: Digest | None = None  # of a stacked one, which has no directory of its own
    dir_id: int | None = None
    format: SnapshotFormat | None = None  # of its own directory
    own: Usage = NO_USAGE  # of a committed one, without its parents


@dataclass(frozen=True, slots=True)
class Layer:
    """A stored layer."""

    diff_id: Digest
    dir_id: int
    format: LayerFormat
    usage: Usage
    complete: bool = False  # whatever lies below it is hidden
    erofs_digest: str = ""  # of the EROFS image, where the format is one
    damaged: str = ""  # what a check found wrong with it
