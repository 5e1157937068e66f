"""The networks of the fake engine keep the contract, called directly and over gRPC; the kernel's do in integration."""

from collections.abc import AsyncIterator

import pytest

from runtimed.wire.networks_servicer import NetworksServicer
from sampan.api.runtime.v1.networks_pb2_grpc import add_NetworksServicer_to_server
from sampan.client.runtime.networks import NetworksClient
from sampan.resource.protocols import Networks
from tests.contract.networks import NetworksContract
from tests.contract.served import served
from tests.fakes.networks import FakeNetworks


@pytest.fixture
def container() -> str:
    return "c" * 64


class TestFakeNetworks(NetworksContract):
    @pytest.fixture
    def networks(self) -> Networks:
        return FakeNetworks()


class TestFakeNetworksOverGrpc(NetworksContract):
    @pytest.fixture
    async def networks(self) -> AsyncIterator[Networks]:
        servicer = NetworksServicer(FakeNetworks())
        async with served(lambda server: add_NetworksServicer_to_server(servicer, server)) as channel:
            yield NetworksClient(channel)
