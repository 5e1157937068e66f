"""gRPC's side of volumes: decode, one call, encode."""

from typing import Any

import grpc

from runtimed.volumes.operations import LocalVolumes
from runtimed.volumes.store import Volume
from runtimed.wire.convert import filters_from_proto, timestamp
from sampan.api.runtime.v1 import volumes_pb2 as pb
from sampan.api.runtime.v1 import volumes_pb2_grpc

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

    async def List(self, request: pb.ListVolumesRequest, context: Context) -> pb.ListVolumesResponse:
        """Return the volumes that match."""
        found = await self._volumes.list(filters_from_proto(request.filters))
        volumes = [self._to_proto(volume) for volume in found]
        if request.size:
            for volume, message in zip(found, volumes, strict=True):
                message.size_bytes = await self._volumes.size_bytes(volume)
        return pb.ListVolumesResponse(volumes=volumes)

    async def Remove(self, request: pb.RemoveVolumeRequest, context: Context) -> pb.RemoveVolumeResponse:
        """Remove a volume."""
        await self._volumes.remove(request.name, force=request.force)
        return pb.RemoveVolumeResponse()

    async def Prune(self, request: pb.PruneVolumesRequest, context: Context) -> pb.PruneVolumesResponse:
        """Remove what nobody uses."""
        removed, reclaimed = await self._volumes.prune(filters_from_proto(request.filters))
        return pb.PruneVolumesResponse(removed=removed, reclaimed_bytes=reclaimed)

    def _to_proto(self, volume: Volume) -> pb.Volume:
        return pb.Volume(
            name=volume.name,
            driver=volume.driver,
            mountpoint=self._volumes.mountpoint(volume),
            created=timestamp(volume.created),
            labels=dict(volume.labels),
            options=dict(volume.options),
            anonymous=volume.anonymous,
            used_by=volume.used_by,
        )
