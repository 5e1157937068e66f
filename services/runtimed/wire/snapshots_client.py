"""The snapshotter over gRPC, as ``protocol.Snapshots``."""

from collections.abc import Collection, Iterable
from typing import Final

import grpc

from runtimed.protocol import SnapshotMount
from sampan.api.containerd.snapshots.v1 import snapshots_pb2 as pb
from sampan.api.containerd.snapshots.v1 import snapshots_pb2_grpc
from sampan.api.containerd.types.types_pb2 import Mount
from sampan.errors import AlreadyExistsError, NotFoundError
from sampan.wire.repeating import LIST_SNAPSHOTS, MOUNTS, PREPARE_OWN, REMOVE_SNAPSHOT, USAGE, Repeating

# Marks the snapshots that are ours to remove when no container has them.
_LABEL: Final = "sampan.runtime.container"

# The snapshotter may just be starting, as at boot or after a crash.
_TIMEOUT_S: Final = 15.0
# Large trees take their time to go.
_REMOVE_TIMEOUT_S: Final = 120.0


class SnapshotsClient:
    """Calls the snapshotter at the other end of a channel; each call waits for it to be there."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = snapshots_pb2_grpc.SnapshotsStub(channel)
        self._again = Repeating(channel, "snapshotter", waits=True)

    async def prepare(self, key: str, parent: str) -> tuple[SnapshotMount, ...]:
        """Make an active snapshot, or return the one that is there; NotFoundError without the parent."""
        request = pb.PrepareSnapshotRequest(key=key, parent=parent, labels={_LABEL: "true"})
        try:
            answer = await self._again.ask(
                PREPARE_OWN, lambda: self._stub.Prepare(request, timeout=_TIMEOUT_S, wait_for_ready=True)
            )
        except AlreadyExistsError:  # a call whose answer was lost
            return await self.mounts(key)
        return _mounts(answer.mounts)

    async def mounts(self, key: str) -> tuple[SnapshotMount, ...]:
        """Return its mounts; NotFoundError if there is none."""
        request = pb.MountsRequest(key=key)
        answer = await self._again.ask(
            MOUNTS, lambda: self._stub.Mounts(request, timeout=_TIMEOUT_S, wait_for_ready=True)
        )
        return _mounts(answer.mounts)

    async def remove(self, key: str) -> None:
        """Remove it; no error if there is none."""
        try:
            request = pb.RemoveSnapshotRequest(key=key)
            await self._again.do(
                REMOVE_SNAPSHOT,
                lambda: self._stub.Remove(request, timeout=_REMOVE_TIMEOUT_S, wait_for_ready=True),
            )
        except NotFoundError:
            return

    async def usage_bytes(self, key: str) -> int:
        """Return what was written to it, without its parents."""
        request = pb.UsageRequest(key=key)
        answer = await self._again.ask(
            USAGE, lambda: self._stub.Usage(request, timeout=_TIMEOUT_S, wait_for_ready=True)
        )
        return answer.size

    async def keys(self) -> Collection[str]:
        """Return the active snapshots that were made for containers."""
        return await self._again.ask(LIST_SNAPSHOTS, self._keys)

    async def _keys(self) -> Collection[str]:
        found: set[str] = set()
        async for page in self._stub.List(pb.ListSnapshotsRequest(), timeout=_TIMEOUT_S, wait_for_ready=True):
            found |= {info.name for info in page.info if info.kind == pb.ACTIVE and _LABEL in info.labels}
        return found


def _mounts(mounts: Iterable[Mount]) -> tuple[SnapshotMount, ...]:
    return tuple(SnapshotMount(mount.type, mount.source, tuple(mount.options)) for mount in mounts)
