"""``sampan.runtime.v1.Volumes``: decode, one call, encode."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from sampan.api.runtime.v1 import volumes_pb2 as pb
from sampan.api.runtime.v1 import volumes_pb2_grpc
from sampan.client.convert import volumes as convert
from sampan.client.convert.containers import filters_from_proto
from sampan.resource.protocols import Volumes
from sampan.wire.pages import pages

Context = grpc.aio.ServicerContext[Any, Any]


class VolumesServicer(volumes_pb2_grpc.VolumesServicer):
    """Volumes."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    async def Create(self, request: pb.CreateVolumeRequest, context: Context) -> pb.Volume:
        """Make a volume, or return the one of that name."""
        return convert.VOLUME.encode(await self._volumes.create(convert.REQUEST.decode(request)))

    async def Get(self, request: pb.GetVolumeRequest, context: Context) -> pb.Volume:
        """Return a volume."""
        return convert.VOLUME.encode(await self._volumes.get(request.name))

    async def List(self, request: pb.ListVolumesRequest, context: Context) -> AsyncIterator[pb.ListVolumesResponse]:
        """Return the volumes that match."""
        found = await self._volumes.list(filters_from_proto(request.filters), size=request.size)
        for page in pages(pb.ListVolumesResponse, "volumes", map(convert.VOLUME.encode, found)):
            yield page

    async def Remove(self, request: pb.RemoveVolumeRequest, context: Context) -> pb.RemoveVolumeResponse:
        """Remove a volume."""
        await self._volumes.remove(request.name, force=request.force)
        return pb.RemoveVolumeResponse()

    async def Prune(self, request: pb.PruneVolumesRequest, context: Context) -> AsyncIterator[pb.PruneVolumesResponse]:
        """Remove what nobody uses."""
        pruned = await self._volumes.prune(filters_from_proto(request.filters))
        total = pruned.reclaimed_bytes
        for page in pages(pb.PruneVolumesResponse, "removed", pruned.removed, reclaimed_bytes=total):
            yield page
