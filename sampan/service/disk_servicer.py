"""``sampan.disk.v1.Disk``: decode, call, encode."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial

import grpc

from sampan.api.disk.v1 import disk_pb2 as pb
from sampan.api.disk.v1 import disk_pb2_grpc as pb_grpc
from sampan.client.convert.disk import OBJECT, collected_to_proto
from sampan.disk import Collector, StoredObject
from sampan.errors import UnimplementedError
from sampan.service.passes import Passes
from sampan.wire.pages import pages

Context = grpc.aio.ServicerContext[object, object]


Objects = Callable[[], AsyncGenerator[Sequence[StoredObject], None]]


class UsageServicer(pb_grpc.DiskServicer):
    """What a service answers that has no passes."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def Usage(
        self,
        request: pb.UsageRequest,
        context: Context,
    ) -> AsyncIterator[pb.UsageResponse]:
        """Say who holds what."""
        async with aclosing(self._objects()) as found:
            async for objects in found:
                for page in pages(pb.UsageResponse, "objects", map(OBJECT.encode, objects)):
                    yield page

    async def Collect(
        self,
        request: pb.CollectRequest,
        context: Context,
    ) -> pb.CollectResponse:
        """Nothing is left for a pass: what a removal did not finish, the next start does."""
        raise UnimplementedError("this service has nothing to collect")


class DiskServicer(UsageServicer):
    """What every service that stores content answers."""

    def __init__(self, collector: Collector, passes: Passes) -> None:
        super().__init__(partial(collector.objects, measure=True))
        self._passes = passes

    async def Collect(
        self,
        request: pb.CollectRequest,
        context: Context,
    ) -> pb.CollectResponse:
        """Run a pass."""
        return collected_to_proto(await self._passes.run(leftovers=request.leftovers))
