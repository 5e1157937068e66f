"""A snapshotter in this process, directly or over gRPC, and what its tests do again and again."""

import gzip
import io
import os
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from prometheus_client import CollectorRegistry

from sampan.api.containerd.diff.v1 import diff_pb2_grpc as diff_grpc
from sampan.api.containerd.snapshots.v1 import snapshots_pb2_grpc as snapshots_grpc
from sampan.api.snapshot.v1 import layers_pb2_grpc as layers_grpc
from sampan.client.storage.snapshots import DifferClient, LayersClient, SnapshotsClient
from sampan.oci.descriptor import OCI_LAYER_GZIP, Descriptor
from sampan.oci.digest import Digest
from sampan.resource.snapshot import ApplyProgress, Mount
from sampan.resource.storage.snapshots import Differ, Layers, Snapshots
from sampan.service.interceptor import Interceptor, RpcMetrics
from sampan.store.database import Store
from sampan.sys.mounts import mount_options
from sampan.wire.channel import open_channel
from snapshotter.diff.differ import LocalDiffer
from snapshotter.drivers.driver import Driver
from snapshotter.drivers.erofs.driver import ErofsDriver
from snapshotter.drivers.erofs.mounts import ErofsMounts, Way
from snapshotter.drivers.native import NativeDriver
from snapshotter.drivers.overlayfs import OverlayDriver
from snapshotter.layers.apply import Applier
from snapshotter.layers.layers import LocalLayers
from snapshotter.layers.limits import LayerLimits
from snapshotter.main import choose
from snapshotter.metrics import Metrics
from snapshotter.snapshots.catalog import Catalog
from snapshotter.snapshots.directories import Disk, Syncer
from snapshotter.snapshots.snapshots import LocalSnapshots
from snapshotter.wire.servicer import DiffServicer, LayersServicer, SnapshotsServicer
from tests.fakes.content import FakeContent
from tests.support.tools import unmount


@dataclass(frozen=True, slots=True)
class Parts:
    """One snapshotter, and the content store that it reads."""

    snapshots: Snapshots
    layers: Layers
    differ: Differ
    content: FakeContent
    disk: Disk


_LIMITS = LayerLimits()


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now_ns = 1_700_000_000 * 10**9

    def __call__(self) -> int:
        return self.now_ns


@asynccontextmanager
async def local(
    root: Path,
    driver_name: str,
    content: FakeContent,
    clock: Clock | None = None,
    *,
    ways: Sequence[Way] = tuple(Way),
    limits: LayerLimits = _LIMITS,
) -> AsyncIterator[Parts]:
    """Run a snapshotter on ``root`` in this process."""
    root.mkdir(exist_ok=True)
    disk = Disk(root)
    images = ErofsMounts(root / "m", ways)
    drivers: dict[str, Driver] = {
        "erofs": ErofsDriver(images),
        "overlayfs": OverlayDriver(),
        "native": NativeDriver(),
    }
    report = await choose(drivers, driver_name, root)
    driver = drivers[report.driver]
    async with Store(root / "metadata.db", "snapshotter.schema", durable=False) as store:
        catalog = Catalog(store, disk, images, now_ns=clock or Clock())
        await catalog.recover()
        syncer = Syncer(root)
        metrics = Metrics(CollectorRegistry(), driver.name)
        applier = Applier(catalog, content, syncer, metrics, layer_format=driver.layer_format, limits=limits)
        layers = LocalLayers(catalog, applier, report)
        snapshots = LocalSnapshots(catalog, driver, {d.snapshot_format: d for d in drivers.values()}, syncer)
        disk.start()
        layers.start()
        try:
            yield Parts(snapshots, layers, LocalDiffer(catalog, applier, content, syncer), content, disk)
        finally:
            await layers.close()
            await disk.close()
            await images.close()


@asynccontextmanager
async def over_grpc(parts: Parts) -> AsyncIterator[Parts]:
    """Serve ``parts`` on a socket, and talk to them through it."""
    with tempfile.TemporaryDirectory() as directory:
        server = grpc.aio.server(interceptors=[Interceptor(RpcMetrics(CollectorRegistry()))])
        snapshots_grpc.add_SnapshotsServicer_to_server(SnapshotsServicer(parts.snapshots), server)
        layers_grpc.add_LayersServicer_to_server(LayersServicer(parts.layers, parts.differ), server)
        diff_grpc.add_DiffServicer_to_server(DiffServicer(parts.differ), server)
        server.add_insecure_port(f"unix:{directory}/socket")
        await server.start()
        async with open_channel(Path(directory) / "socket") as channel:
            yield Parts(
                SnapshotsClient(channel), LayersClient(channel), DifferClient(channel), parts.content, parts.disk
            )
        await server.stop(0)


@contextmanager
def shown(mounts: Sequence[Mount]) -> Iterator[Path]:
    """Mount a snapshot somewhere."""
    (mount,) = mounts
    with tempfile.TemporaryDirectory() as directory:
        mount_options(mount.source, directory, mount.fstype, mount.options)
        try:
            yield Path(directory)
        finally:
            unmount(directory)


def tar(**files: str | bytes | tarfile.TarInfo | None) -> bytes:
    """Return a layer: text for a file, None for a directory; ``__`` in a name is a slash, ``_WH_`` a whiteout."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for key, content in files.items():
            name = key.replace("_WH_", ".wh.").replace("_OPQ", ".wh..wh..opq").replace("__", "/")
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.mtime = 1_600_000_000
            info.mode = 0o755 if content is None else 0o644
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            data = content.encode() if isinstance(content, str) else content or b""
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def names(root: Path) -> list[str]:
    """Return all paths below ``root``."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


async def finished(progress: AsyncIterator[ApplyProgress]) -> ApplyProgress:
    """Return the last progress."""
    return [step async for step in progress][-1]


class Kit:
    """What tests do again and again."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def blob(self, layer: bytes) -> tuple[Descriptor, Digest]:
        data = gzip.compress(layer, mtime=0)
        return Descriptor(OCI_LAYER_GZIP, self.parts.content.add(data), len(data)), Digest.of(layer)

    async def apply(self, layer: bytes) -> Digest:
        descriptor, diff_id = self.blob(layer)
        assert (await finished(self.parts.layers.apply(descriptor, diff_id))).done
        return diff_id

    async def image(self, *layers: bytes) -> str:
        return await self.parts.layers.stack([await self.apply(layer) for layer in layers])


def workers(service: int | None = None) -> list[int]:
    """Return the worker processes of this test, or of a process: its children's children that call themselves so."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if (directory / "comm").read_text() != "layer worker\n":
                continue
            template = Path("/proc") / _parent(directory)
            if _parent(template) == str(service or os.getpid()):
                found.append(int(directory.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _parent(process: Path) -> str:
    return (process / "stat").read_text().rpartition(")")[2].split()[1]
