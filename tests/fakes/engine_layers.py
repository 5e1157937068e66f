"""The snapshotter of the small engine, and what its services say of their disks."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from sampan.api.containerd.types import types_pb2
from sampan.api.disk.v1 import disk_pb2, disk_pb2_grpc
from sampan.api.snapshot.v1 import layers_pb2, layers_pb2_grpc
from sampan.client.convert.disk import OBJECT, collected_to_proto
from sampan.disk import LEASE, ORPHAN, Collected, Freed, StoredObject
from sampan.errors import (
    DataLossError,
    NotFoundError,
    UnavailableError,
)
from sampan.oci.chain import chain_ids
from sampan.oci.digest import Digest
from sampan.wire.pages import pages

DIFF_IDS = (Digest.of(b"diff one"), Digest.of(b"diff two"))
LAYER_BYTES = 1000


@dataclass
class FakeLayers(layers_pb2_grpc.LayersServicer):
    """Layers that are there once somebody applies them; ``corrupt`` ones are found out when all ``stuck`` ones are."""

    applied: set[str] = field(default_factory=set)
    chains: set[str] = field(default_factory=set)
    corrupt: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    cancelled: list[str] = field(default_factory=list)
    down: bool = False  # when it is to stack, or to take down
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # set whenever an Apply has ended
    _all_stuck: asyncio.Event = field(default_factory=asyncio.Event)
    _stuck_now: set[str] = field(default_factory=set)
    added: list[str] = field(default_factory=lambda: ["/etc/new"])  # in every container
    packed: list[str] = field(default_factory=list)

    async def Apply(
        self, request: layers_pb2.ApplyLayerRequest, context: Any
    ) -> AsyncIterator[layers_pb2.ApplyLayerProgress]:
        existed = request.diff_id in self.applied
        try:
            if not existed:
                yield layers_pb2.ApplyLayerProgress(read_bytes=request.descriptor.size)
                await self._read(request)
                self.applied.add(request.diff_id)
            yield layers_pb2.ApplyLayerProgress(existed=existed, done=True, size_bytes=LAYER_BYTES * 3)
        except BaseException:
            self.cancelled.append(request.diff_id)
            raise
        finally:
            self.ended.set()

    async def _read(self, request: layers_pb2.ApplyLayerRequest) -> None:
        if request.diff_id in self.stuck:
            self._stuck_now.add(request.diff_id)
            if self._stuck_now == self.stuck:
                self._all_stuck.set()
            await asyncio.Event().wait()
        if request.diff_id in self.corrupt:
            if self.stuck:
                await self._all_stuck.wait()
            raise DataLossError(f"layer {request.descriptor.digest} is corrupt")

    async def Stack(self, request: layers_pb2.StackRequest, context: Any) -> layers_pb2.StackResponse:
        if self.down:
            raise UnavailableError("the snapshotter was killed")
        for diff_id in request.diff_ids:
            if diff_id not in self.applied:
                raise NotFoundError(f"layer {diff_id} is not stored")
        chain = chain_ids(Digest(diff_id) for diff_id in request.diff_ids)
        self.chains.update(chain)
        return layers_pb2.StackResponse(chain_id=chain[-1] if chain else "")

    async def Pack(self, request: layers_pb2.PackRequest, context: Any) -> layers_pb2.PackResponse:
        if request.diff_id not in self.applied:
            raise NotFoundError(f"layer {request.diff_id} is not stored")
        self.packed.append(request.diff_id)
        digest = Digest.of(f"blob of {request.diff_id}".encode())
        return layers_pb2.PackResponse(descriptor=types_pb2.Descriptor(digest=digest, size=LAYER_BYTES))

    async def Unstack(
        self, requests: AsyncIterator[layers_pb2.UnstackRequest], context: Any
    ) -> AsyncIterator[layers_pb2.UnstackResponse]:
        if self.down:
            raise UnavailableError("the snapshotter was killed")
        stacks = [stack async for request in requests for stack in request.stacks]
        removed = [chain_id for stack in stacks for chain_id in reversed(stack.chain_ids)]
        self.chains.difference_update(removed)
        yield layers_pb2.UnstackResponse(removed_chain_ids=removed)

    async def Drivers(self, request: layers_pb2.DriversRequest, context: Any) -> layers_pb2.DriversResponse:
        driver = layers_pb2.DriversResponse.Driver(name="overlayfs", usable=True)
        return layers_pb2.DriversResponse(driver="overlayfs", backing_filesystem="extfs", drivers=[driver])

    async def Usage(
        self, request: layers_pb2.LayersUsageRequest, context: Any
    ) -> AsyncIterator[layers_pb2.LayersUsageResponse]:
        base, top = chain_ids(DIFF_IDS)
        snapshot = layers_pb2.LayersUsageResponse.Snapshot
        yield layers_pb2.LayersUsageResponse(
            snapshots=[
                snapshot(key=base, size_bytes=3000, diff_id=DIFF_IDS[0]),
                snapshot(key=top, parent=base, size_bytes=500, diff_id=DIFF_IDS[1]),
            ]
        )

    async def Changes(
        self, request: layers_pb2.ChangesRequest, context: Any
    ) -> AsyncIterator[layers_pb2.ChangesResponse]:
        change = layers_pb2.ChangesResponse.Change
        kinds = layers_pb2.ChangesResponse
        changes = [
            change(path="/etc", kind=kinds.MODIFIED),
            *(change(path=one, kind=kinds.ADDED) for one in self.added),
        ]
        for page in pages(layers_pb2.ChangesResponse, "changes", changes):
            yield page


@dataclass
class FakeDisk(disk_pb2_grpc.DiskServicer):
    """Objects that are there until a pass: those that nobody holds go, and with ``leftovers`` those that leases do."""

    objects: list[StoredObject] = field(default_factory=list)
    passes: list[bool] = field(default_factory=list)  # with leftovers or not

    async def Usage(self, request: disk_pb2.UsageRequest, context: Any) -> AsyncIterator[disk_pb2.UsageResponse]:
        for one in self.objects:
            yield disk_pb2.UsageResponse(objects=[OBJECT.encode(one)])

    async def Collect(self, request: disk_pb2.CollectRequest, context: Any) -> disk_pb2.CollectResponse:
        self.passes.append(request.leftovers)
        owners = {ORPHAN, LEASE} if request.leftovers else {ORPHAN}
        gone = [one for one in self.objects if one.owner in owners]
        self.objects = [one for one in self.objects if one.owner not in owners]
        return collected_to_proto(
            Collected({one.kind: Freed(1, one.size_bytes) for one in gone}, seconds=0.1) if gone else Collected()
        )
