"""``sampan.runtime.v1.Networks`` over a real socket, errors included."""

import tempfile
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from runtimed.local.networks import LocalNetworks
from runtimed.network.core.networks import Networks
from runtimed.wire.networks_servicer import NetworksServicer
from sampan.api.runtime.v1 import containers_pb2, networks_pb2_grpc, spec_pb2
from sampan.api.runtime.v1 import networks_pb2 as pb
from sampan.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, PermissionDeniedError
from sampan.resource.container import EndpointState, NetworkSettings
from sampan.resource.container_spec import Endpoint
from sampan.service.interceptor import Interceptor, RpcMetrics
from sampan.wire.channel import open_channel
from sampan.wire.pages import whole
from sampan.wire.status import from_rpc_error
from tests.fakes.container_records import InMemoryRecords
from tests.integration.network.network_lab import Lab, container

if TYPE_CHECKING:  # exists in the stubs alone
    from sampan.api.runtime.v1.networks_pb2_grpc import NetworksAsyncStub

pytestmark = pytest.mark.root


@pytest.fixture
def records() -> InMemoryRecords:
    return InMemoryRecords()


@pytest_asyncio.fixture
async def stub(place: Lab, records: InMemoryRecords) -> AsyncIterator["NetworksAsyncStub"]:
    server = grpc.aio.server(interceptors=[Interceptor(RpcMetrics(CollectorRegistry()))])
    with tempfile.TemporaryDirectory() as directory:
        socket = Path(directory) / "n.sock"
        async with place.stack() as stack:
            await stack.recover(())
            networks_pb2_grpc.add_NetworksServicer_to_server(
                NetworksServicer(LocalNetworks(Networks(stack, records))), server
            )
            server.add_insecure_port(f"unix:{socket}")
            await server.start()
            async with open_channel(socket) as channel:
                yield networks_pb2_grpc.NetworksStub(channel)
            await server.stop(1)


async def refusal(call: Awaitable[object]) -> Exception:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def test_network_is_made_shown_and_removed(stub: "NetworksAsyncStub") -> None:
    wanted = pb.Network(
        name="side",
        labels={"tier": "web"},
        pools=[pb.Network.Pool(subnet="10.9.0.0/24", auxiliary={"router": "10.9.0.2"})],
    )
    made = await stub.Create(pb.CreateNetworkRequest(network=wanted))
    shown = await stub.Get(pb.GetNetworkRequest(network=made.id[:12]))
    assert (shown.name, shown.driver, shown.ipam_driver, shown.labels["tier"]) == ("side", "bridge", "default", "web")
    assert (shown.pools[0].gateway, shown.pools[0].auxiliary["router"]) == ("10.9.0.1", "10.9.0.2")
    listed = await whole(
        stub.List(pb.ListNetworksRequest(filters={"type": containers_pb2.FilterValues(values=["custom"])}))
    )
    assert [network.id for network in listed.networks] == [made.id]
    await stub.Remove(pb.RemoveNetworkRequest(network="side"))
    assert [network.name for network in (await whole(stub.List(pb.ListNetworksRequest()))).networks] == [
        "bridge",
        "host",
        "none",
    ]


async def test_container_is_connected_and_disconnected(stub: "NetworksAsyncStub", records: InMemoryRecords) -> None:
    asked = EndpointState("bridge", "", Endpoint("bridge"))  # as a create records it
    records.add(replace(container("web"), network=NetworkSettings(endpoints=(asked,))))
    await stub.Create(pb.CreateNetworkRequest(network=pb.Network(name="side")))
    endpoint = spec_pb2.Endpoint(aliases=["db"])
    await stub.Connect(pb.ConnectRequest(network="side", container="web", endpoint=endpoint))
    assert [e.network for e in (await records.find("web")).network.endpoints] == ["bridge", "side"]
    await stub.Disconnect(pb.DisconnectRequest(network="bridge", container="web"))
    assert [e.network for e in (await records.find("web")).network.endpoints] == ["side"]
    assert (await whole(stub.Prune(pb.PruneNetworksRequest()))).removed == ["side"]


async def test_refusals_arrive_as_what_they_are(stub: "NetworksAsyncStub") -> None:
    await stub.Create(pb.CreateNetworkRequest(network=pb.Network(name="side")))

    def create(**fields: Any) -> Awaitable[object]:
        return stub.Create(pb.CreateNetworkRequest(network=pb.Network(**fields)))

    refusals = [
        await refusal(create(name="side")),
        await refusal(create(name="host")),
        await refusal(create(name=" ")),
        await refusal(create(name="odd", driver="token-ring")),
        await refusal(create(name="odd", pools=[pb.Network.Pool(subnet="10.0.0.300/8")])),
        await refusal(stub.Get(pb.GetNetworkRequest(network="nowhere"))),
        await refusal(stub.Remove(pb.RemoveNetworkRequest(network="bridge"))),
    ]
    assert [(type(error), str(error)) for error in refusals] == [
        (AlreadyExistsError, "network with name side already exists"),
        (PermissionDeniedError, "operation is not permitted on predefined host network"),
        (InvalidArgumentError, "invalid name: "),
        (NotFoundError, 'plugin "token-ring" not found'),
        (InvalidArgumentError, "invalid subnet 10.0.0.300/8: expected a network such as 10.1.0.0/16"),
        (NotFoundError, "network nowhere not found"),
        (PermissionDeniedError, "bridge is a pre-defined network and cannot be removed"),
    ]
