"""The snapshots that containers and steps write to: those of the snapshotter's that runtimed made, and may remove."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

from runtimed.protocol import SnapshotMount
from sampan.errors import AlreadyExistsError, NotFoundError
from sampan.resource.snapshot import TRANSIENT_LABEL, Kind, SnapshotInfo
from sampan.sys.measuring import Usage

# Marks the snapshots that are ours to remove when no container has them.
_LABEL: Final = "sampan.runtime.container"


class Snapshotter(Protocol):
    """The part of ``resource.storage.snapshots.Snapshots`` that is needed."""

    async def prepare(self, key: str, parent: str | None, labels: Mapping[str, str]) -> tuple[SnapshotMount, ...]:
        """Make an active snapshot."""

    async def view(self, key: str, parent: str | None, labels: Mapping[str, str]) -> tuple[SnapshotMount, ...]:
        """Make a view."""

    async def mounts(self, key: str) -> tuple[SnapshotMount, ...]:
        """Return the mounts of one."""

    async def remove(self, key: str) -> None:
        """Remove one."""

    async def usage(self, key: str) -> Usage:
        """Measure what was written to one."""

    async def list(self, filters: Sequence[str]) -> Sequence[SnapshotInfo]:
        """Return all that match."""


class OwnSnapshots:
    """Satisfies ``protocol.Snapshots``. A key is made up for one container or step, and used by nobody else."""

    def __init__(self, snapshotter: Snapshotter) -> None:
        self._snapshotter = snapshotter

    async def prepare(self, key: str, parent: str, *, transient: bool = False) -> tuple[SnapshotMount, ...]:
        """Make an active snapshot, or return the one that is there; NotFoundError without the parent."""
        labels = {_LABEL: "true", TRANSIENT_LABEL: "true"} if transient else {_LABEL: "true"}
        try:
            return await self._snapshotter.prepare(key, parent, labels)
        except AlreadyExistsError:  # a call whose answer was lost
            return await self.mounts(key)

    async def view(self, key: str, parent: str) -> tuple[SnapshotMount, ...]:
        """Make a view, or return the one that is there; NotFoundError without the parent."""
        try:
            return await self._snapshotter.view(key, parent, {_LABEL: "true"})
        except AlreadyExistsError:  # a call whose answer was lost
            return await self.mounts(key)

    async def mounts(self, key: str) -> tuple[SnapshotMount, ...]:
        """Return its mounts; NotFoundError if there is none."""
        return await self._snapshotter.mounts(key)

    async def remove(self, key: str) -> None:
        """Remove it; no error if there is none."""
        try:
            await self._snapshotter.remove(key)
        except NotFoundError:
            return

    async def usage(self, key: str) -> Usage:
        """Return what was written to it, without its parents."""
        return await self._snapshotter.usage(key)

    async def keys(self) -> Collection[str]:
        """Return the active snapshots and views that were made for containers and steps."""
        found = await self._snapshotter.list(())
        return {one.key for one in found if one.kind is not Kind.COMMITTED and _LABEL in one.labels}
