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
from sampan.wire.repeating import CREATE_VOLUME, GET_VOLUME, LIST_VOLUMES, REMOVE_VOLUME, Repeating

if TYPE_CHECKING:
    from sampan.api.runtime.v1.volumes_pb2_grpc import VolumesAsyncStub


class VolumesClient:
    """Satisfies ``resource.protocols.Volumes``."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: VolumesAsyncStub = VolumesStub(channel)
        self._again = Repeating(channel, "runtimed")

    async def create(self, request: VolumeRequest) -> Volume:
        """Make a volume, or return the one of that name."""
        message = convert.REQUEST.encode(request)
        if not request.name:  # two of these are two volumes
            with rpc_errors():
                return convert.VOLUME.decode(await self._stub.Create(message))
        return convert.VOLUME.decode(await self._again.ask(CREATE_VOLUME, lambda: self._stub.Create(message)))

    async def get(self, name: str) -> Volume:
        """Return one."""
        request = pb.GetVolumeRequest(name=name)
        return convert.VOLUME.decode(await self._again.ask(GET_VOLUME, lambda: self._stub.Get(request)))

    async def list(self, filters: Filters = NO_FILTERS, *, size: bool = False) -> tuple[Volume, ...]:
        """Return those that match, by name."""
        async with aclosing(self.pages(filters, size=size)) as pages:
            return tuple([volume async for page in pages for volume in page])

    def pages(self, filters: Filters = NO_FILTERS, *, size: bool = False) -> AsyncGenerator[Sequence[Volume], None]:
        """Yield those that match, some at a time."""
        request = pb.ListVolumesRequest(filters=filters_to_proto(filters), size=size)
        return self._again.read(LIST_VOLUMES, lambda: read(self._stub.List(request), _page))

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove it."""
        request = pb.RemoveVolumeRequest(name=name, force=force)
        await self._again.do(REMOVE_VOLUME, lambda: self._stub.Remove(request))

    async def prune(self, filters: Filters = NO_FILTERS) -> Pruned:
        """Remove what no container uses."""
        with rpc_errors():
            pruned = await whole(self._stub.Prune(pb.PruneVolumesRequest(filters=filters_to_proto(filters))))
        return Pruned(tuple(pruned.removed), pruned.reclaimed_bytes)


def _page(page: pb.ListVolumesResponse) -> Sequence[Volume]:
    return convert.VOLUME.decode_all(page.volumes)
