"""The gRPC services: decode, call, encode."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.diff.v1 import diff_pb2 as diff_pb
from sampan.api.containerd.diff.v1 import diff_pb2_grpc as diff_grpc
from sampan.api.containerd.snapshots.v1 import snapshots_pb2 as snapshots_pb
from sampan.api.containerd.snapshots.v1 import snapshots_pb2_grpc as snapshots_grpc
from sampan.api.snapshot.v1 import layers_pb2 as layers_pb
from sampan.api.snapshot.v1 import layers_pb2_grpc as layers_grpc
from sampan.client.convert import snapshots as convert
from sampan.client.convert.oci import DESCRIPTOR
from sampan.oci.digest import Digest
from sampan.resource.storage.snapshots import Differ, Layers, Snapshots
from sampan.wire.pages import pages

Context = grpc.aio.ServicerContext[Any, Any]


class SnapshotsServicer(snapshots_grpc.SnapshotsServicer):
    """containerd.services.snapshots.v1.Snapshots."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    async def Prepare(
        self, request: snapshots_pb.PrepareSnapshotRequest, context: Context
    ) -> snapshots_pb.PrepareSnapshotResponse:
        """Make an active snapshot."""
        mounts = await self._snapshots.prepare(request.key, request.parent or None, dict(request.labels))
        return snapshots_pb.PrepareSnapshotResponse(mounts=map(convert.mount_to_proto, mounts))

    async def View(
        self, request: snapshots_pb.ViewSnapshotRequest, context: Context
    ) -> snapshots_pb.ViewSnapshotResponse:
        """Make a view."""
        mounts = await self._snapshots.view(request.key, request.parent or None, dict(request.labels))
        return snapshots_pb.ViewSnapshotResponse(mounts=map(convert.mount_to_proto, mounts))

    async def Mounts(self, request: snapshots_pb.MountsRequest, context: Context) -> snapshots_pb.MountsResponse:
        """Return mounts."""
        mounts = await self._snapshots.mounts(request.key)
        return snapshots_pb.MountsResponse(mounts=map(convert.mount_to_proto, mounts))

    async def Commit(self, request: snapshots_pb.CommitSnapshotRequest, context: Context) -> Empty:
        """Freeze an active snapshot."""
        await self._snapshots.commit(request.name, request.key, dict(request.labels))
        return Empty()

    async def Remove(self, request: snapshots_pb.RemoveSnapshotRequest, context: Context) -> Empty:
        """Remove a snapshot."""
        await self._snapshots.remove(request.key)
        return Empty()

    async def Stat(
        self, request: snapshots_pb.StatSnapshotRequest, context: Context
    ) -> snapshots_pb.StatSnapshotResponse:
        """Return what is known of a snapshot."""
        snapshot = await self._snapshots.stat(request.key)
        return snapshots_pb.StatSnapshotResponse(info=convert.info_to_proto(snapshot))

    async def Update(
        self, request: snapshots_pb.UpdateSnapshotRequest, context: Context
    ) -> snapshots_pb.UpdateSnapshotResponse:
        """Change labels."""
        labels, replace = convert.label_updates(request.info.labels, request.update_mask.paths)
        snapshot = await self._snapshots.update(request.info.name, labels, replace=replace)
        return snapshots_pb.UpdateSnapshotResponse(info=convert.info_to_proto(snapshot))

    async def List(
        self, request: snapshots_pb.ListSnapshotsRequest, context: Context
    ) -> AsyncIterator[snapshots_pb.ListSnapshotsResponse]:
        """Return snapshots."""
        found = await self._snapshots.list(tuple(request.filters))
        for page in pages(snapshots_pb.ListSnapshotsResponse, "info", map(convert.info_to_proto, found)):
            yield page

    async def Usage(self, request: snapshots_pb.UsageRequest, context: Context) -> snapshots_pb.UsageResponse:
        """Return disk use."""
        usage = await self._snapshots.usage(request.key)
        return snapshots_pb.UsageResponse(size=usage.size_bytes, inodes=usage.inodes)

    async def Cleanup(self, request: snapshots_pb.CleanupRequest, context: Context) -> Empty:
        """Remove what nothing refers to."""
        await self._snapshots.cleanup()
        return Empty()


class LayersServicer(layers_grpc.LayersServicer):
    """sampan.snapshot.v1.Layers."""

    def __init__(self, layers: Layers, differ: Differ) -> None:
        self._layers = layers
        self._differ = differ
        # The same sequence has the same encoding, which is most of the work.
        self._frozen_from: object = None
        self._frozen: Sequence[layers_pb.LayersUsageResponse] = ()

    async def Apply(
        self, request: layers_pb.ApplyLayerRequest, context: Context
    ) -> AsyncIterator[layers_pb.ApplyLayerProgress]:
        """Store a layer."""
        descriptor = DESCRIPTOR.decode(request.descriptor)
        # A client that leaves must not wait for the garbage collector to stop the work.
        async with aclosing(self._layers.apply(descriptor, Digest.parse(request.diff_id))) as steps:
            async for progress in steps:
                yield convert.PROGRESS.encode(progress)

    async def Stack(self, request: layers_pb.StackRequest, context: Context) -> layers_pb.StackResponse:
        """Make a stack of snapshots."""
        chain_id = await self._layers.stack(tuple(map(Digest.parse, request.diff_ids)))
        return layers_pb.StackResponse(chain_id=chain_id)

    async def Unpack(self, request: layers_pb.UnpackRequest, context: Context) -> layers_pb.UnpackResponse:
        """Apply and stack in the background."""
        await self._layers.unpack(
            [(DESCRIPTOR.decode(one.descriptor), Digest.parse(one.diff_id)) for one in request.layers]
        )
        return layers_pb.UnpackResponse()

    async def Unstack(
        self, request_iterator: AsyncIterator[layers_pb.UnstackRequest], context: Context
    ) -> AsyncIterator[layers_pb.UnstackResponse]:
        """Remove stacks."""
        stacks = [tuple(stack.chain_ids) async for request in request_iterator for stack in request.stacks]
        removed = await self._layers.unstack(stacks)
        for page in pages(
            layers_pb.UnstackResponse,
            "removed_chain_ids",
            removed.chain_ids,
            reclaimed_bytes=removed.reclaimed_bytes,
        ):
            yield page

    async def Drivers(self, request: layers_pb.DriversRequest, context: Context) -> layers_pb.DriversResponse:
        """Say which driver is in use."""
        return convert.DRIVERS.encode(await self._layers.drivers())

    async def Usage(
        self, request: layers_pb.LayersUsageRequest, context: Context
    ) -> AsyncIterator[layers_pb.LayersUsageResponse]:
        """Return all disk use."""
        frozen = await self._layers.usages(committed=True)
        if frozen is not self._frozen_from:
            encoded = tuple(_usages(map(convert.usage_to_proto, frozen)))
            self._frozen, self._frozen_from = encoded, frozen
        for page in self._frozen:
            yield page
        if not request.committed:
            known = {usage.key for usage in frozen}
            written = [usage for usage in await self._layers.usages() if usage.key not in known]
            for page in _usages(map(convert.usage_to_proto, written)):
                yield page

    async def Changes(
        self, request: layers_pb.ChangesRequest, context: Context
    ) -> AsyncIterator[layers_pb.ChangesResponse]:
        """Say what differs from the parent."""
        changes = await self._layers.changes(request.key)
        for page in pages(layers_pb.ChangesResponse, "changes", map(convert.change_to_proto, changes)):
            yield page

    async def Diff(self, request: layers_pb.DiffLayerRequest, context: Context) -> layers_pb.DiffLayerResponse:
        """Make a layer of what differs from the parent."""
        layer = await self._differ.layer_of(request.key, tuple(request.exclude), request.lease)
        return convert.new_layer_to_proto(layer)

    async def Freeze(self, request: layers_pb.FreezeRequest, context: Context) -> layers_pb.FreezeResponse:
        """Make an active snapshot a layer."""
        rewrite_timestamp = request.rewrite_timestamp if request.HasField("rewrite_timestamp") else None
        layer = await self._differ.freeze(
            request.key, tuple(request.exclude), request.lease, rewrite_timestamp, request.defer_bytes
        )
        return convert.frozen_to_proto(layer)

    async def Pack(self, request: layers_pb.PackRequest, context: Context) -> layers_pb.PackResponse:
        """Make a blob of a stored layer."""
        blob = await self._differ.pack(Digest.parse(request.diff_id), request.lease)
        return layers_pb.PackResponse(descriptor=DESCRIPTOR.encode(blob))

    async def Export(
        self, request: layers_pb.ExportRequest, context: Context
    ) -> AsyncIterator[layers_pb.ExportResponse]:
        """Send everything as a tar."""
        async with aclosing(self._differ.export(request.key)) as pieces:
            async for piece in pieces:
                yield layers_pb.ExportResponse(chunk=piece)


def _usages(snapshots: Iterable[layers_pb.LayersUsageResponse.Snapshot]) -> Iterator[layers_pb.LayersUsageResponse]:
    return pages(layers_pb.LayersUsageResponse, "snapshots", snapshots)


class DiffServicer(diff_grpc.DiffServicer):
    """containerd.services.diff.v1.Diff."""

    def __init__(self, differ: Differ) -> None:
        self._differ = differ

    async def Apply(self, request: diff_pb.ApplyRequest, context: Context) -> diff_pb.ApplyResponse:
        """Unpack a layer onto a snapshot."""
        applied = await self._differ.apply_onto(
            DESCRIPTOR.decode(request.diff), convert.mounts_from_proto(request.mounts)
        )
        return diff_pb.ApplyResponse(applied=DESCRIPTOR.encode(applied))

    async def Diff(self, request: diff_pb.DiffRequest, context: Context) -> diff_pb.DiffResponse:
        """Make a layer of a difference."""
        descriptor = await self._differ.diff(
            convert.mounts_from_proto(request.left),
            convert.mounts_from_proto(request.right),
            request.media_type,
            request.ref,
            dict(request.labels),
        )
        return diff_pb.DiffResponse(diff=DESCRIPTOR.encode(descriptor))
