"""The service's directories, and how things in them come and go.

<root>/l/<number>         layers, by number: a tree, or a directory with one file, ``image``
<root>/s/<number>/fs      what a snapshot itself holds; ``work`` beside it is overlayfs's own; one that is frozen
                          becomes l/<number>, once the rows say so
<root>/tmp/<name>         being made; nothing refers to it, and a start removes it
<root>/trash/<name>       being removed, likewise
<root>/aside/<name>       of snapshots whose rows were lost with a database; whoever runs the engine removes them
"""

import asyncio
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from sampan.errors import NoSpaceError
from sampan.log import log
from sampan.service.set_aside import SetAside
from sampan.sys.beneath import OPEN_DIRECTORY
from sampan.sys.closed import make_closed
from sampan.sys.files import is_full, syncfs
from sampan.sys.trees import Stop, empty, walking

_FS_IOC_GETFLAGS: Final = 0x80086601
_FS_IOC_SETFLAGS: Final = 0x40086602
_FS_TOPDIR_FL: Final = 0x00020000


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Raise NoSpaceError, naming ``what`` was to be stored, where the disk or a quota is full."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise NoSpaceError(f"{what} cannot be stored: no space left on device") from error


class Disk:
    """Paths below one root, and the thread of work that empties the trash."""

    def __init__(self, root: Path, short_root: Path | None = None) -> None:
        """Name the root, and perhaps where a shorter name for it may be kept (see ``overlay``)."""
        self.root = root
        self.layers = root / "l"
        self.snapshots = root / "s"
        self._temporary = root / "tmp"
        self._trash = root / "trash"
        self._short_root = short_root
        self._discarded = asyncio.Event()
        self._emptying = asyncio.Lock()
        self._reaper: asyncio.Task[None] | None = None
        self._next_name = 0

    def prepare(self, set_aside: SetAside) -> None:
        """Make the directories; what an earlier process was making or removing goes to the trash."""
        for directory in (self.layers, self.snapshots, self._temporary, self._trash):
            make_closed(directory)
            _spread(directory)
        for left in list(self._temporary.iterdir()):
            with set_aside.guard("leftover", left.name):
                self.discard(left)
        if self._short_root is not None:
            self._short_root.unlink(missing_ok=True)
            self._short_root.symlink_to(self.root, target_is_directory=True)

    def set_aside(self, snapshots: set[int]) -> list[Path]:
        """Move the directories of snapshots that no row refers to out of the way, and return where they are.

        Rows are missing because a database was lost: what is in these directories nothing else has.
        """
        moved = []
        for directory in list(self.snapshots.iterdir()):
            if directory.name.isdigit() and int(directory.name) not in snapshots:
                place = self.root / "aside" / f"{time.time_ns()}-{directory.name}"
                place.parent.mkdir(mode=0o700, exist_ok=True)
                directory.rename(place)
                moved.append(place)
        return moved

    def adopt(self, layers: set[int], snapshots: set[int], set_aside: SetAside) -> int:
        """Discard directories that no row refers to; return how many there were."""
        strays = 0
        for parent, known in ((self.layers, layers), (self.snapshots, snapshots)):
            for directory in list(parent.iterdir()):
                if not directory.name.isdigit() or int(directory.name) not in known:
                    with set_aside.guard("leftover", f"{parent.name}/{directory.name}"):
                        self.discard(directory)
                        strays += 1
        return strays

    def move_to_layers(self, dir_id: int) -> None:
        """Make a snapshot's own directory a layer's, under the same number. Safe to repeat; two rename(2)."""
        with suppress(FileNotFoundError):
            (self.snapshot(dir_id) / "fs").rename(self.layer(dir_id))
        self.discard(self.snapshot(dir_id))

    def finish_moves(self, layers: set[int]) -> None:
        """Do so for the ``layers`` that a process was about to do it for when it ended."""
        for dir_id in layers:
            if not self.layer(dir_id).exists() and (self.snapshot(dir_id) / "fs").exists():
                self.move_to_layers(dir_id)

    def names(self) -> tuple[list[str], list[str]]:
        """Return the names of all that is among the layers, and among the snapshots; blocks."""
        return _names(self.layers), _names(self.snapshots)

    def temporaries(self) -> list[Path]:
        """Return what is being made; blocks."""
        return list(self._temporary.iterdir())

    def layer(self, dir_id: int) -> Path:
        """Where a layer is."""
        return self.layers / str(dir_id)

    def erofs_image(self, dir_id: int) -> Path:
        """Where a layer is that is stored as an EROFS image."""
        return self.layers / str(dir_id) / "image"

    def snapshot(self, dir_id: int) -> Path:
        """Where a snapshot's own directory and overlayfs's are."""
        return self.snapshots / str(dir_id)

    def shorter(self, path: str) -> str:
        """Return another name for a path below the root, if there is one."""
        if self._short_root is None or not Path(path).is_relative_to(self.root):
            return path
        return f"{self._short_root}{path.removeprefix(str(self.root))}"

    def resolve(self, name: str) -> Path | None:
        """Return the directory of a layer or snapshot that ``name``, perhaps a shorter one, stands for."""
        path = Path(name)
        for root in (self.root, self._short_root):
            if root is not None and path.is_relative_to(root):
                match path.relative_to(root).parts:
                    case ("l", number) if number.isdigit():
                        return self.layers / number
                    case ("s", number, "fs") if number.isdigit():
                        return self.snapshots / number / "fs"
        return None

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """Make an empty directory; what is left in it afterwards goes to the trash."""
        self._next_name += 1
        path = self._temporary / f"{os.getpid()}-{self._next_name}"
        path.mkdir(mode=0o700)
        try:
            yield path
        finally:
            self.discard(path)

    def discard(self, path: Path) -> None:
        """Move ``path`` to the trash, which is one rename(2), and have it removed. Safe to repeat."""
        self._next_name += 1
        with suppress(FileNotFoundError):
            path.rename(self._trash / f"{os.getpid()}-{self._next_name}-{path.name}")
        self._discarded.set()

    def empty_soon(self) -> None:
        """Have what is in the trash removed in the background, once more if that did not work before."""
        self._discarded.set()

    async def empty_trash(self) -> None:
        """Remove all that has been discarded. Raises OSError; what is left is tried again next time."""
        async with self._emptying:
            await walking(self._empty_trash)

    def start(self) -> None:
        """Empty the trash in the background from now on."""
        self._reaper = asyncio.create_task(self._reap(), name="empty the trash")

    async def close(self) -> None:
        """Stop doing so; what is left is removed after the next start."""
        if self._reaper is not None:
            self._reaper.cancel()
            with suppress(asyncio.CancelledError):
                await self._reaper
            self._reaper = None

    def _empty_trash(self, stop: Stop) -> None:
        fd = os.open(self._trash, OPEN_DIRECTORY)
        try:
            empty(fd, stop)
        finally:
            os.close(fd)

    async def _reap(self) -> None:
        while True:
            await self._discarded.wait()
            self._discarded.clear()
            try:
                await self.empty_trash()
            except OSError as error:
                # A mount point somebody left, a file made immutable: the rest of the trash waits for the next time.
                log.warning("cannot empty the trash", path=error.filename, error=error.strerror)


class Syncer:
    """syncfs(2) for many callers: who comes while one runs waits for the next, together with all others."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._running = asyncio.Lock()
        self._asked = 0
        self._done = 0

    async def sync(self) -> None:
        """Return when all that was written before this call is on disk. Raises OSError."""
        self._asked += 1
        ticket = self._asked
        async with self._running:
            if self._done >= ticket:
                return
            covered = self._asked
            await asyncio.to_thread(syncfs, self._path)
            self._done = covered


def _names(directory: Path) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries]


def _spread(directory: Path) -> None:
    """Have ext4 put what is made in ``directory`` far apart.

    ext4 does not reuse an inode within a minute of its removal, and looks at each such inode in a block group, for each
    file it makes there. A layer put where one was just removed took 5 times as long as elsewhere. Directories in one
    that is marked as the top of a hierarchy go to a block group chosen by their name. Other file systems decline.
    """
    fd = os.open(directory, OPEN_DIRECTORY)
    try:
        with suppress(OSError):
            (flags,) = struct.unpack("l", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, struct.pack("l", 0)))
            fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("l", flags | _FS_TOPDIR_FL))
    finally:
        os.close(fd)
