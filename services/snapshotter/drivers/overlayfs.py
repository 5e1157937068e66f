"""The ``overlayfs`` driver: each layer a directory, stacked by the kernel.

Planning mounts is arithmetic on names: it reads no disk and makes no system call.

Reference: Linux Documentation/filesystems/overlayfs.rst.
"""

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final

from sampan.errors import InvalidArgumentError, NoSpaceError, UnimplementedError
from sampan.resource.snapshot import Kind, Mount
from sampan.sys.files import is_full
from sampan.sys.mounts import MAX_DATA_BYTES, MNT_DETACH, MS_NODEV, MS_NOSUID, mount, umount2
from sampan.sys.trees import remove_tree
from snapshotter.layers.formats import LayerFormat
from snapshotter.model import Piece, SnapshotFormat

# OVL_MAX_STACK in the kernel's fs/overlayfs; one layer more fails with a bare EINVAL.
MAX_LOWER_LAYERS: Final = 500

# index=off lets an upper directory be mounted again over other lower layers, and by another kernel.
# Without redirects and metadata-only copies an upper directory says by itself what has changed, so it can be made a
# layer by reading it; "nofollow" is for what a layer might bring along, and stops what "off" would still obey.
SETTINGS: Final = ("index=off", "metacopy=off", "redirect_dir=nofollow")

# More than the few directories and the small image of a trial take.
_TRIAL_BYTES: Final = 1 << 20


class OverlayDriver:
    """Satisfies ``Driver``."""

    name: str = "overlayfs"
    layer_format: LayerFormat = LayerFormat.TREE
    snapshot_format: SnapshotFormat = SnapshotFormat.UPPER

    def __init__(self, shorter: Callable[[str], str] = str) -> None:
        """Take a function that gives another, shorter name for a path, for stacks whose options would be too long."""
        self._shorter = shorter

    async def probe(self, root: Path) -> str:
        """Stack two directories on ``root``'s file system, and look whether marks hide what they should."""
        await asyncio.to_thread(probe_stack, root, _directory)
        return "a trial mount works"

    @property
    def found(self) -> str:
        """Nothing: there is one way only."""
        return ""

    def assume(self, found: str) -> None:
        """Nothing depends on it."""

    async def fill(self, directory: Path, kind: Kind, pieces: tuple[Piece, ...]) -> None:
        """Make an empty upper directory, and beside it the one that overlayfs works in."""
        (directory / "fs").mkdir(mode=0o755)
        (directory / "fs").chmod(0o755)  # whatever the umask is: containers' users must get into their root
        if kind is Kind.ACTIVE and pieces:
            (directory / "work").mkdir(mode=0o700)

    async def mounts(self, directory: Path, kind: Kind, pieces: tuple[Piece, ...]) -> tuple[Mount, ...]:
        """See ``plan_mounts``."""
        return plan_mounts(directory, kind, pieces, self._shorter)


def plan_mounts(
    directory: Path, kind: Kind, pieces: tuple[Piece, ...], shorter: Callable[[str], str] = str
) -> tuple[Mount, ...]:
    """Return the mounts that present a snapshot.

    There are three shapes. Without parents, a bind of the snapshot's own directory, since overlayfs needs at least
    one lower layer. For a view of one parent, a read-only bind of that parent, which reads the same and costs less.
    Otherwise one overlay, writable if active.

    Raises:
        InvalidArgumentError: more than ``MAX_LOWER_LAYERS`` pieces, or options longer than mount(2) passes on.
    """
    writable = kind is Kind.ACTIVE
    if not pieces:
        return (_bind(directory / "fs", writable=writable),)
    if len(pieces) == 1 and not writable:
        return (_bind(pieces[0].path, writable=False),)
    if len(pieces) > MAX_LOWER_LAYERS:
        raise InvalidArgumentError(
            f"max depth exceeded: the snapshot has {len(pieces)} parents, overlayfs takes {MAX_LOWER_LAYERS}"
        )
    options = _options(directory, pieces, str, writable=writable)
    if _size(options) > MAX_DATA_BYTES:
        options = _options(directory, pieces, shorter, writable=writable)
    if _size(options) > MAX_DATA_BYTES:
        raise InvalidArgumentError(
            f"max depth exceeded: the snapshot's {len(pieces)} parents need {_size(options)} bytes of mount options,"
            f" the kernel takes {MAX_DATA_BYTES}: make fewer layers, or use a shorter run root"
        )
    return (Mount("overlay", "overlay", options),)


def _bind(source: Path, *, writable: bool) -> Mount:
    return Mount("bind", str(source), ("rbind", "rw" if writable else "ro"))


def _options(
    directory: Path, pieces: tuple[Piece, ...], name: Callable[[str], str], *, writable: bool
) -> tuple[str, ...]:
    lower = ":".join(_escaped(name(str(piece.path))) for piece in pieces)
    options: tuple[str, ...] = (*SETTINGS, f"lowerdir={lower}")
    if writable:
        upper, work = (_escaped(name(str(directory / part))) for part in ("fs", "work"))
        options += (f"upperdir={upper}", f"workdir={work}")
    return options


def _escaped(path: str) -> str:
    """Protect what overlayfs takes for a separator; it removes the backslashes from all its path options."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _size(options: tuple[str, ...]) -> int:
    return len(os.fsencode(",".join(options)))


def probe_stack(root: Path, lower: Callable[[Path], AbstractContextManager[Path]]) -> None:
    """Stack a directory over another on ``root``'s file system; ``lower`` makes that one, with a file ``hidden``.

    Raises:
        UnimplementedError: it does not work; the message says why.
        NoSpaceError: there is no space to try it.
    """
    try:
        _probe_stack(root, lower)
    except (OSError, UnimplementedError) as error:
        # Overlayfs itself says so by a mount that is read-only.
        if is_full(error) or is_full(error.__cause__ or error) or not _has_room(root):
            raise NoSpaceError(f"write {root}: no space left on device") from error
        raise


def _has_room(root: Path) -> bool:
    found = os.statvfs(root)
    return found.f_bavail * found.f_frsize >= _TRIAL_BYTES


def _probe_stack(root: Path, lower: Callable[[Path], AbstractContextManager[Path]]) -> None:
    for left in root.glob("probe-*"):  # by a process that was killed while it tried
        for place in left.iterdir():
            with suppress(OSError):
                umount2(str(place), MNT_DETACH)
        remove_tree(left)
    with tempfile.TemporaryDirectory(prefix="probe-", dir=root) as name:
        base = Path(name)
        for part in ("high", "fs", "work", "merged"):
            (base / part).mkdir()
        try:
            with lower(base) as low:
                _try(base, low)
        except OSError as error:
            raise UnimplementedError(f"a trial mount failed: {error.strerror}") from error


def _try(base: Path, low: Path) -> None:
    merged = str(base / "merged")
    os.mknod(base / "high" / "hidden", 0o020000, 0)
    os.setxattr(base / "high", "trusted.overlay.opaque", b"y")
    (planned,) = plan_mounts(base, Kind.ACTIVE, (Piece(base / "high"), Piece(low)))
    mount(planned.source, merged, planned.fstype, MS_NOSUID | MS_NODEV, ",".join(planned.options))
    try:
        if any(Path(merged).iterdir()):
            raise UnimplementedError("a trial mount shows a file that is marked as removed")
        (base / "merged" / "new").touch()
        if not (base / "fs" / "new").exists():
            raise UnimplementedError("a trial mount does not write to its upper directory")
    finally:
        with suppress(OSError):
            umount2(merged, MNT_DETACH)


@contextmanager
def _directory(base: Path) -> Iterator[Path]:
    low = base / "low"
    low.mkdir()
    (low / "hidden").touch()
    yield low
