"""A small engine: imaged, snapshotter and runtimed in one process, over real gRPC sockets, with everything in memory.

It behaves as far as clients can tell: containers run a few commands, streams flow, states change, errors are those of
the real services. Nothing is executed.
"""

import asyncio
import copy
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
from prometheus_client import CollectorRegistry

from buildd.wire.services.control_servicer import ControlServicer
from imaged.images.model import ImageRecord
from imaged.images.removal import plan_removal
from runtimed.wire.archives_servicer import ArchivesServicer
from runtimed.wire.events_servicer import EventsServicer
from runtimed.wire.host_servicer import HostServicer
from runtimed.wire.networks_servicer import NetworksServicer
from runtimed.wire.volumes_servicer import VolumesServicer
from sampan.api.buildkit.control.v1 import control_pb2_grpc
from sampan.api.containerd.types import types_pb2
from sampan.api.disk.v1 import disk_pb2_grpc
from sampan.api.image.v1 import images_pb2, images_pb2_grpc
from sampan.api.runtime.v1 import (
    archives_pb2_grpc,
    containers_pb2_grpc,
    events_pb2_grpc,
    execs_pb2_grpc,
    host_pb2_grpc,
    networks_pb2_grpc,
    volumes_pb2_grpc,
)
from sampan.api.snapshot.v1 import layers_pb2_grpc
from sampan.client.convert.images import USE
from sampan.client.convert.oci import DESCRIPTOR
from sampan.errors import (
    InvalidArgumentError,
    NotFoundError,
    UnauthenticatedError,
)
from sampan.handing.desk import Desk
from sampan.layout import Layout
from sampan.oci.chain import chain_ids
from sampan.oci.digest import Digest
from sampan.oci.reference import parse_reference
from sampan.service.interceptor import Interceptor, RpcMetrics
from sampan.wire.pages import pages
from tests.fakes.builder import FakeBuilder, FakeBuilds
from tests.fakes.engine_layers import DIFF_IDS, LAYER_BYTES, FakeDisk, FakeLayers
from tests.fakes.engine_runtime import FakeRuntime
from tests.fakes.remote_manifests import FakeRemoteManifests

LAYERS = (Digest.of(b"layer one"), Digest.of(b"layer two"))
MANIFEST = Digest.of(b"manifest")
_ARCHIVE = b"archive of images\n"
_LAYERS = tuple(
    images_pb2.LayerContent(descriptor=types_pb2.Descriptor(digest=layer, size=LAYER_BYTES), diff_id=diff_id)
    for layer, diff_id in zip(LAYERS, DIFF_IDS, strict=True)
)

Phase = images_pb2.FetchProgress


def _record(image: images_pb2.Image) -> ImageRecord:
    """What imaged would have recorded, as far as its removal looks at that."""
    target = DESCRIPTOR.decode(image.target)
    names = tuple(map(parse_reference, (*image.repo_tags, *image.repo_digests)))
    return ImageRecord(Digest(image.id), target, target, (), 0, 0, names)


def layers_of(*texts: str) -> list[images_pb2.LayerContent]:
    """Layers whose blobs and diff IDs are made up from ``texts``."""
    return [
        images_pb2.LayerContent(
            descriptor=types_pb2.Descriptor(digest=Digest.of(f"blob {text}".encode()), size=LAYER_BYTES),
            diff_id=Digest.of(f"tar {text}".encode()),
        )
        for text in texts
    ]


def image(
    name: str,
    *,
    created_s: int = 1_700_000_000,
    layers: Sequence[images_pb2.LayerContent] | None = None,
    **config: Any,
) -> images_pb2.Image:
    """An image, of two layers unless others are given; ``name`` in familiar form, empty for a dangling one."""
    made = images_pb2.Image(
        id=Digest.of(f"image {name}{created_s}".encode()),
        repo_tags=[name] if name else [],
        repo_digests=[f"{name.rpartition(':')[0]}@{MANIFEST}"] if name else [],
        platform=images_pb2.Platform(os="linux", architecture="amd64"),
        config=images_pb2.ImageConfig(**({"env": ["PATH=/bin"], "cmd": ["sh"]} | config)),
        layers=_LAYERS if layers is None else layers,
        history=[
            images_pb2.History(created_by="ADD rootfs"),
            images_pb2.History(created_by="CMD sh", empty_layer=True),
            images_pb2.History(created_by="RUN something"),
        ],
        target=types_pb2.Descriptor(digest=MANIFEST, media_type="application/vnd.oci.image.index.v1+json", size=500),
        manifest=types_pb2.Descriptor(
            digest=MANIFEST, media_type="application/vnd.oci.image.manifest.v1+json", size=500
        ),
        content_bytes=2 * LAYER_BYTES,
    )
    made.created.seconds = created_s
    return made


@dataclass
class FakeImages(FakeRemoteManifests):
    """Image names, and a registry that has what is in ``remote``."""

    images: dict[str, images_pb2.Image] = field(default_factory=dict)
    credentials: list[images_pb2.Credentials] = field(default_factory=list)
    imported: bytes = b""
    fail_after_resolve: Exception | None = None
    refuse: Exception | None = None
    hang: bool = False  # in the middle of a pull
    fetch_cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    leases: set[str] = field(default_factory=set)
    abandoned: set[str] = field(default_factory=set)

    def add(self, one: images_pb2.Image) -> images_pb2.Image:
        self.images[one.id] = one
        return one

    def find(self, name: str) -> images_pb2.Image:
        for one in self.images.values():
            if one.id.startswith((name, f"sha256:{name}")):
                return one
        wanted = parse_reference(name).with_default_tag().familiar
        for one in self.images.values():
            if wanted in one.repo_tags or wanted in one.repo_digests:
                return one
        raise NotFoundError(f"No such image: {wanted}")

    async def Get(self, request: images_pb2.GetRequest, context: Any) -> images_pb2.Image:
        found = self.find(request.image)
        if request.HasField("platform") and request.platform.architecture != found.platform.architecture:
            raise NotFoundError(f"{request.image} does not provide the specified platform")
        return found

    async def List(self, request: images_pb2.ListRequest, context: Any) -> AsyncIterator[images_pb2.ListResponse]:
        newest_first = sorted(self.images.values(), key=lambda one: -one.created.seconds)
        if request.brief:
            newest_first = [copy.deepcopy(one) for one in newest_first]
            for one in newest_first:
                one.ClearField("config")
                one.ClearField("history")
        for page in pages(images_pb2.ListResponse, "images", newest_first):
            yield page

    async def Fetch(self, request: images_pb2.FetchRequest, context: Any) -> AsyncIterator[images_pb2.FetchProgress]:
        self.credentials.append(request.credentials)
        if self.refuse is not None:
            raise self.refuse
        reference = parse_reference(request.reference).with_default_tag()
        found = self.remote.get(reference.familiar)
        if found is None:
            raise NotFoundError(
                f"pull access denied for {reference.familiar_name}, repository does not exist or may require "
                "'docker login'"
            )
        self.leases.add("lease")
        yield images_pb2.FetchProgress(
            resolved=images_pb2.FetchProgress.Resolved(
                lease="lease", reference=str(reference), target=found.target, layers=found.layers
            )
        )
        if self.hang:
            try:
                await asyncio.Event().wait()
            finally:
                self.fetch_cancelled.set()
        if self.fail_after_resolve is not None:
            raise self.fail_after_resolve
        for layer in found.layers:
            for phase in (Phase.DOWNLOADING, Phase.VERIFYING, Phase.COMMITTED):
                digest = layer.descriptor.digest
                yield Phase(layer=Phase.Layer(digest=digest, phase=phase, offset=LAYER_BYTES, total=LAYER_BYTES))
        yield images_pb2.FetchProgress(fetched=images_pb2.FetchProgress.Fetched(image_id=found.id, target=found.target))

    async def Create(self, request: images_pb2.CreateRequest, context: Any) -> images_pb2.CreateResponse:
        reference = parse_reference(request.reference).with_default_tag().familiar if request.reference else ""
        found = self.remote.get(reference) or image(reference)
        existed = found.id in self.images
        self.leases.discard(request.lease)
        return images_pb2.CreateResponse(image=self.add(found), existed=existed)

    async def Forms(self, request: images_pb2.FormsRequest, context: Any) -> images_pb2.FormsResponse:
        known = {
            layer.diff_id: layer
            for one in self.images.values()
            for layer in one.layers
            if layer.diff_id in request.diff_ids and layer.diff_id not in one.deferred
        }
        return images_pb2.FormsResponse(layers=known.values())

    async def Complete(self, request: images_pb2.CompleteRequest, context: Any) -> images_pb2.CompleteResponse:
        found = self.find(request.image)
        made = {layer.diff_id: layer for layer in request.layers}
        if set(found.deferred) - made.keys():
            raise InvalidArgumentError(f"image {found.id} is not complete")
        for layer in found.layers:
            if layer.diff_id in found.deferred:
                layer.CopyFrom(made[layer.diff_id])
        found.ClearField("deferred")
        return images_pb2.CompleteResponse()

    async def Keep(
        self, request_iterator: AsyncIterator[images_pb2.KeepRequest], context: Any
    ) -> AsyncIterator[images_pb2.KeepResponse]:
        leases = tuple((await anext(request_iterator)).leases) or ("made",)
        yield images_pb2.KeepResponse(leases=leases)
        async for _ in request_iterator:
            pass

    async def Release(self, request: images_pb2.ReleaseRequest, context: Any) -> images_pb2.ReleaseResponse:
        (self.abandoned.add if request.abandon else self.leases.discard)(request.lease)
        return images_pb2.ReleaseResponse()

    async def Tag(self, request: images_pb2.TagRequest, context: Any) -> images_pb2.TagResponse:
        self.find(request.image).repo_tags.append(parse_reference(request.reference).with_default_tag().familiar)
        return images_pb2.TagResponse()

    async def Prune(
        self, requests: AsyncIterator[images_pb2.PruneRequest], context: Any
    ) -> AsyncIterator[images_pb2.RemoveResponse]:
        names = [name async for request in requests for name in request.images]
        yield images_pb2.RemoveResponse()
        for name in names:
            with suppress(NotFoundError):  # it went with another of its names
                yield self._remove(name)

    async def Remove(self, request: images_pb2.RemoveRequest, context: Any) -> AsyncIterator[images_pb2.RemoveResponse]:
        found = self.find(request.image)
        uses = {use.image: use for use in USE.decode_all(request.in_use)}
        by_id = found.id.startswith((request.image, f"sha256:{request.image}"))
        name = None if by_id else parse_reference(request.image).with_default_tag()
        plan = plan_removal(_record(found), request.image, name, uses.get(found.id), force=request.force)
        labels = dict(found.config.labels)
        if plan.delete:
            removed = self._remove(request.image)
            for each in removed.changes:
                each.labels.update(labels if each.untagged else {})
            yield removed
            return
        gone = [reference.familiar for reference in plan.untag]
        for names in (found.repo_tags, found.repo_digests):
            names[:] = [each for each in names if each not in gone]
        change = images_pb2.RemoveResponse.Change
        yield images_pb2.RemoveResponse(changes=[change(image=found.id, untagged=each, labels=labels) for each in gone])

    def _remove(self, name: str) -> images_pb2.RemoveResponse:
        found = self.images.pop(self.find(name).id)
        change = images_pb2.RemoveResponse.Change
        untagged = [change(image=found.id, untagged=name) for name in (*found.repo_tags, *found.repo_digests)]
        chain = chain_ids(Digest(layer.diff_id) for layer in found.layers)
        return images_pb2.RemoveResponse(changes=[*untagged, change(image=found.id, chain_ids=chain)])

    async def Import(
        self, requests: AsyncIterator[images_pb2.ImportRequest], context: Any
    ) -> images_pb2.ImportResponse:
        if self.refuse is not None:
            raise self.refuse
        chunks = [request.chunk async for request in requests if request.HasField("chunk")]
        self.imported = b"".join(chunks)
        return images_pb2.ImportResponse(
            lease="lease", image_id=image("").id, target=image("").target, layers=image("").layers
        )

    async def Save(self, request: images_pb2.SaveRequest, context: Any) -> AsyncIterator[images_pb2.SaveResponse]:
        """An archive here is the images' messages, one after the other, each behind its length."""
        for found in [self.find(name) for name in request.images]:
            data = found.SerializeToString()
            yield images_pb2.SaveResponse(chunk=_ARCHIVE + len(data).to_bytes(4) + data)

    async def Load(
        self, requests: AsyncIterator[images_pb2.LoadRequest], context: Any
    ) -> AsyncIterator[images_pb2.LoadResponse]:
        left = b"".join([request.chunk async for request in requests if request.HasField("chunk")])
        while left:
            if not left.startswith(_ARCHIVE):
                raise InvalidArgumentError("unexpected EOF: not an archive of images")
            head = len(_ARCHIVE) + 4
            end = head + int.from_bytes(left[len(_ARCHIVE) : head])
            found, left = images_pb2.Image.FromString(left[head:end]), left[end:]
            self.remote |= dict.fromkeys(found.repo_tags, found)  # who has the lease gives the name
            names = [str(parse_reference(each).with_default_tag()) for each in found.repo_tags]
            loaded = images_pb2.LoadedImage(
                lease="lease", image_id=found.id, target=found.target, layers=found.layers, references=names,
                platform=found.platform,
            )  # fmt: skip
            yield images_pb2.LoadResponse(images=[loaded])

    async def Push(self, request: images_pb2.PushRequest, context: Any) -> AsyncIterator[images_pb2.PushProgress]:
        self.credentials.append(request.credentials)
        reference = parse_reference(request.reference).with_default_tag()
        found = next((one for one in self.images.values() if reference.familiar in one.repo_tags), None)
        if found is None:
            raise NotFoundError(f"An image does not exist locally with the tag: {reference.familiar_name}")
        if self.refuse is not None:
            raise self.refuse
        progress = images_pb2.PushProgress
        yield progress(resolved=progress.Resolved(reference=str(reference), layers=found.layers))
        for layer in found.layers:
            for phase in (progress.PUSHING, progress.PUSHED):
                step = progress.Layer(
                    digest=layer.descriptor.digest, phase=phase, offset=LAYER_BYTES, total=LAYER_BYTES
                )
                yield progress(layer=step)
        self.remote[reference.familiar] = found
        yield progress(pushed=progress.Pushed(image_id=found.id, tag=reference.tag or "", manifest=found.manifest))

    async def Tags(self, request: images_pb2.TagsRequest, context: Any) -> AsyncIterator[images_pb2.TagsResponse]:
        repository = parse_reference(request.repository).familiar
        split = (name.rpartition(":") for name in self.remote)
        yield images_pb2.TagsResponse(tags=[tag for name, _, tag in split if name == repository])

    async def Login(self, request: images_pb2.LoginRequest, context: Any) -> images_pb2.LoginResponse:
        if request.credentials.password != "right":
            raise UnauthenticatedError("unauthorized: incorrect username or password")
        return images_pb2.LoginResponse(status="Login Succeeded")


@dataclass
class FakeEngine:
    """What tests look at and prepare."""

    layout: Layout
    images: FakeImages = field(default_factory=FakeImages)
    layers: FakeLayers = field(default_factory=FakeLayers)
    runtime: FakeRuntime = field(default_factory=FakeRuntime)
    content_disk: FakeDisk = field(default_factory=FakeDisk)
    layer_disk: FakeDisk = field(default_factory=FakeDisk)
    runtime_disk: FakeDisk = field(default_factory=FakeDisk)
    builder: FakeBuilder = field(default_factory=FakeBuilder)


@asynccontextmanager
async def fake_engine(layout: Layout) -> AsyncIterator[FakeEngine]:
    """Serve the services on ``layout``'s sockets; the builder as far as its cache goes."""
    fake = FakeEngine(layout)
    layout.run_root.mkdir(parents=True, exist_ok=True)
    layout.data("buildd").mkdir(parents=True, exist_ok=True)  # it has run, and is asked what it has
    async with AsyncExitStack() as stack:
        servers = {name: await _server(stack) for name in ("imaged", "snapshotter", "runtimed", "buildd")}
        images_pb2_grpc.add_ImagesServicer_to_server(fake.images, servers["imaged"])
        layers_pb2_grpc.add_LayersServicer_to_server(fake.layers, servers["snapshotter"])
        disk_pb2_grpc.add_DiskServicer_to_server(fake.content_disk, servers["imaged"])
        disk_pb2_grpc.add_DiskServicer_to_server(fake.layer_disk, servers["snapshotter"])
        disk_pb2_grpc.add_DiskServicer_to_server(fake.runtime_disk, servers["runtimed"])
        runtimed = servers["runtimed"]
        containers_pb2_grpc.add_ContainersServicer_to_server(fake.runtime.containers, runtimed)
        execs_pb2_grpc.add_ExecsServicer_to_server(fake.runtime.execs, runtimed)
        desk = Desk(layout.desk("runtimed"))
        stack.push_async_callback(desk.close)
        archives_pb2_grpc.add_ArchivesServicer_to_server(ArchivesServicer(fake.runtime.archives, desk), runtimed)
        events_pb2_grpc.add_EventsServicer_to_server(EventsServicer(fake.runtime.events), runtimed)
        networks_pb2_grpc.add_NetworksServicer_to_server(NetworksServicer(fake.runtime.networks), runtimed)
        volumes_pb2_grpc.add_VolumesServicer_to_server(VolumesServicer(fake.runtime.volumes), runtimed)
        host_pb2_grpc.add_HostServicer_to_server(HostServicer(fake.runtime.host), runtimed)
        control = ControlServicer(FakeBuilds(fake.builder))
        control_pb2_grpc.add_ControlServicer_to_server(control, servers["buildd"])
        for name, server in servers.items():
            server.add_insecure_port(f"unix:{layout.socket(name)}")
            await server.start()
        yield fake


async def _server(stack: AsyncExitStack) -> grpc.aio.Server:
    server = grpc.aio.server(interceptors=[Interceptor(RpcMetrics(CollectorRegistry()))])
    stack.push_async_callback(server.stop, None)
    return server
