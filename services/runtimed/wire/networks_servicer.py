"""``sampan.runtime.v1.Networks``: decode, one call, encode."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from sampan.api.runtime.v1 import networks_pb2 as pb
from sampan.api.runtime.v1 import networks_pb2_grpc
from sampan.client.convert import networks as convert
from sampan.client.convert.containers import ENDPOINT, filters_from_proto
from sampan.resource.protocols import Networks
from sampan.wire.pages import pages

Context = grpc.aio.ServicerContext[Any, Any]


class NetworksServicer(networks_pb2_grpc.NetworksServicer):
    """Networks."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    async def Create(self, request: pb.CreateNetworkRequest, context: Context) -> pb.CreateNetworkResponse:
        """Make a network."""
        return pb.CreateNetworkResponse(id=await self._networks.create(convert.REQUEST.decode(request.network)))

    async def Get(self, request: pb.GetNetworkRequest, context: Context) -> pb.Network:
        """Return a network."""
        return convert.NETWORK.encode(await self._networks.get(request.network))

    async def List(self, request: pb.ListNetworksRequest, context: Context) -> AsyncIterator[pb.ListNetworksResponse]:
        """Return the networks that match."""
        found = await self._networks.list(filters_from_proto(request.filters))
        for page in pages(pb.ListNetworksResponse, "networks", map(convert.NETWORK.encode, found)):
            yield page

    async def Remove(self, request: pb.RemoveNetworkRequest, context: Context) -> pb.RemoveNetworkResponse:
        """Remove a network."""
        await self._networks.remove(request.network)
        return pb.RemoveNetworkResponse()

    async def Connect(self, request: pb.ConnectRequest, context: Context) -> pb.ConnectResponse:
        """Connect a container."""
        await self._networks.connect(request.network, request.container, ENDPOINT.decode(request.endpoint))
        return pb.ConnectResponse()

    async def Disconnect(self, request: pb.DisconnectRequest, context: Context) -> pb.DisconnectResponse:
        """Disconnect a container."""
        await self._networks.disconnect(request.network, request.container, force=request.force)
        return pb.DisconnectResponse()

    async def Prune(
        self, request: pb.PruneNetworksRequest, context: Context
    ) -> AsyncIterator[pb.PruneNetworksResponse]:
        """Remove what nobody uses."""
        removed = await self._networks.prune(filters_from_proto(request.filters))
        for page in pages(pb.PruneNetworksResponse, "removed", removed):
            yield page
