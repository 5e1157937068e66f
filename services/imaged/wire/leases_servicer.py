"""``sampan.image.v1.Leases`` over the lasting leases."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from sampan.api.image.v1 import leases_pb2 as pb
from sampan.api.image.v1 import leases_pb2_grpc as pb_grpc
from sampan.client.convert import content as convert
from sampan.resource.storage.images import Leases
from sampan.wire.pages import pages

Context = grpc.aio.ServicerContext[Any, Any]


class LeasesServicer(pb_grpc.LeasesServicer):
    """Decodes, calls, encodes."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases

    async def Put(self, request: pb.PutLeaseRequest, context: Context) -> pb.PutLeaseResponse:
        """Make or change a lease."""
        await self._leases.put(convert.LEASE.decode(request.lease))
        return pb.PutLeaseResponse()

    async def List(self, request: pb.ListLeasesRequest, context: Context) -> AsyncIterator[pb.ListLeasesResponse]:
        """Show an owner's leases."""
        found = await self._leases.list(request.owner)
        for page in pages(pb.ListLeasesResponse, "leases", map(convert.LEASE.encode, found)):
            yield page

    async def Remove(
        self, request_iterator: AsyncIterator[pb.RemoveLeasesRequest], context: Context
    ) -> AsyncIterator[pb.RemoveLeasesResponse]:
        """End leases."""
        owner, ids = "", list[str]()
        async for request in request_iterator:
            owner = request.owner or owner
            ids += request.ids
        removed = await self._leases.remove(owner, ids)
        stacks = map(convert.stack_to_proto, removed.stacks)
        for page in pages(pb.RemoveLeasesResponse, "stacks", stacks, reclaimed_bytes=removed.reclaimed_bytes):
            yield page
