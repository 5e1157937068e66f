"""The services that an engine consists of: their clients, as the sequences need them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import grpc

from sampan.api.containerd.content.v1.content_pb2_grpc import ContentStub
from sampan.api.containerd.snapshots.v1.snapshots_pb2_grpc import SnapshotsStub
from sampan.api.disk.v1.disk_pb2_grpc import DiskStub
from sampan.api.image.v1.images_pb2_grpc import ImagesStub
from sampan.api.snapshot.v1.layers_pb2_grpc import LayersStub
from sampan.client.runtime import Runtime
from sampan.layout import Layout
from sampan.services import USED_BY_ENGINE
from sampan.wire.channel import open_channel, reach

if TYPE_CHECKING:  # the stubs' asynchronous types exist only for type checkers
    from sampan.api.containerd.content.v1.content_pb2_grpc import ContentAsyncStub
    from sampan.api.containerd.snapshots.v1.snapshots_pb2_grpc import SnapshotsAsyncStub
    from sampan.api.disk.v1.disk_pb2_grpc import DiskAsyncStub
    from sampan.api.image.v1.images_pb2_grpc import ImagesAsyncStub
    from sampan.api.snapshot.v1.layers_pb2_grpc import LayersAsyncStub


@dataclass(frozen=True, slots=True)
class Services:
    """One engine's services. Calls on the stubs belong in ``with rpc_errors():``; ``runtime`` has done that."""

    layout: Layout
    channels: Mapping[str, grpc.aio.Channel]
    images: "ImagesAsyncStub"
    content: "ContentAsyncStub"
    content_disk: "DiskAsyncStub"
    layers: "LayersAsyncStub"
    snapshots: "SnapshotsAsyncStub"
    layer_disk: "DiskAsyncStub"
    runtime_disk: "DiskAsyncStub"
    runtime: Runtime

    @classmethod
    @asynccontextmanager
    async def connect(cls, layout: Layout) -> "AsyncIterator[Self]":
        """Open channels to the services of ``layout``. Nothing is sent before the first call."""
        async with AsyncExitStack() as stack:
            channels = {
                name: await stack.enter_async_context(open_channel(layout.socket(name))) for name in USED_BY_ENGINE
            }
            imaged, snapshotter, runtimed = channels.values()
            yield cls(
                layout=layout,
                channels=channels,
                images=ImagesStub(imaged),
                content=ContentStub(imaged),
                content_disk=DiskStub(imaged),
                layers=LayersStub(snapshotter),
                snapshots=SnapshotsStub(snapshotter),
                layer_disk=DiskStub(snapshotter),
                runtime_disk=DiskStub(runtimed),
                runtime=Runtime(runtimed),
            )

    async def reach(self, deadline_s: float) -> None:
        """Return when all services can be called. Raises UnavailableError, naming one that cannot by the deadline."""
        end = asyncio.get_running_loop().time() + deadline_s
        for name, channel in self.channels.items():  # one after the other: all of them connect meanwhile
            await reach(channel, name, end - asyncio.get_running_loop().time())
