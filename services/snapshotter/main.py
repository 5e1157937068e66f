"""The snapshotter's wiring and life."""

import asyncio
import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sampan.errors import InvalidArgumentError, UnimplementedError
from sampan.log import log
from sampan.resource.snapshot import DriversReport
from sampan.service.config import ServiceConfig, option
from sampan.service.disk_servicer import DiskServicer
from sampan.service.harness import Service, run
from sampan.service.passes import Passes
from sampan.sys.mounts import mount_table
from sampan.wire.channel import open_channel
from snapshotter.check.check import LayersCheck
from snapshotter.check.repair import Repairer
from snapshotter.diff.differ import LocalDiffer
from snapshotter.drivers.driver import Driver
from snapshotter.drivers.erofs.driver import ErofsDriver
from snapshotter.drivers.erofs.mounts import ErofsMounts, Way
from snapshotter.drivers.native import NativeDriver
from snapshotter.drivers.overlayfs import OverlayDriver
from snapshotter.drivers.trials import try_all
from snapshotter.gc.collector import LayerCollector
from snapshotter.gc.usage import LayerUsage
from snapshotter.layers.apply import Applier
from snapshotter.layers.layers import LocalLayers
from snapshotter.layers.limits import LayerLimits
from snapshotter.metrics import Metrics
from snapshotter.snapshots.catalog import Catalog
from snapshotter.snapshots.directories import Disk, Syncer
from snapshotter.snapshots.snapshots import LocalSnapshots
from snapshotter.wire.content_client import ContentClient, RootsClient
from snapshotter.wire.servicer import DiffServicer, LayersServicer, SnapshotsServicer

# From the best to what works everywhere: the order in which "auto" tries.
_PREFERENCE: Final = ("erofs", "overlayfs", "native")


@dataclass(frozen=True, slots=True)
class Config(ServiceConfig):
    """What the snapshotter can be told."""

    driver: str = option("auto", 'storage driver: "auto", "erofs", "overlayfs" or "native"')
    erofs_file_mount: bool = option(default=True, help="let erofs mount a layer directly from its file")
    erofs_loop: bool = option(default=True, help="let erofs mount a layer through a loop device")
    gc_interval_s: float = option(
        600.0, "seconds between passes of garbage collection; 0: at the start, and when asked"
    )
    max_layer_entries: int = option(2_000_000, "most entries that a layer may have")
    max_layer_bytes: int = option(1 << 40, "most bytes that a layer may have, uncompressed")
    max_layer_ratio: int = option(250, "most times its blob's size that a layer of more than 8 GiB may have")


async def build(service: Service[Config]) -> None:
    """Build, recover and register everything."""
    config, layout, stack = service.config, service.layout, service.stack
    _allow_many_files()
    root = layout.data("snapshotter")
    # A stack of 128 layers has to fit 4095 bytes, and /run/sampan/l is as short as it gets.
    disk = Disk(root, short_root=layout.run_root / "l")
    erofs = ErofsMounts(layout.run_root / "m", _ways(config))
    drivers: dict[str, Driver] = {
        "erofs": ErofsDriver(erofs, disk.shorter),
        "overlayfs": OverlayDriver(disk.shorter),
        "native": NativeDriver(),
    }
    report = await choose(drivers, config.driver, root)
    driver = drivers[report.driver]
    metrics = Metrics(service.metrics, driver.name)
    erofs.counted = metrics.mounted
    store = await service.open_store(root / "metadata.db", "snapshotter.schema")
    catalog = Catalog(store, disk, erofs, counted=metrics.snapshots)
    service.set_aside.count_in(service.metrics, ("layer", "snapshot", "mount", "leftover"))
    await catalog.recover(service.set_aside)
    stack.push_async_callback(erofs.close)
    channel = await stack.enter_async_context(open_channel(layout.socket("imaged")))
    content = ContentClient(channel, layout.blobs_socket)
    syncer = Syncer(root)
    limits = LayerLimits(config.max_layer_entries, config.max_layer_bytes, config.max_layer_ratio)
    applier = Applier(catalog, content, syncer, metrics, layer_format=driver.layer_format, limits=limits)
    layers = LocalLayers(catalog, applier, report)
    differ = LocalDiffer(catalog, applier, content, syncer)
    shown_by = {d.snapshot_format: d for d in drivers.values()}
    snapshots = LocalSnapshots(catalog, driver, shown_by, syncer)
    service.checkers.append(LayersCheck(catalog, erofs, Repairer(catalog, erofs, applier, shown_by)))
    disk.start()
    stack.push_async_callback(disk.close)
    layers.start()
    stack.push_async_callback(layers.close)
    if config.gc_interval_s < 0:
        raise InvalidArgumentError(f"gc_interval_s is {config.gc_interval_s}, the least is 0")
    roots = RootsClient(channel)
    collector = LayerCollector(catalog, roots, LayerUsage(catalog, roots))
    passes = await stack.enter_async_context(Passes(collector, service.metrics, config.gc_interval_s))
    for servicer in (
        DiskServicer(collector, passes),
        SnapshotsServicer(snapshots),
        LayersServicer(layers, differ),
        DiffServicer(differ),
    ):
        service.serve(servicer)


async def choose(drivers: Mapping[str, Driver], wanted: str, root: Path) -> DriversReport:
    """Probe all drivers and choose the one that is wanted, or the best.

    Raises:
        InvalidArgumentError: ``wanted`` is not a driver.
        UnimplementedError: it cannot be used on this host.
        NoSpaceError: see ``try_all``.
    """
    if wanted != "auto" and wanted not in drivers:
        raise InvalidArgumentError(f"driver {wanted!r} is unknown: known are auto, {', '.join(drivers)}")
    reports = await try_all(drivers, root)
    chosen = wanted if wanted != "auto" else next(name for name in _PREFERENCE if reports[name].usable)
    if not reports[chosen].usable:
        raise UnimplementedError(f"driver {chosen!r} cannot be used here: {reports[chosen].reason}")
    backing = await asyncio.to_thread(_filesystem_of, root)
    if wanted != "auto":
        reports[chosen] = replace(reports[chosen], reason=f"the configuration asks for it; {reports[chosen].reason}")
    log.info("storage driver chosen", driver=chosen, reason=reports[chosen].reason, backing=backing)
    return DriversReport(chosen, backing, tuple(reports.values()))


def _ways(config: Config) -> tuple[Way, ...]:
    allowed = {Way.FILE: config.erofs_file_mount, Way.LOOP: config.erofs_loop}
    return tuple(way for way, may in allowed.items() if may)


def _filesystem_of(path: Path) -> str:
    """Return the type of the file system that ``path`` is on, by the mount that it is below."""
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mount_table():
        fields = line.split(" ")
        if fields[2] == number:
            return fields[fields.index("-") + 1]
    return "unknown"


def _allow_many_files() -> None:
    """Comparing stacks keeps a descriptor per layer and level: use all that the host allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> int:
    """Run the service."""
    return run("snapshotter", Config, build)
