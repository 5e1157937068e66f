"""The ``erofs`` driver: each layer one read-only image file, mounted as it is and stacked by the kernel.

Nothing that a layer names ever becomes a file of the host, and storing one is writing one file.
"""

import asyncio
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from sampan.errors import UnimplementedError
from sampan.sys.mounts import MNT_DETACH, umount2
from snapshotter.drivers.erofs.mounts import ErofsMounts, Way, mount_erofs
from snapshotter.drivers.erofs.writer import ErofsWriter, Meta
from snapshotter.drivers.overlayfs import OverlayDriver, probe_stack
from snapshotter.layers.formats import LayerFormat


class ErofsDriver(OverlayDriver):
    """Satisfies ``Driver``. Snapshots are as those of ``overlayfs``, and so are their mounts."""

    name = "erofs"
    layer_format = LayerFormat.EROFS

    def __init__(self, erofs: ErofsMounts, shorter: Callable[[str], str] = str) -> None:
        """Tell ``erofs``, once probed, how EROFS images are mounted here; see ``OverlayDriver`` for ``shorter``."""
        super().__init__(shorter)
        self._erofs = erofs

    async def probe(self, root: Path) -> str:
        """Mount a small image each way until one works, with an overlay on it, and keep to that way."""
        if not self._erofs.ways:
            raise UnimplementedError("the configuration forbids all ways to mount an EROFS image")
        failures = []
        for way in Way:
            if way not in self._erofs.ways:
                failures.append(f"{way.value}: the configuration forbids it")
                continue
            try:
                await asyncio.to_thread(probe_stack, root, partial(_small_image, way))
            except UnimplementedError as error:
                failures.append(f"{way.value}: {error}")
                continue
            self._erofs.choose(way)
            return "; ".join((f"a trial mount of an EROFS image {way.value} works", *failures))
        raise UnimplementedError("; ".join(failures))

    @property
    def found(self) -> str:
        """The way to mount an image that works here."""
        return self._erofs.way.name if self._erofs.way is not None else ""

    def assume(self, found: str) -> None:
        """Mount EROFS images that way."""
        self._erofs.choose(Way[found])


@contextmanager
def _small_image(way: Way, base: Path) -> Iterator[Path]:
    image, low = base / "image", base / "low"
    _write_small(image)
    low.mkdir()
    mount_erofs(way, image, low)
    try:
        yield low
    finally:
        with suppress(OSError):
            umount2(str(low), MNT_DETACH)


def _write_small(path: Path) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        image = ErofsWriter(fd)
        file = image.file(Meta(stat.S_IFREG | 0o644, 0, 0, 0, {}), 0, ())
        root = image.reserve_directory(Meta(stat.S_IFDIR | 0o755, 0, 0, 0, {}), [b".", b"..", b"hidden"], root=True)
        itself = (root.nid, stat.S_IFDIR)
        names = {b".": itself, b"..": itself, b"hidden": (file, stat.S_IFREG)}
        image.directory(root, names.__getitem__, nlink=2)
        image.finish()
    finally:
        os.close(fd)
