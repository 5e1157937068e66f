"""Snapshots that steps use, each mounted once, for as long as one of them does.

One active snapshot may be shown in several steps at a time, and no overlay bears being mounted twice for writing.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtimed.containers.paths import Paths
from runtimed.lifecycle.mounter import Mounter
from runtimed.protocol import SnapshotMount, Snapshots
from runtimed.steps.paths import snapshot_directory
from runtimed.steps.stubs import Stubs
from sampan.cancellation import to_the_end
from sampan.errors import StartError


@dataclass(frozen=True, slots=True)
class Mounted:
    """A snapshot as a step has it."""

    path: Path
    stubs: Stubs  # of all the steps that have it
    mounts: tuple[SnapshotMount, ...] = ()  # that were made there


class _Shared:
    """A snapshot that at least one step uses."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stubs = Stubs(path)
        self.users = 0
        self.mounted = False
        self.mounts: tuple[SnapshotMount, ...] = ()
        self.changing = asyncio.Lock()  # one mounts, and those who come meanwhile find it mounted


class MountedSnapshots:
    """Mounts and unmounts; for one event loop."""

    def __init__(self, snapshots: Snapshots, mounter: Mounter, paths: Paths) -> None:
        self._snapshots: Final = snapshots
        self._mounter: Final = mounter
        self._paths: Final = paths
        self._shared: dict[str, _Shared] = {}

    async def acquire(self, key: str) -> "Mounted":
        """Return where the snapshot ``key`` is mounted; for each time there must be a ``release``.

        Raises:
            NotFoundError: there is no such snapshot.
            StartError: it cannot be mounted.
        """
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = _Shared(snapshot_directory(self._paths, key))
        shared.users += 1
        try:
            async with shared.changing:
                if not shared.mounted:
                    shared.mounts = await self._snapshots.mounts(key)
                    await to_the_end(asyncio.to_thread(self._mount, key, shared.mounts, shared.path))
                    shared.mounted = True
        except BaseException:
            await self.release(key)
            raise
        return Mounted(shared.path, shared.stubs, shared.mounts)

    async def release(self, key: str) -> None:
        """Let go of it. The last one removes the places that were made in it and are empty, and unmounts it."""
        shared = self._shared[key]
        shared.users -= 1
        if shared.users:
            return
        async with shared.changing:
            if shared.users:  # somebody came meanwhile
                return
            if shared.mounted:
                await to_the_end(asyncio.to_thread(self._let_go, shared))
                shared.mounted = False
        if not shared.users and self._shared.get(key) is shared:
            del self._shared[key]

    def _mount(self, key: str, mounts: tuple[SnapshotMount, ...], path: Path) -> None:
        path.mkdir(mode=0o700, exist_ok=True)
        for mount in mounts:
            try:
                self._mounter.mount(mount, path)
            except OSError as error:
                self._unmount(path)
                raise StartError(f"cannot mount the snapshot {key}: {error.strerror}") from error

    def _let_go(self, shared: _Shared) -> None:
        shared.stubs.remove()
        self._unmount(shared.path)

    def _unmount(self, path: Path) -> None:
        self._mounter.unmount(path)
        path.rmdir()
