"""``sampan.disk.v1.Disk``: decode, call, encode."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from sampan.api.disk.v1 import disk_pb2 as pb
from sampan.api.disk.v1 import disk_pb2_grpc as pb_grpc
from sampan.disk import Collector
from sampan.service.passes import Passes
from sampan.wire.disk import collected_to_proto, object_to_proto

Context = grpc.aio.ServicerContext[Any, Any]


class DiskServicer(pb_grpc.DiskServicer):
    """What every service that stores content answers."""

    def __init__(self, collector: Collector, passes: Passes) -> None:
        self._collector = collector
        self._passes = passes

    async def Usage(
        self,
        request: pb.UsageRequest,
        context: Context,
    ) -> AsyncIterator[pb.UsageResponse]:
        """Say who holds what."""
        async with aclosing(self._collector.objects(measure=True)) as pages:
            async for objects in pages:
                yield pb.UsageResponse(objects=map(object_to_proto, objects))

    async def Collect(
        self,
        request: pb.CollectRequest,
        context: Context,
    ) -> pb.CollectResponse:
        """Run a pass."""
        return collected_to_proto(await self._passes.run(leftovers=request.leftovers))
