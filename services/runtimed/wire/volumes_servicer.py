"""gRPC's side of volumes: decode, one call, encode."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from runtimed.volumes.operations import LocalVolumes
from runtimed.volumes.store import Volume
from runtimed.wire.convert import filters_from_proto, timestamp
from sampan.api.runtime.v1 import volumes_pb2 as pb
from sampan.api.runtime.v1 import volumes_pb2_grpc
from sampan.wire.pages import pages

Context = grpc.aio.ServicerContext[Any, Any]


class VolumesServicer(volumes_pb2_grpc.VolumesServicer):
    """``sampan.runtime.v1.Volumes``."""

    def __init__(self, volumes: LocalVolumes) -> None:
        self._volumes = volumes

    async def Create(self, request: pb.CreateVolumeRequest, context: Context) -> pb.Volume:
        """Make a volume, or return the one of that name."""
        volume = await self._volumes.create(request.name, request.driver, dict(request.options), dict(request.labels))
        return self._to_proto(volume)

    async def Get(self, request: pb.GetVolumeRequest, context: Context) -> pb.Volume:
        """Return a volume."""
        return self._to_proto(await self._volumes.get(request.name))

    async def List(self, request: pb.ListVolumesRequest, context: Context) -> AsyncIterator[pb.ListVolumesResponse]:
        """Return the volumes that match."""
        found = await self._volumes.list(filters_from_proto(request.filters))
        sizes = [await self._volumes.size_bytes(volume) if request.size else None for volume in found]
        for page in pages(pb.ListVolumesResponse, "volumes", map(self._to_proto, found, sizes)):
            yield page

    async def Remove(self, request: pb.RemoveVolumeRequest, context: Context) -> pb.RemoveVolumeResponse:
        """Remove a volume."""
        await self._volumes.remove(request.name, force=request.force)
        return pb.RemoveVolumeResponse()

    async def Prune(self, request: pb.PruneVolumesRequest, context: Context) -> AsyncIterator[pb.PruneVolumesResponse]:
        """Remove what nobody uses."""
        removed, reclaimed = await self._volumes.prune(filters_from_proto(request.filters))
        for page in pages(pb.PruneVolumesResponse, "removed", removed, reclaimed_bytes=reclaimed):
            yield page

    def _to_proto(self, volume: Volume, size_bytes: int | None = None) -> pb.Volume:
        return pb.Volume(
            name=volume.name,
            driver=volume.driver,
            mountpoint=self._volumes.mountpoint(volume),
            created=timestamp(volume.created),
            labels=dict(volume.labels),
            options=dict(volume.options),
            anonymous=volume.anonymous,
            used_by=volume.used_by,
            size_bytes=size_bytes,
        )
