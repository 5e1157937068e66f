"""The ``native`` driver: every snapshot a full copy. Slow and large, but it works wherever there are directories.

Layers are stored as for ``overlayfs``, marks included; a copy has none.
"""

from functools import partial
from pathlib import Path

from sampan.resource.snapshot import Kind, Mount
from sampan.sys.trees import walking
from snapshotter.diff.copying import copy_merged
from snapshotter.layers.formats import LayerFormat
from snapshotter.model import Piece, SnapshotFormat


class NativeDriver:
    """Satisfies ``Driver``."""

    name = "native"
    layer_format = LayerFormat.TREE
    snapshot_format = SnapshotFormat.FULL

    async def probe(self, root: Path) -> str:  # noqa: ARG002  # of the protocol
        """Directories can be copied everywhere."""
        return "copies of whole directories need nothing of the host"

    @property
    def found(self) -> str:
        """Nothing."""
        return ""

    def assume(self, found: str) -> None:
        """Nothing depends on it."""

    async def fill(self, directory: Path, kind: Kind, pieces: tuple[Piece, ...]) -> None:
        """Copy all that ``pieces`` show."""
        target = directory / "fs"
        target.mkdir(mode=0o755)
        target.chmod(0o755)
        if not pieces or _needs_no_copy(kind, pieces):
            return
        await walking(partial(copy_merged, pieces, target))

    async def mounts(self, directory: Path, kind: Kind, pieces: tuple[Piece, ...]) -> tuple[Mount, ...]:
        """Bind the copy, or for a view of what is a copy itself that one."""
        if _needs_no_copy(kind, pieces):
            return (Mount("bind", str(pieces[0].path), ("rbind", "ro")),)
        return (Mount("bind", str(directory / "fs"), ("rbind", "rw" if kind is Kind.ACTIVE else "ro")),)


def _needs_no_copy(kind: Kind, pieces: tuple[Piece, ...]) -> bool:
    return kind is Kind.VIEW and len(pieces) == 1 and pieces[0].complete
