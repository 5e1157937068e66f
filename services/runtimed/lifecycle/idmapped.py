"""Mounts that a container with a user namespace sees its own IDs in: what is on disk as 0 is its root's.

Nothing is copied and nothing changes on disk, so its files can be committed, copied and shared as any other's. An
overlay cannot be mapped itself; its layers can. Each is mapped at a place of its own, and the overlay keeps them when
those places are gone again.
"""

import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from runtimed.protocol import SnapshotMount
from sampan.resource.container_spec import IdMapping, Namespaces
from sampan.sys import idmaps
from sampan.sys.mounts import MNT_DETACH, UMOUNT_NOFOLLOW, attach, clone_tree, mount_options, umount2

# What overlayfs makes for itself is the host's root's, who is not among the container's IDs. On disk it has an ID that
# nobody else has: nothing that a container writes, and no layer is mapped so but the one that it writes to.
_NOBODY_S: Final = (1 << 32) - 2


@dataclass(frozen=True, slots=True)
class Owners:
    """By which IDs of the host the owners on disk are shown."""

    uids: tuple[IdMapping, ...]
    gids: tuple[IdMapping, ...]

    @classmethod
    def of(cls, namespaces: Namespaces) -> Self | None:
        """Return those of a container's user namespace; None: it has none."""
        return cls(namespaces.uid_mappings, namespaces.gid_mappings) if namespaces.uid_mappings else None

    @property
    def root(self) -> tuple[int, int]:
        """What root and its group in the container are on the host."""
        return outside(self.uids, 0), outside(self.gids, 0)


def outside(mappings: Iterable[IdMapping], id: int) -> int:
    """Return what an ID in a container is on the host; the host's root for one that is none in there."""
    for one in mappings:
        if one.container_id <= id < one.container_id + one.size:
            return one.host_id + id - one.container_id
    return 0


def _ranges(mappings: Iterable[IdMapping]) -> Iterator[idmaps.Range]:
    return ((one.container_id, one.host_id, one.size) for one in mappings)


class MappedMounts:
    """Makes them, and keeps a user namespace for each kind of owners. All methods block, and are safe in any thread."""

    def __init__(self, places: Path) -> None:
        """``places``: a directory for what lasts as long as a call, with a short path for the sake of deep images."""
        self._places = places
        self._users: dict[tuple[Owners, bool], int] = {}
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Take away what a call that was killed has left."""
        for place in self._places.glob("*/*"):
            _unmount(place)
        shutil.rmtree(self._places, ignore_errors=True)

    def close(self) -> None:
        """Let go of the user namespaces; what is mounted keeps them."""
        for users in self._users.values():
            os.close(users)
        self._users.clear()

    def users(self, owners: Owners, *, written_to: bool = False) -> int:
        """Return a descriptor of a user namespace with these IDs, which stays open. Raises OSError."""
        with self._lock:
            if (owners, written_to) not in self._users:
                more = ((_NOBODY_S, 0, 1),) if written_to else ()
                uids, gids = ((*_ranges(each), *more) for each in (owners.uids, owners.gids))
                self._users[owners, written_to] = idmaps.make_users(uids, gids)
            return self._users[owners, written_to]

    def make_users(self, owners: Owners) -> int:
        """Return a descriptor of a user namespace that nobody else has, the caller's to close. Raises OSError."""
        return idmaps.make_users(tuple(_ranges(owners.uids)), tuple(_ranges(owners.gids)))

    def mount(self, mount: SnapshotMount, target: Path, owners: Owners) -> None:
        """Carry out ``mount``. Raises OSError: EINVAL where a file system, or the kernel, cannot map owners."""
        if mount.fstype != "overlay":
            mount_options(mount.source, str(target), mount.fstype, mount.options)
            try:
                tree = self._mapped(target, owners)
            finally:
                umount2(str(target), MNT_DETACH | UMOUNT_NOFOLLOW)
            _put(tree, target)
            return
        self._places.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as stack:
            place = Path(tempfile.mkdtemp(dir=self._places, prefix=""))
            stack.callback(place.rmdir)
            mount_options(mount.source, str(target), "overlay", self._layers(mount.options, place, owners, stack))

    def _layers(self, options: Iterable[str], place: Path, owners: Owners, stack: ExitStack) -> list[str]:
        """Return the options of an overlay with its layers mapped, as long as ``stack`` is open."""
        found: list[str] = []
        written = ""
        for option in options:
            name, _, value = option.partition("=")
            if name == "lowerdir":
                lower = [
                    self._layer(Path(path), place / str(number), owners, stack)
                    for number, path in enumerate(value.split(":"))
                ]
                found.append(f"lowerdir={':'.join(map(str, lower))}")
            elif name in ("upperdir", "workdir"):  # which have to be in one mount
                above, _, last = value.rpartition("/")
                if not written:
                    written = above
                    self._layer(Path(above), place / "u", owners, stack, written_to=True)
                found.append(f"{name}={place}/u/{last}" if above == written else option)
            else:
                found.append(option)
        return found

    def _layer(self, source: Path, place: Path, owners: Owners, stack: ExitStack, *, written_to: bool = False) -> Path:
        place.mkdir(mode=0o700)
        stack.callback(place.rmdir)
        _put(self._mapped(source, owners, written_to=written_to), place)
        stack.callback(_unmount, place)
        return place

    def attach(self, source: Path, target: Path, owners: Owners) -> None:
        """Mount at ``target``, which is made, what is at ``source``, with all that is mounted below. Raises OSError."""
        if stat.S_ISDIR(source.stat().st_mode):
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
        else:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.touch(mode=0o600)
        _put(self._mapped(source, owners), target)

    def _mapped(self, source: Path, owners: Owners, *, written_to: bool = False) -> int:
        users = self.users(owners, written_to=written_to)
        found = os.open(source, os.O_PATH | os.O_CLOEXEC)
        try:
            tree = clone_tree(found)
        finally:
            os.close(found)
        try:
            idmaps.map_owners(tree, users)
        except OSError:
            os.close(tree)
            raise
        return tree


def _put(tree: int, target: Path) -> None:
    try:
        place = os.open(target, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            attach(tree, place)
        finally:
            os.close(place)
    finally:
        os.close(tree)


def _unmount(place: Path) -> None:
    with suppress(OSError):  # nothing is mounted there
        umount2(str(place), MNT_DETACH | UMOUNT_NOFOLLOW)
