"""What services say of their own disk and damage, over gRPC, and what the fakes have of it, keep the same contracts.

The snapshotter's runs on directories alone: neither mounts nor layers' owners need root.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from imaged.check.check import ContentCheck
from imaged.check.repair import Repairer as ContentRepairer
from imaged.gc.collector import ContentCollector
from imaged.gc.usage import ContentUsage
from registryd.check.check import RegistryCheck
from registryd.check.repair import Repairer as RegistryRepairer
from sampan.api.check.v1.check_pb2_grpc import CheckServicer as ServesCheck
from sampan.api.check.v1.check_pb2_grpc import add_CheckServicer_to_server
from sampan.api.disk.v1.disk_pb2_grpc import DiskServicer as ServesDisk
from sampan.api.disk.v1.disk_pb2_grpc import add_DiskServicer_to_server
from sampan.check import BLOB_ORPHAN, Check, Checker, Finding
from sampan.client.maintenance import CheckClient, DiskClient
from sampan.disk import IMAGE, Collector, Disk, Holder, Root, StoredObject
from sampan.oci.digest import Digest
from sampan.service.check_servicer import CheckMetrics, CheckServicer
from sampan.service.disk_servicer import DiskServicer
from sampan.service.passes import Passes
from sampan.store.database import Store
from sampan.sys.measuring import measure
from snapshotter.check.check import LayersCheck
from snapshotter.check.repair import Repairer as LayersRepairer
from snapshotter.drivers.erofs.mounts import ErofsMounts
from snapshotter.gc.collector import LayerCollector
from snapshotter.gc.usage import LayerUsage
from snapshotter.layers.apply import Applier
from snapshotter.layers.formats import LayerFormat
from snapshotter.layers.limits import LayerLimits
from snapshotter.metrics import Metrics
from snapshotter.model import Layer
from snapshotter.snapshots import directories
from snapshotter.snapshots import store as rows
from snapshotter.snapshots.catalog import Catalog
from tests.contract.maintenance import CheckContract, DiskContract
from tests.contract.served import served
from tests.fakes.check import FakeCheck
from tests.fakes.content import FakeContent
from tests.fakes.engine_layers import FakeDisk
from tests.unit.imaged.parts import Parts as Imaged
from tests.unit.imaged.parts import imaged_parts
from tests.unit.registryd.parts import Parts as Registryd
from tests.unit.registryd.parts import registry_parts

FAR_NS = 9 * 10**18


@asynccontextmanager
async def disk_client(servicer: ServesDisk) -> AsyncIterator[Disk]:
    async with served(lambda server: add_DiskServicer_to_server(servicer, server)) as channel:
        yield DiskClient(channel)


@asynccontextmanager
async def disk_of(collector: Collector) -> AsyncIterator[Disk]:
    async with disk_client(DiskServicer(collector, Passes(collector, CollectorRegistry(), 0))) as client:
        yield client


@asynccontextmanager
async def check_client(servicer: ServesCheck, service: str) -> AsyncIterator[Check]:
    async with served(lambda server: add_CheckServicer_to_server(servicer, server)) as channel:
        yield CheckClient(channel, service)


@asynccontextmanager
async def check_of(checker: Checker, service: str) -> AsyncIterator[Check]:
    servicer = CheckServicer(service, [checker], (), CheckMetrics(CollectorRegistry()))
    async with check_client(servicer, service) as client:
        yield client


@pytest.fixture
async def imaged(tmp_path: Path) -> AsyncIterator[Imaged]:
    async with imaged_parts(tmp_path / "imaged") as parts:
        yield parts


@pytest.fixture
async def registryd(tmp_path: Path) -> AsyncIterator[Registryd]:
    async with registry_parts(tmp_path) as parts:
        yield parts


@dataclass(frozen=True, slots=True)
class Snapshotter:
    """Rows and directories of a snapshotter, with one layer that an image needs."""

    catalog: Catalog
    erofs: ErofsMounts

    async def roots(self) -> Sequence[Root]:
        layers = await self.catalog.read(rows.layers)
        return [Root(Holder(IMAGE, "one"), (layer.diff_id,)) for layer in layers]

    def stray(self) -> str:
        """Put a directory that no row knows beside the layer."""
        stray = self.catalog.disk.layer(7)
        stray.mkdir()
        (stray / "file").write_bytes(b"nobody's" * 1000)
        return str(stray.relative_to(self.catalog.disk.root))


@pytest.fixture
async def snapshotter(tmp_path: Path) -> AsyncIterator[Snapshotter]:
    root = tmp_path / "snapshotter"
    root.mkdir()
    disk, erofs = directories.Disk(root), ErofsMounts(root / "m", ())
    async with Store(root / "metadata.db", "snapshotter.schema", durable=False) as store:
        catalog = Catalog(store, disk, erofs)
        await catalog.recover()
        disk.layer(1).mkdir()
        (disk.layer(1) / "file").write_bytes(b"web" * 1000)
        layer = Layer(Digest.of(b"web"), 1, LayerFormat.TREE, measure(disk.layer(1)))
        await catalog.write(lambda db: rows.put_layer(db, layer, catalog.now_ns(), 1, FAR_NS))
        disk.start()
        yield Snapshotter(catalog, erofs)
        await disk.close()


class TestImagedDisk(DiskContract):
    @pytest.fixture
    async def orphan(self, imaged: Imaged) -> str:
        await imaged.import_image("web:1")
        stray = imaged.content.path(Digest.of(b"stray"))
        stray.write_bytes(b"nobody's" * 1000)
        return str(stray.relative_to(imaged.root))

    @pytest.fixture
    async def disk(self, imaged: Imaged) -> AsyncIterator[Disk]:
        usage = ContentUsage(
            imaged.root, imaged.store, imaged.content, imaged.ingests, imaged.partials, keep_s=3600, now_ns=imaged.clock
        )
        collector = ContentCollector(
            imaged.store, imaged.content, imaged.ingests, imaged.partials, imaged.leases, usage, keep_s=3600
        )
        async with disk_of(collector) as client:
            yield client


class TestSnapshotterDisk(DiskContract):
    @pytest.fixture
    def orphan(self, snapshotter: Snapshotter) -> str:
        return snapshotter.stray()

    @pytest.fixture
    async def disk(self, snapshotter: Snapshotter) -> AsyncIterator[Disk]:
        usage = LayerUsage(snapshotter.catalog, snapshotter)
        async with disk_of(LayerCollector(snapshotter.catalog, snapshotter, usage)) as client:
            yield client


class TestFakeDisk(DiskContract):
    @pytest.fixture
    def orphan(self) -> str:
        return "nobody's"

    @pytest.fixture
    async def disk(self, orphan: str) -> AsyncIterator[Disk]:
        held = StoredObject("blob", "held", 4096, (Holder(IMAGE, "one"),))
        async with disk_client(FakeDisk([held, StoredObject("blob", orphan, 8192)])) as client:
            yield client


class TestImagedCheck(CheckContract):
    @pytest.fixture
    async def damaged(self, imaged: Imaged) -> str:
        await imaged.import_image("web:1")
        digest = Digest.of(b"no row knows it")
        imaged.content.path(digest).write_bytes(b"no row knows it")
        return digest

    @pytest.fixture
    async def check(self, imaged: Imaged) -> AsyncIterator[Check]:
        repairer = ContentRepairer(imaged.store, imaged.content, imaged.leases, imaged.sources, imaged.downloads)
        async with check_of(ContentCheck(imaged.store, imaged.content, repairer), "imaged") as client:
            yield client


class TestSnapshotterCheck(CheckContract):
    @pytest.fixture
    def damaged(self, snapshotter: Snapshotter) -> str:
        return snapshotter.stray()

    @pytest.fixture
    async def check(self, snapshotter: Snapshotter) -> AsyncIterator[Check]:
        catalog = snapshotter.catalog
        applier = Applier(
            catalog,
            FakeContent(),
            directories.Syncer(catalog.disk.root),
            Metrics(CollectorRegistry(), "native"),
            layer_format=LayerFormat.TREE,
            limits=LayerLimits(),
        )
        repairer = LayersRepairer(catalog, snapshotter.erofs, applier, {})
        async with check_of(LayersCheck(catalog, snapshotter.erofs, repairer), "snapshotter") as client:
            yield client


class TestRegistrydCheck(CheckContract):
    @pytest.fixture
    async def damaged(self, registryd: Registryd) -> str:
        await registryd.push_image("app", "1")
        layer = Digest.of(b"layer")
        registryd.contents.labels[layer].clear()  # nothing keeps it any more
        return f"blobs/app@{layer}"

    @pytest.fixture
    async def check(self, registryd: Registryd) -> AsyncIterator[Check]:
        upkeep = registryd.upkeep
        repairer = RegistryRepairer(registryd.store, registryd.contents, registryd.blobs, registryd.manifests, upkeep)
        checker = RegistryCheck(
            registryd.store, registryd.contents, registryd.blobs.roots, repairer, None, upkeep.is_abandoned
        )
        async with check_of(checker, "registryd") as client:
            yield client


class TestFakeCheck(CheckContract):
    @pytest.fixture
    def damaged(self) -> str:
        return "thing"

    @pytest.fixture
    def check(self, damaged: str) -> Check:
        return FakeCheck([Finding(BLOB_ORPHAN, damaged, "is nobody's", "remove it", service="fake")])


class TestFakeCheckOverGrpc(CheckContract):
    @pytest.fixture
    def damaged(self) -> str:
        return "thing"

    @pytest.fixture
    async def check(self, damaged: str) -> AsyncIterator[Check]:
        async with check_of(FakeCheck([Finding(BLOB_ORPHAN, damaged, "is nobody's", "remove it")]), "imaged") as client:
            yield client
