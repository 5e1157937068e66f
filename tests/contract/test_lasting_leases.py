import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry

from imaged.content.lasting import LastingLeases
from imaged.wire.leases_servicer import LeasesServicer
from sampan.api.image.v1 import leases_pb2_grpc
from sampan.client.storage.leases import LeasesClient
from sampan.service.interceptor import Interceptor, RpcMetrics
from sampan.wire.channel import open_channel
from tests.contract.lasting_leases import Kept, LastingLeasesContract, LeaseNamesContract
from tests.fakes.build_storage import FakeBuildStorage, FakeLeases
from tests.unit.imaged.parts import imaged_parts


class TestFakeLeases(LeaseNamesContract):
    @pytest.fixture
    def leases(self) -> FakeLeases:
        return FakeBuildStorage().leases


class TestLocal(LeaseNamesContract, LastingLeasesContract):
    @pytest.fixture
    async def kept(self, tmp_path: Path) -> AsyncIterator[Kept]:
        async with imaged_parts(tmp_path / "imaged") as parts:
            yield Kept(parts, LastingLeases(parts.store, parts.content, parts.clock))


class TestOverGrpc(LeaseNamesContract, LastingLeasesContract):
    @pytest.fixture
    async def kept(self, tmp_path: Path) -> AsyncIterator[Kept]:
        async with imaged_parts(tmp_path / "imaged") as parts:
            local = LastingLeases(parts.store, parts.content, parts.clock)
            with tempfile.TemporaryDirectory() as directory:
                server = grpc.aio.server(interceptors=[Interceptor(RpcMetrics(CollectorRegistry()))])
                leases_pb2_grpc.add_LeasesServicer_to_server(LeasesServicer(local), server)
                server.add_insecure_port(f"unix:{directory}/socket")
                await server.start()
                async with open_channel(Path(directory) / "socket") as channel:
                    yield Kept(parts, LeasesClient(channel))
                await server.stop(0)
