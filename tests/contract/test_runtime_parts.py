import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from runtimed.containers.memory_store import MemoryStore
from runtimed.containers.network_records import NetworkRecords
from runtimed.containers.paths import Paths
from runtimed.containers.snapshots import OwnSnapshots
from runtimed.containers.store import ContainerStore, Intent
from runtimed.lifecycle.background import Background
from runtimed.volumes.operations import LocalVolumes
from runtimed.volumes.store import VolumeStore
from sampan.api.containerd.snapshots.v1.snapshots_pb2_grpc import add_SnapshotsServicer_to_server
from sampan.client.storage.snapshots import SnapshotsClient
from sampan.errors import NotFoundError
from sampan.service.set_aside import SetAside
from sampan.store.database import Store
from tests.contract.runtime_parts import (
    BASE,
    A,
    B,
    BundlesContract,
    ContainerRecordsContract,
    MounterContract,
    MountParts,
    NetworkingContract,
    RecordParts,
    SnapshotsContract,
    VolumeParts,
    VolumesContract,
    container,
)
from tests.contract.served import served
from tests.fakes.container_records import InMemoryRecords
from tests.fakes.crashes import Steps
from tests.fakes.runtime_host import Host
from tests.fakes.runtime_parts import FakeBundles, FakeMountedVolumes, FakeMounter, FakeNetworking, FakeSnapshots
from tests.fakes.snapshotter import FakeSnapshotter


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store(tmp_path / "metadata.db", "runtimed.schema", durable=False) as opened:
        yield opened


class TestFakeSnapshots(SnapshotsContract):
    @pytest.fixture
    def snapshots(self, host: Host) -> FakeSnapshots:
        return FakeSnapshots(host, Steps())


class TestFakeSnapshotterOverGrpc(SnapshotsContract):
    @pytest.fixture
    async def snapshots(self, tmp_path: Path) -> AsyncIterator[OwnSnapshots]:
        fake = FakeSnapshotter(tmp_path, {BASE: tmp_path})
        async with served(lambda server: add_SnapshotsServicer_to_server(fake, server)) as channel:
            yield OwnSnapshots(SnapshotsClient(channel, own=True))


class TestFakeNetworking(NetworkingContract):
    @pytest.fixture
    def networking(self, host: Host) -> FakeNetworking:
        return FakeNetworking(host, Steps())


class TestFakeVolumes(VolumesContract):
    @pytest.fixture
    def parts(self, host: Host) -> VolumeParts:
        async def exists(name: str) -> bool:
            return name in host.volumes

        return VolumeParts(FakeMountedVolumes(host, Steps()), exists)


class TestLocalVolumes(VolumesContract):
    @pytest.fixture
    async def parts(self, store: Store, tmp_path: Path) -> AsyncIterator[VolumeParts]:
        def publish(type: str, action: str, actor_id: str, attributes: Mapping[str, str]) -> None:
            """Nobody listens."""

        background = Background()
        volumes = LocalVolumes(tmp_path / "volumes", VolumeStore(store), publish, background, SetAside())
        await volumes.recover()

        async def exists(name: str) -> bool:
            try:
                await volumes.get(name)
            except NotFoundError:
                return False
            return True

        yield VolumeParts(volumes, exists)
        await background.close()


class TestFakeMounter(MounterContract):
    @pytest.fixture
    def parts(self, host: Host) -> MountParts:
        return MountParts(FakeMounter(host, Steps()), lambda path: path in host.mounts)


class TestFakeBundles(BundlesContract):
    @pytest.fixture
    def bundles(self) -> FakeBundles:
        return FakeBundles()

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return tmp_path


class TestInMemoryRecords(ContainerRecordsContract):
    @pytest.fixture
    def parts(self) -> RecordParts:
        records = InMemoryRecords()
        records.add(container(A, "web"), container(B, "db"))
        return RecordParts(records)


class TestRecords(ContainerRecordsContract):
    @pytest.fixture
    async def parts(self, store: Store, host: Host) -> RecordParts:
        memory = MemoryStore(ContainerStore(store), random.Random(0), SetAside())
        for each in (container(A, "web"), container(B, "db")):
            entry = await memory.add(memory.claim(each))
            await memory.change(entry, lambda made: made, intent=Intent.SETTLED)
        return RecordParts(
            NetworkRecords(memory, Paths(host.paths.data, host.paths.run), FakeNetworking(host, Steps()))
        )
