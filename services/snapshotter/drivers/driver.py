"""What a storage driver decides: how layers are stored, and how a snapshot's pieces become mounts.

Everything else (names, parents, rows, crashes) is the same for all drivers and is not theirs to know.
"""

from pathlib import Path
from typing import Protocol

from sampan.resource.snapshot import Kind, Mount
from snapshotter.layers.formats import LayerFormat
from snapshotter.model import Piece, SnapshotFormat


class Driver(Protocol):
    """One way to show layers as a file system."""

    @property
    def name(self) -> str:
        """As in the configuration."""

    @property
    def layer_format(self) -> LayerFormat:
        """What Apply makes."""

    @property
    def snapshot_format(self) -> SnapshotFormat:
        """What ``fill`` makes and its users write to."""

    async def probe(self, root: Path) -> str:
        """Try it below ``root``, with a real mount, and say what was found.

        Raises:
            UnimplementedError: this host cannot; the message says why.
            NoSpaceError: the disk is too full to try.
        """

    @property
    def found(self) -> str:
        """What the driver has to know of its last trial, in its own words; see ``assume``."""

    def assume(self, found: str) -> None:
        """Work as after a trial that found ``found``, since there can be none now."""

    async def fill(self, directory: Path, kind: Kind, pieces: tuple[Piece, ...]) -> None:
        """Put into the new ``directory`` what a snapshot on ``pieces``, nearest first, begins with.

        Cancelling leaves a directory that is to be thrown away.
        """

    async def mounts(self, directory: Path, kind: Kind, pieces: tuple[Piece, ...]) -> tuple[Mount, ...]:
        """Return the mounts that show a snapshot that ``fill`` has prepared, in the order to make them.

        Whatever they refer to is there until the snapshot is removed or the service ends; ask again after that.

        Raises:
            InvalidArgumentError: more pieces than can be mounted.
        """
