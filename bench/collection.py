"""Garbage collection, which no other engine has as a thing of its own."""

import subprocess
import sys
import threading
import time
from typing import Final

import grpc

from bench.engines import SAMPAN, Engine
from bench.many_images import STOCK, Stock, have
from bench.measure import Bench, Unmeasured, seconds
from sampan.api.disk.v1 import disk_pb2, disk_pb2_grpc
from sampan.layout import Layout

# With the stock that disk usage is measured on, a thousand layers.
_MORE: Final = Stock("more", families=1, members=91, twins=1, common_layers=0, own_layers=10)
IMAGES: Final = STOCK.images + _MORE.images
LAYERS: Final = STOCK.layers + _MORE.layers

_ORPHAN: Final = "0f" * 32  # no digest of anything here


def collect(engine: Engine, bench: Bench) -> float:
    """Run a pass over many images, among which one file belongs to nobody."""
    layout = _stocked(engine, bench)
    orphan = layout.data("imaged") / "blobs/sha256" / _ORPHAN
    orphan.write_bytes(bytes(1_000_000))
    command = [str(SAMPAN), "--data-root", str(layout.data_root), "--run-root", str(layout.run_root), "system", "gc"]
    begin = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    took = time.monotonic() - begin
    if orphan.exists() or len(engine("images", "--quiet").split()) < IMAGES:
        raise RuntimeError(f"{engine.name}: the pass has removed too much, or not enough")
    return took


def pull_meanwhile(engine: Engine, bench: Bench) -> float:
    """Pull, while pass follows pass."""
    layout = _stocked(engine, bench)
    over = threading.Event()
    passes = 0

    def collect_on() -> None:
        nonlocal passes
        with (
            grpc.insecure_channel(f"unix://{layout.socket('imaged')}") as content,
            grpc.insecure_channel(f"unix://{layout.socket('snapshotter')}") as layers,
        ):
            disks = [disk_pb2_grpc.DiskStub(content), disk_pb2_grpc.DiskStub(layers)]
            while not over.is_set():
                for disk in disks:
                    disk.Collect(disk_pb2.CollectRequest(), timeout=60)
                passes += 1

    collecting = threading.Thread(target=collect_on)
    collecting.start()
    try:
        took = seconds(engine, *engine.over_http("pull", "--quiet", bench.fresh))
    finally:
        over.set()
        collecting.join()
    engine("rmi", "--force", bench.fresh)
    print(f"{passes} passes while {bench.fresh} was pulled", file=sys.stderr)
    if not passes:
        raise RuntimeError("no pass ended during the pull")
    return took


def _stocked(engine: Engine, bench: Bench) -> Layout:
    if engine.layout is None:
        raise Unmeasured
    have(engine, bench, STOCK)
    have(engine, bench, _MORE)
    return engine.layout
