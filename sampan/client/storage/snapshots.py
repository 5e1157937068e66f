"""Clients of the snapshotter: ``containerd.services.snapshots.v1``, ``diff.v1`` and ``sampan.snapshot.v1``."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from operator import attrgetter
from typing import Final

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from sampan.api.containerd.diff.v1 import diff_pb2 as diff_pb
from sampan.api.containerd.diff.v1 import diff_pb2_grpc as diff_grpc
from sampan.api.containerd.snapshots.v1 import snapshots_pb2 as snapshots_pb
from sampan.api.containerd.snapshots.v1 import snapshots_pb2_grpc as snapshots_grpc
from sampan.api.snapshot.v1 import layers_pb2 as layers_pb
from sampan.api.snapshot.v1 import layers_pb2_grpc as layers_grpc
from sampan.client.calls import Recent, read
from sampan.client.convert import snapshots as convert
from sampan.client.convert.oci import DESCRIPTOR
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.resource.snapshot import (
    ApplyProgress,
    Change,
    DriversReport,
    Mount,
    NewLayer,
    SnapshotInfo,
    SnapshotUsage,
    Unstacked,
)
from sampan.sys.measuring import Usage
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import pages, send, whole
from sampan.wire.repeating import (
    FREEZE,
    LIST_SNAPSHOTS,
    MOUNTS,
    PACK,
    PREPARE_OWN,
    REMOVE_SNAPSHOT,
    STACK,
    STAT_SNAPSHOT,
    USAGE,
    Repeating,
)

# For a snapshotter that may just be starting; large trees take their time to go.
_TIMEOUT_S: Final = 15.0
_REMOVE_TIMEOUT_S: Final = 120.0

_USAGE: Final = layers_pb.DESCRIPTOR.services_by_name["Layers"].methods_by_name["Usage"]


class SnapshotsClient:
    """Satisfies ``resource.storage.snapshots.Snapshots``."""

    def __init__(self, channel: grpc.aio.Channel, *, waits: bool = False, own: bool = False) -> None:
        """With ``waits`` a service that is away is waited for by its first call, too: see ``Repeating``.

        ``own`` is for a service that makes up its keys for itself alone. A snapshotter that is just starting, as at
        boot, is waited for by every call; and a prepare is made once more, too, which may end with AlreadyExistsError
        for a snapshot that the first one has made.
        """
        self._stub: snapshots_grpc.SnapshotsAsyncStub = snapshots_grpc.SnapshotsStub(channel)
        self._again = Repeating(channel, "snapshotter", waits=waits or own)
        self._own = own
        self._timeout_s = _TIMEOUT_S if own else None

    async def prepare(self, key: str, parent: str | None, labels: Mapping[str, str]) -> tuple[Mount, ...]:
        """See ``resource.storage.snapshots.Snapshots``."""
        request = snapshots_pb.PrepareSnapshotRequest(key=key, parent=parent or "", labels=labels)
        if self._own:
            answer = await self._again.ask(
                PREPARE_OWN, lambda: self._stub.Prepare(request, timeout=self._timeout_s, wait_for_ready=True)
            )
            return convert.mounts_from_proto(answer.mounts)
        with rpc_errors():
            return convert.mounts_from_proto((await self._stub.Prepare(request)).mounts)

    async def view(self, key: str, parent: str | None, labels: Mapping[str, str]) -> tuple[Mount, ...]:
        """See ``resource.storage.snapshots.Snapshots``."""
        request = snapshots_pb.ViewSnapshotRequest(key=key, parent=parent or "", labels=labels)
        with rpc_errors():
            return convert.mounts_from_proto((await self._stub.View(request)).mounts)

    async def mounts(self, key: str) -> tuple[Mount, ...]:
        """See ``resource.storage.snapshots.Snapshots``."""
        request = snapshots_pb.MountsRequest(key=key)
        answer = await self._again.ask(
            MOUNTS, lambda: self._stub.Mounts(request, timeout=self._timeout_s, wait_for_ready=self._own)
        )
        return convert.mounts_from_proto(answer.mounts)

    async def commit(self, name: str, key: str, labels: Mapping[str, str]) -> None:
        """See ``resource.storage.snapshots.Snapshots``."""
        with rpc_errors():
            await self._stub.Commit(snapshots_pb.CommitSnapshotRequest(name=name, key=key, labels=labels))

    async def remove(self, key: str) -> None:
        """See ``resource.storage.snapshots.Snapshots``."""
        request = snapshots_pb.RemoveSnapshotRequest(key=key)
        timeout_s = _REMOVE_TIMEOUT_S if self._own else None
        await self._again.do(
            REMOVE_SNAPSHOT, lambda: self._stub.Remove(request, timeout=timeout_s, wait_for_ready=self._own)
        )

    async def stat(self, key: str) -> SnapshotInfo:
        """See ``resource.storage.snapshots.Snapshots``."""
        request = snapshots_pb.StatSnapshotRequest(key=key)
        return convert.info_from_proto((await self._again.ask(STAT_SNAPSHOT, lambda: self._stub.Stat(request))).info)

    async def update(self, key: str, labels: Mapping[str, str | None], *, replace: bool) -> SnapshotInfo:
        """See ``resource.storage.snapshots.Snapshots``."""
        values = {name: value for name, value in labels.items() if value is not None}
        request = snapshots_pb.UpdateSnapshotRequest(
            info=snapshots_pb.Info(name=key, labels=values),
            update_mask=FieldMask(paths=["labels"] if replace else [f"labels.{name}" for name in labels]),
        )
        with rpc_errors():
            return convert.info_from_proto((await self._stub.Update(request)).info)

    async def _list(self, filters: Sequence[str]) -> list[SnapshotInfo]:
        request = snapshots_pb.ListSnapshotsRequest(filters=filters)
        found: list[SnapshotInfo] = []
        async for part in self._stub.List(request, timeout=self._timeout_s, wait_for_ready=self._own):
            found += map(convert.info_from_proto, part.info)
        return found

    async def list(self, filters: Sequence[str]) -> list[SnapshotInfo]:
        """See ``resource.storage.snapshots.Snapshots``."""
        return await self._again.ask(LIST_SNAPSHOTS, lambda: self._list(filters))

    async def usage(self, key: str) -> Usage:
        """See ``resource.storage.snapshots.Snapshots``."""
        request = snapshots_pb.UsageRequest(key=key)
        usage = await self._again.ask(
            USAGE, lambda: self._stub.Usage(request, timeout=self._timeout_s, wait_for_ready=self._own)
        )
        return Usage(usage.size, usage.inodes)

    async def cleanup(self) -> None:
        """See ``resource.storage.snapshots.Snapshots``."""
        with rpc_errors():
            await self._stub.Cleanup(snapshots_pb.CleanupRequest())


class LayersClient:
    """Satisfies ``resource.storage.snapshots.Layers``."""

    def __init__(self, channel: grpc.aio.Channel, *, waits: bool = False) -> None:
        """With ``waits`` a service that is away is waited for by its first call, too: see ``Repeating``."""
        self._stub: layers_grpc.LayersAsyncStub = layers_grpc.LayersStub(channel)
        self._again = Repeating(channel, "snapshotter", waits=waits)
        self._usages = Recent(channel, _USAGE, layers_pb.LayersUsageResponse, _usages)

    def apply(self, descriptor: Descriptor, diff_id: Digest) -> AsyncGenerator[ApplyProgress, None]:
        """See ``resource.storage.snapshots.Layers``."""
        request = layers_pb.ApplyLayerRequest(descriptor=DESCRIPTOR.encode(descriptor), diff_id=diff_id)
        return read(self._stub.Apply(request), convert.PROGRESS.decode)

    async def stack(self, diff_ids: Sequence[Digest]) -> str:
        """See ``resource.storage.snapshots.Layers``."""
        request = layers_pb.StackRequest(diff_ids=diff_ids)
        return (await self._again.ask(STACK, lambda: self._stub.Stack(request))).chain_id

    async def unpack(self, layers: Sequence[tuple[Descriptor, Digest]]) -> None:
        """See ``resource.storage.snapshots.Layers``."""
        requests = [
            layers_pb.ApplyLayerRequest(descriptor=DESCRIPTOR.encode(descriptor), diff_id=diff_id)
            for descriptor, diff_id in layers
        ]
        with rpc_errors():
            await self._stub.Unpack(layers_pb.UnpackRequest(layers=requests))

    async def unstack(self, stacks: Sequence[Sequence[str]]) -> Unstacked:
        """See ``resource.storage.snapshots.Layers``."""
        with rpc_errors():
            asked = (layers_pb.UnstackRequest.Stack(chain_ids=stack) for stack in stacks)
            removed = await whole(self._stub.Unstack(send(pages(layers_pb.UnstackRequest, "stacks", asked))))
        return Unstacked(tuple(removed.removed_chain_ids), removed.reclaimed_bytes)

    async def drivers(self) -> DriversReport:
        """See ``resource.storage.snapshots.Layers``."""
        with rpc_errors():
            return convert.DRIVERS.decode(await self._stub.Drivers(layers_pb.DriversRequest()))

    async def usages(self, *, committed: bool = False) -> Sequence[SnapshotUsage]:
        """See ``resource.storage.snapshots.Layers``."""
        found: list[SnapshotUsage] = []
        request = layers_pb.LayersUsageRequest(committed=committed)
        async with aclosing(self._usages.pages(request)) as pages_:
            async for page in pages_:
                found += page
        return found

    async def changes(self, key: str) -> list[Change]:
        """See ``resource.storage.snapshots.Layers``."""
        with rpc_errors():
            response = await whole(self._stub.Changes(layers_pb.ChangesRequest(key=key)))
        return list(map(convert.change_from_proto, response.changes))


class DifferClient:
    """Satisfies ``resource.storage.snapshots.Differ``."""

    def __init__(self, channel: grpc.aio.Channel, *, waits: bool = False) -> None:
        """With ``waits`` a service that is away is waited for by its first call, too: see ``Repeating``."""
        self._stub: diff_grpc.DiffAsyncStub = diff_grpc.DiffStub(channel)
        self._layers: layers_grpc.LayersAsyncStub = layers_grpc.LayersStub(channel)
        self._again = Repeating(channel, "snapshotter", waits=waits)

    async def apply_onto(self, descriptor: Descriptor, mounts: Sequence[Mount]) -> Descriptor:
        """See ``resource.storage.snapshots.Differ``."""
        request = diff_pb.ApplyRequest(diff=DESCRIPTOR.encode(descriptor), mounts=map(convert.mount_to_proto, mounts))
        with rpc_errors():
            return DESCRIPTOR.decode((await self._stub.Apply(request)).applied)

    async def diff(
        self,
        left: Sequence[Mount],
        right: Sequence[Mount],
        media_type: str,
        ref: str,
        labels: Mapping[str, str],
    ) -> Descriptor:
        """See ``resource.storage.snapshots.Differ``."""
        request = diff_pb.DiffRequest(
            left=map(convert.mount_to_proto, left),
            right=map(convert.mount_to_proto, right),
            media_type=media_type,
            ref=ref,
            labels=labels,
        )
        with rpc_errors():
            return DESCRIPTOR.decode((await self._stub.Diff(request)).diff)

    async def layer_of(self, key: str, exclude: Sequence[str], lease: str = "") -> NewLayer | None:
        """See ``resource.storage.snapshots.Differ``."""
        with rpc_errors():
            return convert.new_layer_from_proto(
                await self._layers.Diff(layers_pb.DiffLayerRequest(key=key, exclude=exclude, lease=lease))
            )

    async def freeze(
        self,
        key: str,
        exclude: Sequence[str],
        lease: str = "",
        rewrite_timestamp: int | None = None,
        defer_bytes: int = 0,
    ) -> NewLayer | None:
        """See ``resource.storage.snapshots.Differ``."""
        request = layers_pb.FreezeRequest(
            key=key, exclude=exclude, lease=lease, rewrite_timestamp=rewrite_timestamp, defer_bytes=defer_bytes
        )
        return convert.frozen_from_proto(await self._again.ask(FREEZE, lambda: self._layers.Freeze(request)))

    async def pack(self, diff_id: Digest, lease: str = "") -> Descriptor:
        """See ``resource.storage.snapshots.Differ``."""
        request = layers_pb.PackRequest(diff_id=diff_id, lease=lease)
        return DESCRIPTOR.decode((await self._again.ask(PACK, lambda: self._layers.Pack(request))).descriptor)

    def export(self, key: str) -> AsyncGenerator[bytes, None]:
        """See ``resource.storage.snapshots.Differ``."""
        return read(self._layers.Export(layers_pb.ExportRequest(key=key)), attrgetter("chunk"))


def _usages(page: layers_pb.LayersUsageResponse) -> list[SnapshotUsage]:
    return list(map(convert.usage_from_proto, page.snapshots))
