"""Layers that are EROFS images, mounted where snapshots need them.

<directory>/<number>   the layer of that number (see ``disk``), mounted when it is first needed

What is mounted is the kernel's to say: nothing is remembered, so a service that starts again finds what is there.
"""

import asyncio
import errno
import re
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Final

from sampan.errors import DataLossError, SampanError, UnavailableError
from sampan.log import log
from sampan.service.set_aside import SetAside
from sampan.sys.closed import make_closed
from sampan.sys.loop import read_only_loop
from sampan.sys.mounts import MNT_DETACH, MS_RDONLY, mount, mount_table, umount2
from snapshotter.drivers.erofs.layout import SUPER_END, size_of

_DAMAGED: Final = frozenset({errno.EINVAL, errno.EUCLEAN, errno.EIO, errno.EBADMSG, errno.EOPNOTSUPP})


class Way(Enum):
    """How an EROFS image becomes a mount."""

    FILE = "directly from its file"  # since Linux 6.12
    LOOP = "through a loop device"


class ErofsMounts:
    """The mounts below one directory. Numbers are never used for two layers."""

    def __init__(self, directory: Path, ways: Iterable[Way] = tuple(Way)) -> None:
        """Name the directory, for nobody else, and the ways that may be tried, in their order."""
        self._directory = directory
        self.ways = tuple(ways)
        self.counted: Callable[[bool], None] = lambda _: None  # told of each image whether it could be mounted
        self._way: Way | None = None
        self._changing = asyncio.Lock()

    @property
    def usable(self) -> bool:
        """Whether EROFS images can be mounted on this host: a way has been chosen."""
        return self._way is not None

    @property
    def way(self) -> Way | None:
        """How EROFS images are mounted here; None: not chosen yet."""
        return self._way

    def choose(self, way: Way) -> None:
        """Mount this way from now on."""
        self._way = way

    def prepare(self, root: Path, known: set[int], set_aside: SetAside) -> None:
        """Take over the mounts that an earlier process on the data root ``root`` left; only those of ``known`` stay.

        Numbers begin anew with each data root, so the mounts of one that is gone must not be taken for this one's.
        """
        make_closed(self._directory)
        token = _token(root / "token")
        owner = self._directory / "of"
        same = owner.exists() and owner.read_text() == token
        for number in self._numbers():
            if not same or number not in known:
                with set_aside.guard("mount", str(number)):
                    self._detach(number)
        owner.write_text(token)

    def expected_bytes(self, image: Path) -> int:
        """Return how large an image says it is, -1 if it does not say; blocks for a moment."""
        try:
            with image.open("rb", buffering=0) as file:
                return size_of(file.read(SUPER_END))
        except OSError:
            return -1

    def is_complete(self, image: Path) -> bool:
        """Say whether an image is there in full; blocks for a moment."""
        try:
            return image.stat().st_size == self.expected_bytes(image)
        except FileNotFoundError:
            return False

    def shown(self) -> list[tuple[int, str]]:
        """Return the numbers that are mounted, each with the file it shows, empty where the kernel names a device."""
        found = []
        for line in mount_table():
            fields = line.split(" ")
            number = self.number(Path(_unescape(fields[4])))
            if number is not None:
                source = _unescape(fields[fields.index("-") + 2])
                found.append((number, "" if source.startswith("/dev/") else source))
        return found

    def path(self, number: int) -> Path:
        """Where the layer's files are, once it is shown."""
        return self._directory / str(number)

    def number(self, path: Path) -> int | None:
        """Return the number of the layer whose files are at ``path``, if it is such a place."""
        return int(path.name) if path.parent == self._directory and path.name.isdecimal() else None

    async def show(self, number: int, image: Path) -> Path:
        """Have the image mounted, and return where. It stays until ``hide`` or ``close``.

        Raises:
            DataLossError: there is no image any more, or it is damaged.
            UnavailableError: this host cannot mount it.
        """
        target = self.path(number)
        if not _is_mount(target):
            async with self._changing:
                try:
                    await asyncio.to_thread(self._mount, image, target)
                except SampanError:
                    self.counted(False)
                    raise
            self.counted(True)
        return target

    async def hide(self, *numbers: int) -> None:
        """Unmount layers, if they are mounted; who uses one goes on to do so. Call it when their images are gone."""
        if numbers:
            async with self._changing:
                await asyncio.to_thread(self._detach_all, numbers)

    async def mounted(self) -> list[int]:
        """Return the numbers of what is mounted, or was to be."""
        return await asyncio.to_thread(self._numbers)

    async def close(self) -> None:
        """Unmount all. Containers that use them are not disturbed: an overlay holds on to its layers by itself."""
        async with self._changing:
            await asyncio.to_thread(lambda: self._detach_all(self._numbers()))

    def _detach_all(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._detach(number)

    def _numbers(self) -> list[int]:
        return [int(path.name) for path in self._directory.iterdir() if path.name.isdecimal()]

    def _mount(self, image: Path, target: Path) -> None:
        target.mkdir(mode=0o700, exist_ok=True)
        if _is_mount(target):  # by another caller, meanwhile
            return
        try:
            if self._way is None:
                raise UnavailableError(
                    f"{image} is an EROFS image, which this host cannot mount: pull the OCI image of the layer again"
                )
            try:
                mount_erofs(self._way, image, target)
            except FileNotFoundError:
                raise DataLossError(f"{image} has vanished from disk: pull the OCI image of the layer again") from None
            except OSError as error:
                if error.errno in _DAMAGED:
                    raise DataLossError(
                        f"{image} is damaged ({error.strerror}): remove and pull the OCI image of the layer"
                    ) from error
                raise UnavailableError(f"{image} cannot be mounted: {error.strerror}") from error
        except BaseException:
            # An empty directory must never be taken for the layer.
            target.rmdir()
            raise

    def _detach(self, number: int) -> None:
        target = self.path(number)
        while target.is_dir():
            try:
                umount2(str(target), MNT_DETACH)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    log.warning("cannot unmount a layer", path=str(target), error=error.strerror)
                    return
                with suppress(FileNotFoundError):
                    target.rmdir()


def mount_erofs(way: Way, image: Path, target: Path) -> None:
    """Mount an image, read-only. Raises OSError."""
    if way is Way.FILE:
        mount(str(image), str(target), "erofs", MS_RDONLY)
        return
    with read_only_loop(image) as device:
        mount(device, str(target), "erofs", MS_RDONLY)


def _unescape(field: str) -> str:
    """Undo what the kernel does to blanks and backslashes in mountinfo."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _is_mount(path: Path) -> bool:
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except FileNotFoundError:
        return False


def _token(path: Path) -> str:
    """Return what tells this data root from all others, and from another at the same place."""
    with suppress(FileExistsError), path.open("x") as file:
        file.write(secrets.token_hex(16))
    return path.read_text()
