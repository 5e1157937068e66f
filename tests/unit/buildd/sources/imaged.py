"""imaged with a registry behind it, and the sources of images in front of it."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from buildd.content import Content as WritableContent
from buildd.protocol import ImageQuery
from buildd.session.clients import Clients
from buildd.session.protocol import ClientContent, SessionInfo
from buildd.sources.documents import FoundImage
from buildd.sources.held import HeldImages, NamedImages
from buildd.sources.images import Content, ImageSource
from buildd.sources.layouts import LayoutSource
from sampan.errors import NotFoundError, SampanError
from sampan.oci.descriptor import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.oci.reference import parse_reference
from sampan.resource.content import Blob
from sampan.resource.image import Credentials, ImageDetails, Layer
from sampan.resource.snapshot import ApplyProgress
from sampan.resource.storage.images import Images
from sampan.resource.storage.snapshots import Layers
from sampan.resource.transfer import Fetched, FetchPhase, FetchProgress, FetchResolved, FetchStep
from tests.fakes.build_sessions import FakeSession, FakeSessions
from tests.fakes.build_stores import FakeConversation
from tests.fakes.build_stores import FakeStore as FakeContent
from tests.fakes.buildd import FakeKeeper
from tests.unit.buildd.sources.clients import FakeContext

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
NAME = "docker.io/library/base:1"


def document(value: object, media_type: str, blobs: dict[str, bytes]) -> Descriptor:
    data = json.dumps(value).encode()
    digest = Digest.of(data)
    blobs[digest] = data
    return Descriptor(media_type, digest, len(data))


def shown(descriptor: Descriptor, **more: object) -> dict[str, object]:
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size, **more}


@dataclass
class Image:
    """An index of images for two platforms, each of two layers."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    details: dict[Platform, tuple[Descriptor, Digest, tuple[Layer, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        entries = []
        for platform in (AMD64, ARM64):
            layers = []
            for name in ("one", str(platform)):
                data = f"layer {name}".encode()
                self.blobs[Digest.of(data)] = data
                layers.append(Layer(Descriptor(OCI_LAYER, Digest.of(data), len(data)), Digest.of(data)))
            config = document(
                {
                    "os": "linux",
                    "architecture": platform.architecture,
                    "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
                },
                OCI_CONFIG,
                self.blobs,
            )
            manifest = document(
                {
                    "schemaVersion": 2,
                    "config": shown(config),
                    "layers": [shown(layer.descriptor) for layer in layers],
                },
                OCI_MANIFEST,
                self.blobs,
            )
            self.details[platform] = manifest, config.digest, tuple(layers)
            entries.append(shown(manifest, platform={"os": "linux", "architecture": platform.architecture}))
        self.target = document({"schemaVersion": 2, "manifests": entries}, OCI_INDEX, self.blobs)


class FakeImaged:
    """imaged, with a registry behind it."""

    def __init__(self) -> None:
        self.image = Image()
        self.named: dict[str, ImageDetails] = {}
        self.fetched: list[tuple[str, Platform | None, Credentials | None]] = []
        self.blobs: dict[str, bytes] = {}
        self.written = FakeContent(self.blobs)
        self.leases: dict[str, str] = {}
        self.applied: list[Digest] = []
        self.stacked: list[Sequence[Digest]] = []
        self.failure: SampanError | None = None

    def name(self, reference: str, platform: Platform = AMD64, *, whole: bool = False) -> None:
        """Have the image here by a name, for one platform or for all."""
        manifest, config, layers = self.image.details[platform]
        target = self.image.target if whole else manifest
        self.blobs |= self.image.blobs if whole else {config: self.image.blobs[config]}
        self.named[reference] = ImageDetails(config, target, manifest, platform=platform, layers=layers)

    async def get(self, image: str, *, manifests: bool = False) -> ImageDetails:
        if image not in self.named:
            raise NotFoundError(f"No such image: {image}")
        return self.named[image]

    async def fetch(
        self, reference: str, platform: Platform | None, credentials: Credentials | None, *, any_single: bool
    ) -> AsyncGenerator[FetchProgress, None]:
        assert any_single
        self.fetched.append((reference, platform, credentials))
        if self.failure is not None:
            raise self.failure
        assert platform is not None
        manifest, config, layers = self.image.details[platform]
        lease = f"lease-{len(self.fetched)}"
        self.leases[lease] = "fetched"
        yield FetchResolved(lease, parse_reference(reference), self.image.target, layers)
        for layer in layers:
            digest, size = layer.descriptor.digest, layer.descriptor.size
            yield FetchStep(digest, FetchPhase.DOWNLOADING, 1, size)
            yield FetchStep(digest, FetchPhase.COMMITTED, size, size)
        self.blobs |= {each: self.image.blobs[each] for each in (config, manifest.digest)}
        yield Fetched(config, self.image.target, manifest)

    async def release(self, lease: str, *, abandon: bool = False) -> None:
        self.leases[lease] = "abandoned" if abandon else "released"

    @asynccontextmanager
    async def kept(self, *leases: str) -> AsyncIterator[str]:
        lease = leases[0] if leases else f"new-{len(self.leases)}"
        self.leases[lease] = "kept"
        try:
            yield lease
        finally:
            self.leases[lease] = "released"

    async def apply(self, descriptor: Descriptor, diff_id: Digest) -> AsyncGenerator[ApplyProgress, None]:
        await asyncio.sleep(0)
        self.applied.append(diff_id)
        yield ApplyProgress(1)
        yield ApplyProgress(done=True)

    async def stack(self, diff_ids: Sequence[Digest]) -> str:
        assert set(diff_ids) <= set(self.applied)
        self.stacked.append(diff_ids)
        return "chain"

    def read(self, digest: str, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes, None]:
        return stored(self.blobs).read(digest, offset, size)

    async def info(self, digest: str) -> Blob:
        return await stored(self.blobs).info(digest)

    def write(self, *, lease: str = "", resumable: bool = True) -> AbstractAsyncContextManager[FakeConversation]:
        assert self.leases[lease] == "kept"
        return self.written.write(lease=lease, resumable=resumable)


def stored(blobs: dict[str, bytes]) -> ClientContent:
    return FakeSession(stores={"": blobs}).content("")


class World:
    def __init__(self) -> None:
        self.imaged = FakeImaged()
        self.session = FakeSession(SessionInfo("s1"), stores={"oci:store": {}})
        clients = Clients(FakeSessions(self.session))
        self.dropped: list[tuple[str, FoundImage, str]] = []
        self.held = HeldImages(0.05, self.drop)
        images = cast("Images", self.imaged)
        self.clients = clients
        self.keeper = FakeKeeper()
        self.build_images()
        self.layouts = LayoutSource(images, cast("WritableContent", self.imaged), clients, self.held)

    def build_images(self) -> None:
        images, layers = cast("Images", self.imaged), cast("Layers", self.imaged)
        content, self.named = cast("Content", self.imaged), NamedImages(self.keeper)
        self.images = ImageSource(images, content, layers, self.clients, self.held, self.named)

    async def drop(self, id: str, image: FoundImage, lease: str) -> None:
        assert self.imaged.leases[lease] == "kept"
        self.dropped.append((id, image, lease))

    async def config(self, name: str = NAME, platform: Platform = AMD64, mode: str = "default") -> Digest | None:
        async with FakeContext("s1") as context:
            found = await self.images.resolve_config(ImageQuery(name, platform, mode), context)
        config = json.loads(found.config)
        assert config["architecture"] == platform.architecture
        return found.digest
