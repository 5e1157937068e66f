"""Garbage collection on demand: content first, since what its leases let go of need not stay unpacked either."""

from typing import TYPE_CHECKING

from sampan.api.disk.v1 import disk_pb2
from sampan.disk import NOTHING_FREED, Collected, Freed
from sampan.wire.channel import rpc_errors
from sampan.wire.disk import collected_from_proto

if TYPE_CHECKING:
    from sampan.engine.services import Services


async def collect(engine: "Services", *, leftovers: bool) -> Collected:
    """See ``Engine.collect_garbage``."""
    request = disk_pb2.CollectRequest(leftovers=leftovers)
    freed: dict[str, Freed] = {}
    seconds = 0.0
    for disk in (engine.content_disk, engine.layer_disk):
        with rpc_errors():
            passed = collected_from_proto(await disk.Collect(request))
        seconds += passed.seconds
        for kind, one in passed.freed.items():
            freed[kind] = freed.get(kind, NOTHING_FREED) + one
    return Collected(freed, seconds)
