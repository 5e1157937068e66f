"""Services that behave, in memory, behind real gRPC: enough of each for what the engine does with them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from prometheus_client import CollectorRegistry

from sampan.api.containerd.types import types_pb2
from sampan.api.image.v1 import images_pb2, images_pb2_grpc
from sampan.api.runtime.v1 import containers_pb2, containers_pb2_grpc, events_pb2, events_pb2_grpc
from sampan.api.snapshot.v1 import layers_pb2, layers_pb2_grpc
from sampan.engine.engine import Engine
from sampan.errors import DataLossError, NotFoundError, UnavailableError
from sampan.layout import Layout
from sampan.oci.chain import chain_ids
from sampan.oci.digest import Digest
from sampan.service.interceptor import Interceptor, RpcMetrics

Context = grpc.aio.ServicerContext[Any, Any]


def content(text: str) -> images_pb2.LayerContent:
    """A layer whose blob and diff ID are made up from ``text``."""
    descriptor = types_pb2.Descriptor(digest=Digest.of(f"blob {text}".encode()), size=1000)
    return images_pb2.LayerContent(descriptor=descriptor, diff_id=Digest.of(f"tar {text}".encode()))


@dataclass
class FakeImages(images_pb2_grpc.ImagesServicer):
    """A registry with one image, and the store it is fetched to."""

    layers: list[images_pb2.LayerContent]
    names: dict[str, images_pb2.Image] = field(default_factory=dict)
    leases: set[str] = field(default_factory=set)
    abandoned: set[str] = field(default_factory=set)
    in_use: list[str] = field(default_factory=list)  # of the last removal

    def image(self) -> images_pb2.Image:
        return images_pb2.Image(
            id=Digest.of(b"config"),
            target=types_pb2.Descriptor(digest=Digest.of(b"manifest")),
            manifest=types_pb2.Descriptor(digest=Digest.of(b"manifest")),
            layers=self.layers,
            repo_tags=["web:1"],
        )

    async def Fetch(
        self, request: images_pb2.FetchRequest, context: Context
    ) -> AsyncIterator[images_pb2.FetchProgress]:
        if "missing" in request.reference:
            raise NotFoundError("manifest unknown")
        self.leases.add("lease")
        target = types_pb2.Descriptor(digest=Digest.of(b"manifest"))
        yield images_pb2.FetchProgress(
            resolved=images_pb2.FetchProgress.Resolved(
                lease="lease", reference=request.reference, target=target, layers=self.layers
            )
        )
        for layer in self.layers:
            yield images_pb2.FetchProgress(
                layer=images_pb2.FetchProgress.Layer(
                    digest=layer.descriptor.digest, phase=images_pb2.FetchProgress.COMMITTED, offset=1000, total=1000
                )
            )
        yield images_pb2.FetchProgress(
            fetched=images_pb2.FetchProgress.Fetched(image_id=self.image().id, target=target, manifest=target)
        )

    async def Create(self, request: images_pb2.CreateRequest, context: Context) -> images_pb2.CreateResponse:
        existed = request.reference in self.names
        self.names[request.reference] = self.image()
        self.leases.discard(request.lease)
        return images_pb2.CreateResponse(image=self.image(), existed=existed)

    async def Keep(
        self, request_iterator: AsyncIterator[images_pb2.KeepRequest], context: Context
    ) -> AsyncIterator[images_pb2.KeepResponse]:
        leases = tuple((await anext(request_iterator)).leases) or ("made",)
        yield images_pb2.KeepResponse(leases=leases)
        async for _ in request_iterator:
            pass

    async def Release(self, request: images_pb2.ReleaseRequest, context: Context) -> images_pb2.ReleaseResponse:
        (self.abandoned.add if request.abandon else self.leases.discard)(request.lease)
        return images_pb2.ReleaseResponse()

    async def Get(self, request: images_pb2.GetRequest, context: Context) -> images_pb2.Image:
        if not self.names:
            raise NotFoundError(f"No such image: {request.image}")
        return self.image()

    async def Remove(
        self, request: images_pb2.RemoveRequest, context: Context
    ) -> AsyncIterator[images_pb2.RemoveResponse]:
        self.in_use = list(request.in_use)
        self.names.clear()
        chain = chain_ids(Digest.parse(layer.diff_id) for layer in self.layers)
        image = Digest.of(b"config")
        change = images_pb2.RemoveResponse.Change
        yield images_pb2.RemoveResponse(
            changes=[change(image=image, untagged="web:1"), change(image=image, chain_ids=chain)]
        )


@dataclass
class FakeLayers(layers_pb2_grpc.LayersServicer):
    """Layers that are applied a message at a time; ``corrupt`` ones are found out once all ``stuck`` ones are stuck."""

    stored: set[str] = field(default_factory=set)
    chains: set[str] = field(default_factory=set)
    corrupt: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    cancelled: list[str] = field(default_factory=list)
    down: bool = False  # when it is to stack, or to take down
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # set whenever an Apply has ended
    most_at_once: int = 0
    _at_once: int = 0
    _stuck_now: set[str] = field(default_factory=set)
    _all_stuck: asyncio.Event = field(default_factory=asyncio.Event)

    async def Apply(
        self, request: layers_pb2.ApplyLayerRequest, context: Context
    ) -> AsyncIterator[layers_pb2.ApplyLayerProgress]:
        if request.diff_id in self.stored:
            yield layers_pb2.ApplyLayerProgress(existed=True, done=True)
            return
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield layers_pb2.ApplyLayerProgress(read_bytes=500)
            if request.diff_id in self.stuck:
                self._stuck_now.add(request.diff_id)
                if self._stuck_now == self.stuck:
                    self._all_stuck.set()
                await asyncio.Event().wait()
            if request.diff_id in self.corrupt:
                if self.stuck:
                    await self._all_stuck.wait()
                raise DataLossError(f"layer {request.descriptor.digest} is corrupt")
            self.stored.add(request.diff_id)
            yield layers_pb2.ApplyLayerProgress(read_bytes=1000, done=True)
        except BaseException:
            self.cancelled.append(request.diff_id)
            raise
        finally:
            self._at_once -= 1
            self.ended.set()

    async def Stack(self, request: layers_pb2.StackRequest, context: Context) -> layers_pb2.StackResponse:
        if self.down:
            raise UnavailableError("the snapshotter was killed")
        for diff_id in request.diff_ids:
            if diff_id not in self.stored:
                raise NotFoundError(f"layer {diff_id} is not stored")
        chain = chain_ids(Digest.parse(diff_id) for diff_id in request.diff_ids)
        self.chains.update(chain)
        return layers_pb2.StackResponse(chain_id=chain[-1] if chain else "")

    async def Unstack(
        self, requests: AsyncIterator[layers_pb2.UnstackRequest], context: Context
    ) -> AsyncIterator[layers_pb2.UnstackResponse]:
        if self.down:
            raise UnavailableError("the snapshotter was killed")
        stacks = [stack async for request in requests for stack in request.stacks]
        removed = [chain_id for stack in stacks for chain_id in reversed(stack.chain_ids)]
        self.chains.difference_update(removed)
        yield layers_pb2.UnstackResponse(removed_chain_ids=removed)


@dataclass
class FakeContainers(containers_pb2_grpc.ContainersServicer):
    """Records only."""

    containers: list[containers_pb2.Container] = field(default_factory=list)

    async def Create(
        self, request: containers_pb2.CreateContainerRequest, context: Context
    ) -> containers_pb2.CreateContainerResponse:
        self.containers.append(containers_pb2.Container(id="c" * 64, spec=request.spec))
        return containers_pb2.CreateContainerResponse(id="c" * 64, warnings=["careful"])

    async def List(
        self, request: containers_pb2.ListContainersRequest, context: Context
    ) -> AsyncIterator[containers_pb2.ListContainersResponse]:
        yield containers_pb2.ListContainersResponse(containers=self.containers)


@dataclass
class FakeEvents(events_pb2_grpc.EventsServicer):
    """Remembers what was published."""

    published: list[tuple[str, str]] = field(default_factory=list)

    async def Publish(self, request: events_pb2.PublishRequest, context: Context) -> events_pb2.PublishResponse:
        events = (request.event, *request.further)
        self.published += [(event.action, event.attributes["name"]) for event in events]
        return events_pb2.PublishResponse()


@dataclass
class Services:
    """The fakes, and an engine connected to them."""

    engine: Engine
    images: FakeImages
    layers: FakeLayers
    containers: FakeContainers
    events: FakeEvents


@asynccontextmanager
async def running_services(directory: Path, *layers: str) -> AsyncIterator[Services]:
    """Serve all fakes on sockets in ``directory``, with an image of ``layers``."""
    layout = Layout(directory, directory)
    # The generated servicers declare every method abstract; a fake has only those that are asked of it.
    images = FakeImages([content(text) for text in layers])  # type: ignore[abstract]
    applied = FakeLayers()  # type: ignore[abstract]
    containers = FakeContainers()  # type: ignore[abstract]
    events = FakeEvents()  # type: ignore[abstract]
    adders: dict[str, Callable[[grpc.aio.Server], None]] = {
        "imaged": lambda server: images_pb2_grpc.add_ImagesServicer_to_server(images, server),
        "snapshotter": lambda server: layers_pb2_grpc.add_LayersServicer_to_server(applied, server),
        "runtimed": lambda server: _add_runtime(containers, events, server),
    }
    servers = []
    for name, add in adders.items():
        server = grpc.aio.server(interceptors=[Interceptor(RpcMetrics(CollectorRegistry()))])
        add(server)
        server.add_insecure_port(f"unix:{layout.socket(name)}")
        await server.start()
        servers.append(server)
    try:
        async with Engine.connect(layout) as engine:
            yield Services(engine, images, applied, containers, events)
    finally:
        for server in servers:
            await server.stop(None)


def _add_runtime(containers: FakeContainers, events: FakeEvents, server: grpc.aio.Server) -> None:
    containers_pb2_grpc.add_ContainersServicer_to_server(containers, server)
    events_pb2_grpc.add_EventsServicer_to_server(events, server)
