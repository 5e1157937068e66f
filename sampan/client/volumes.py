"""Client of ``sampan.runtime.v1.Volumes``."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

import grpc

from sampan.api.runtime.v1 import volumes_pb2 as pb
from sampan.api.runtime.v1.volumes_pb2_grpc import VolumesStub
from sampan.client.calls import read
from sampan.client.convert import volumes as convert
from sampan.client.convert.containers import filters_to_proto
from sampan.resource.listing import NO_FILTERS, Filters, Pruned
from sampan.resource.volume import Volume, VolumeRequest
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import whole

if TYPE_CHECKING:
    from sampan.api.runtime.v1.volumes_pb2_grpc import VolumesAsyncStub


class VolumesClient:
    """Satisfies ``resource.protocols.Volumes``."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: VolumesAsyncStub = VolumesStub(channel)

    async def create(self, request: VolumeRequest) -> Volume:
        """Make a volume, or return the one of that name."""
        with rpc_errors():
            return convert.VOLUME.decode(await self._stub.Create(convert.REQUEST.encode(request)))

    async def get(self, name: str) -> Volume:
        """Return one."""
        with rpc_errors():
            return convert.VOLUME.decode(await self._stub.Get(pb.GetVolumeRequest(name=name)))

    async def list(self, filters: Filters = NO_FILTERS, *, size: bool = False) -> tuple[Volume, ...]:
        """Return those that match, by name."""
        async with aclosing(self.pages(filters, size=size)) as pages:
            return tuple([volume async for page in pages for volume in page])

    def pages(self, filters: Filters = NO_FILTERS, *, size: bool = False) -> AsyncGenerator[Sequence[Volume], None]:
        """Yield those that match, some at a time."""
        call = self._stub.List(pb.ListVolumesRequest(filters=filters_to_proto(filters), size=size))
        return read(call, lambda page: convert.VOLUME.decode_all(page.volumes))

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove it."""
        with rpc_errors():
            await self._stub.Remove(pb.RemoveVolumeRequest(name=name, force=force))

    async def prune(self, filters: Filters = NO_FILTERS) -> Pruned:
        """Remove what no container uses."""
        with rpc_errors():
            pruned = await whole(self._stub.Prune(pb.PruneVolumesRequest(filters=filters_to_proto(filters))))
        return Pruned(tuple(pruned.removed), pruned.reclaimed_bytes)
