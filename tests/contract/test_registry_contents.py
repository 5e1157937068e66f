"""What registryd keeps its blobs in: the fake of unit tests, and the client over imaged's own service."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry

from imaged.content.blobs import ContentStore
from imaged.content.ingest import Ingests
from imaged.wire.content_servicer import ContentServicer
from registryd.wire.client import ContentClient
from sampan.api.containerd.content.v1 import content_pb2_grpc as pb_grpc
from sampan.service.interceptor import Interceptor, RpcMetrics
from sampan.store.database import Store
from sampan.wire.channel import open_channel
from tests.contract.registry_contents import RegistryContentsContract
from tests.fakes.registry_contents import FakeContents


class TestFake(RegistryContentsContract):
    @pytest.fixture
    def contents(self) -> FakeContents:
        return FakeContents()


class TestOverGrpc(RegistryContentsContract):
    @pytest.fixture
    async def contents(self, tmp_path: Path) -> AsyncIterator[ContentClient]:
        async with Store(tmp_path / "metadata.db", "imaged.schema", durable=False) as store:
            content = ContentStore(tmp_path, store)
            ingests = Ingests(tmp_path, content)
            await ingests.recover()
            await content.recover()
            server = grpc.aio.server(interceptors=[Interceptor(RpcMetrics(CollectorRegistry()))])
            pb_grpc.add_ContentServicer_to_server(ContentServicer(content, ingests), server)
            server.add_insecure_port(f"unix:{tmp_path}/s")
            await server.start()
            try:
                async with open_channel(tmp_path / "s") as channel:
                    yield ContentClient(channel)
            finally:
                await server.stop(1)
