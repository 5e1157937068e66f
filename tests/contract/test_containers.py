"""Clients of the fake engine's containers keep the contract; those of runtimed's do in its integration tests."""

from collections.abc import AsyncIterator

import pytest

from sampan.api.runtime.v1.containers_pb2_grpc import add_ContainersServicer_to_server
from sampan.client.runtime.containers import ContainersClient
from sampan.resource.protocols import Containers
from tests.contract.containers import ContainersContract
from tests.contract.served import served
from tests.fakes.engine_containers import FakeContainers


class TestFakeContainersOverGrpc(ContainersContract):
    @pytest.fixture
    async def containers(self) -> AsyncIterator[Containers]:
        fake = FakeContainers()
        async with served(lambda server: add_ContainersServicer_to_server(fake, server)) as channel:
            yield ContainersClient(channel)
        for held in fake.held.values():
            if held.process is not None:
                held.process.kill()
