"""``moby.buildkit.v1.Control``: decode, call, encode."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from buildd.build.protocol import Builder
from buildd.wire.services.errors import foreign_errors
from buildd.wire.services.history import event_to_proto, query_from_proto
from buildd.wire.services.progress import status_to_proto
from buildd.wire.services.values import (
    prune_from_proto,
    solve_from_proto,
    usage_to_proto,
    version_to_proto,
    worker_to_proto,
)
from sampan.api.buildkit.control.v1 import control_pb2 as pb
from sampan.api.buildkit.control.v1 import control_pb2_grpc as pb_grpc
from sampan.errors import UnimplementedError

Context = grpc.aio.ServicerContext[Any, Any]


class ControlServicer(pb_grpc.ControlServicer):
    """All builds."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder

    async def DiskUsage(self, request: pb.DiskUsageRequest, context: Context) -> pb.DiskUsageResponse:
        """Return the build cache's records."""
        with foreign_errors():
            found = await self._builder.usage(request.filter, max(request.ageLimit, 0))
        return pb.DiskUsageResponse(record=map(usage_to_proto, found))

    async def Prune(self, request: pb.PruneRequest, context: Context) -> AsyncIterator[pb.UsageRecord]:
        """Remove records."""
        with foreign_errors():
            async with aclosing(self._builder.prune(prune_from_proto(request))) as gone:
                async for record in gone:
                    yield usage_to_proto(record)

    async def Solve(self, request: pb.SolveRequest, context: Context) -> pb.SolveResponse:
        """Build."""
        with foreign_errors():
            response = await self._builder.solve(solve_from_proto(request))
        return pb.SolveResponse(ExporterResponse=response.exporter_response)

    async def Status(self, request: pb.StatusRequest, context: Context) -> AsyncIterator[pb.StatusResponse]:
        """Tell how a build goes."""
        with foreign_errors():
            async with aclosing(self._builder.status(request.Ref)) as several:
                async for updates in several:
                    yield status_to_proto(updates)

    async def Session(
        self, requests: AsyncIterator[pb.BytesMessage], context: Context
    ) -> AsyncIterator[pb.BytesMessage]:
        """Refuse: ``wire.front`` attaches sessions, and lets none through."""
        raise UnimplementedError("a session is attached at the builder's own socket")
        yield

    async def ListWorkers(self, request: pb.ListWorkersRequest, context: Context) -> pb.ListWorkersResponse:
        """Return this builder."""
        return pb.ListWorkersResponse(record=map(worker_to_proto, self._builder.workers()))

    async def Info(self, request: pb.InfoRequest, context: Context) -> pb.InfoResponse:
        """Return which program this is."""
        return pb.InfoResponse(buildkitVersion=version_to_proto(self._builder.workers()[0]))

    async def ListenBuildHistory(
        self, request: pb.BuildHistoryRequest, context: Context
    ) -> AsyncIterator[pb.BuildHistoryEvent]:
        """Tell which builds there were, and what happens to builds."""
        with foreign_errors():
            async with aclosing(self._builder.history(query_from_proto(request))) as events:
                async for happened, record in events:
                    yield event_to_proto(happened, record)

    async def UpdateBuildHistory(
        self, request: pb.UpdateBuildHistoryRequest, context: Context
    ) -> pb.UpdateBuildHistoryResponse:
        """Pin a build, or forget it. There is nothing to finalize: a record is whole as soon as it is there."""
        with foreign_errors():
            if request.Delete:
                await self._builder.forget(request.Ref)
            elif not request.Finalize:
                await self._builder.pin(request.Ref, pinned=request.Pinned)
        return pb.UpdateBuildHistoryResponse()
