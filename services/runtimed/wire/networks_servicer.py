"""gRPC's side of networks: decode, one call, encode."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from runtimed.network.core.networks import Networks
from runtimed.wire.network_convert import endpoint_from_proto, network_to_proto, request_from_proto
from sampan.api.runtime.v1 import networks_pb2 as pb
from sampan.api.runtime.v1 import networks_pb2_grpc
from sampan.wire.pages import pages

Context = grpc.aio.ServicerContext[Any, Any]


class NetworksServicer(networks_pb2_grpc.NetworksServicer):
    """``sampan.runtime.v1.Networks``."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    async def Create(self, request: pb.CreateNetworkRequest, context: Context) -> pb.CreateNetworkResponse:
        """Make a network."""
        network = await self._networks.create(request_from_proto(request.network))
        return pb.CreateNetworkResponse(id=network.id)

    async def Get(self, request: pb.GetNetworkRequest, context: Context) -> pb.Network:
        """Return a network."""
        return network_to_proto(*self._networks.get(request.network))

    async def List(self, request: pb.ListNetworksRequest, context: Context) -> AsyncIterator[pb.ListNetworksResponse]:
        """Return the networks that match."""
        filters = {name: tuple(values.values) for name, values in request.filters.items()}
        found = self._networks.list(filters)
        for page in pages(pb.ListNetworksResponse, "networks", (network_to_proto(*entry) for entry in found)):
            yield page

    async def Remove(self, request: pb.RemoveNetworkRequest, context: Context) -> pb.RemoveNetworkResponse:
        """Remove a network."""
        await self._networks.remove(request.network)
        return pb.RemoveNetworkResponse()

    async def Connect(self, request: pb.ConnectRequest, context: Context) -> pb.ConnectResponse:
        """Connect a container."""
        await self._networks.connect(request.network, request.container, endpoint_from_proto(request.endpoint))
        return pb.ConnectResponse()

    async def Disconnect(self, request: pb.DisconnectRequest, context: Context) -> pb.DisconnectResponse:
        """Disconnect a container."""
        await self._networks.disconnect(request.network, request.container, force=request.force)
        return pb.DisconnectResponse()

    async def Prune(
        self, request: pb.PruneNetworksRequest, context: Context
    ) -> AsyncIterator[pb.PruneNetworksResponse]:
        """Remove what nobody uses."""
        filters = {name: tuple(values.values) for name, values in request.filters.items()}
        for page in pages(pb.PruneNetworksResponse, "removed", await self._networks.prune(filters)):
            yield page
