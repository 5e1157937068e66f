"""The volumes of runtimed and those of the fake engine keep the contract, called directly and over gRPC."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runtimed.lifecycle.background import Background
from runtimed.volumes.operations import LocalVolumes
from runtimed.volumes.store import VolumeStore
from runtimed.wire.volumes_servicer import VolumesServicer
from sampan.api.runtime.v1.volumes_pb2_grpc import add_VolumesServicer_to_server
from sampan.client.runtime.volumes import VolumesClient
from sampan.resource.protocols import Volumes
from sampan.service.set_aside import SetAside
from sampan.store.database import Store
from tests.contract.served import served
from tests.contract.volumes import VolumesContract
from tests.fakes.volumes import FakeVolumes


@asynccontextmanager
async def local_volumes(directory: Path) -> AsyncIterator[Volumes]:
    async with Store(directory / "metadata.db", "runtimed.schema") as store:
        made = LocalVolumes(
            directory / "volumes", VolumeStore(store), lambda *_: None, background := Background(), SetAside()
        )
        await made.recover()
        yield made
        await background.close()


@asynccontextmanager
async def over_grpc(volumes: Volumes) -> AsyncIterator[Volumes]:
    async with served(lambda server: add_VolumesServicer_to_server(VolumesServicer(volumes), server)) as channel:
        yield VolumesClient(channel)


class TestLocalVolumes(VolumesContract):
    @pytest.fixture
    async def volumes(self, tmp_path: Path) -> AsyncIterator[Volumes]:
        async with local_volumes(tmp_path) as made:
            yield made


class TestLocalVolumesOverGrpc(VolumesContract):
    @pytest.fixture
    async def volumes(self, tmp_path: Path) -> AsyncIterator[Volumes]:
        async with local_volumes(tmp_path) as made, over_grpc(made) as client:
            yield client


class TestFakeVolumes(VolumesContract):
    @pytest.fixture
    def volumes(self) -> Volumes:
        return FakeVolumes()


class TestFakeVolumesOverGrpc(VolumesContract):
    @pytest.fixture
    async def volumes(self) -> AsyncIterator[Volumes]:
        async with over_grpc(FakeVolumes()) as client:
            yield client
