"""Client of ``sampan.runtime.v1.Networks``."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

import grpc

from sampan.api.runtime.v1 import networks_pb2 as pb
from sampan.api.runtime.v1.networks_pb2_grpc import NetworksStub
from sampan.client.calls import read
from sampan.client.convert import networks as convert
from sampan.client.convert.containers import ENDPOINT, filters_to_proto
from sampan.resource.container_spec import Endpoint
from sampan.resource.listing import NO_FILTERS, Filters
from sampan.resource.network import Network, NetworkRequest
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import whole
from sampan.wire.repeating import GET_NETWORK, LIST_NETWORKS, REMOVE_NETWORK, Repeating

if TYPE_CHECKING:
    from sampan.api.runtime.v1.networks_pb2_grpc import NetworksAsyncStub


class NetworksClient:
    """Satisfies ``resource.protocols.Networks``."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: NetworksAsyncStub = NetworksStub(channel)
        self._again = Repeating(channel, "runtimed")

    async def create(self, request: NetworkRequest) -> str:
        """Make a network; return its ID."""
        with rpc_errors():
            return (await self._stub.Create(pb.CreateNetworkRequest(network=convert.REQUEST.encode(request)))).id

    async def get(self, network: str) -> Network:
        """Return one."""
        request = pb.GetNetworkRequest(network=network)
        return convert.NETWORK.decode(await self._again.ask(GET_NETWORK, lambda: self._stub.Get(request)))

    async def list(self, filters: Filters = NO_FILTERS) -> tuple[Network, ...]:
        """Return those that match, newest first."""
        async with aclosing(self.pages(filters)) as pages:
            return tuple([network async for page in pages for network in page])

    def pages(self, filters: Filters = NO_FILTERS) -> AsyncGenerator[Sequence[Network], None]:
        """Yield those that match, some at a time."""
        request = pb.ListNetworksRequest(filters=filters_to_proto(filters))
        return self._again.read(LIST_NETWORKS, lambda: read(self._stub.List(request), _page))

    async def remove(self, network: str) -> None:
        """Remove it."""
        request = pb.RemoveNetworkRequest(network=network)
        await self._again.do(REMOVE_NETWORK, lambda: self._stub.Remove(request))

    async def connect(self, network: str, container: str, endpoint: Endpoint) -> None:
        """Connect a container."""
        request = pb.ConnectRequest(network=network, container=container, endpoint=ENDPOINT.encode(endpoint))
        with rpc_errors():
            await self._stub.Connect(request)

    async def disconnect(self, network: str, container: str, *, force: bool = False) -> None:
        """Disconnect a container."""
        with rpc_errors():
            await self._stub.Disconnect(pb.DisconnectRequest(network=network, container=container, force=force))

    async def prune(self, filters: Filters = NO_FILTERS) -> tuple[str, ...]:
        """Remove every network that no container is on; return their names."""
        with rpc_errors():
            pruned = await whole(self._stub.Prune(pb.PruneNetworksRequest(filters=filters_to_proto(filters))))
        return tuple(pruned.removed)


def _page(page: pb.ListNetworksResponse) -> Sequence[Network]:
    return convert.NETWORK.decode_all(page.networks)
