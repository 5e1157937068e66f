"""Exporters on fakes."""

import io
import json
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from buildd.exporters.exporters import BuildExporters
from buildd.exporters.layers import LayerConverter
from buildd.exporters.protocol import BuildResult
from buildd.protocol import FileWorker, Tree, Trees
from buildd.session.clients import Clients
from buildd.session.protocol import Sessions
from sampan.build.request import Export
from sampan.errors import NotFoundError, SampanError
from sampan.oci.descriptor import OCI_LAYER_GZIP, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.resource import image as images
from sampan.resource.transfer import PushPhase, PushProgress, PushStep
from tests.fakes.build_sessions import FakeSession
from tests.fakes.build_stores import ExportedFiles, FakeStep, FakeStore

NOW = 1_700_000_000_123_456_789
AMD = Platform("linux", "amd64")
CONFIG = {
    "architecture": "amd64",
    "os": "linux",
    "config": {"Env": ["A=1"]},
    "history": [{"created_by": "FROM"}, {"created_by": "RUN"}, {"created_by": "ENV A=1", "empty_layer": True}],
}


IMAGE = images.ImageDetails(
    Digest.of(b"made"), *(Descriptor("application/vnd.oci.image.manifest.v1+json", Digest.of(b"made"), 1),) * 2
)


@dataclass
class ExportedImages:
    """Satisfies ``exporters.content.Images``."""

    created: list[tuple[str, Descriptor, str]] = field(default_factory=list)
    tags: list[tuple[str, str]] = field(default_factory=list)
    pushed: list[tuple[str, images.Credentials | None]] = field(default_factory=list)
    failure: SampanError | None = None
    refusal: SampanError | None = None  # of the registry
    targets: list[Descriptor | None] = field(default_factory=list)  # what was pushed that has no name
    deferred: frozenset[Digest] = frozenset()  # of what was created last
    known: dict[Digest, images.Layer] = field(default_factory=dict)  # blobs of layers, by diff ID
    lost: bool = False  # some of what no lease keeps is not here

    @asynccontextmanager
    async def kept(self, *leases: str) -> AsyncIterator[str]:
        assert not leases
        yield "lease"

    async def create(
        self,
        reference: str,
        target: Descriptor,
        lease: str,
        platform: Platform | None = None,
        parent: str = "",
        deferred: Collection[Digest] = (),
    ) -> images.NamedImage:
        assert (platform, parent) == (None, "")
        if self.failure is not None:
            raise self.failure
        if self.lost and not lease:
            raise NotFoundError("a part of the image is not here")
        self.deferred = frozenset(deferred)
        self.created.append((reference, target, lease))
        return images.NamedImage(IMAGE)

    async def forms(self, diff_ids: Sequence[Digest]) -> Sequence[images.Layer]:
        return [self.known[diff_id] for diff_id in diff_ids if diff_id in self.known]

    async def tag(self, image: str, reference: str) -> None:
        self.tags.append((image, reference))

    async def push(
        self,
        reference: str,
        credentials: images.Credentials | None = None,
        platform: Platform | None = None,
        target: Descriptor | None = None,
    ) -> AsyncGenerator[PushProgress, None]:
        assert platform is None
        self.targets.append(target)
        self.pushed.append((reference, credentials))
        if self.refusal is not None:
            raise self.refusal
        yield PushStep(Digest.of(b"l"), PushPhase.PUSHING, 1, 2)
        yield PushStep(Digest.of(b"l"), PushPhase.PUSHED, 2, 2)


@dataclass
class Layers:
    """Satisfies ``exporters.layers.Storage``: layers that are stored, whose blobs are their names with a prefix."""

    images: ExportedImages
    store: FakeStore
    packed: list[tuple[Digest, str]] = field(default_factory=list)

    @property
    def differ(self) -> "Layers":
        return self

    async def pack(self, diff_id: Digest, lease: str = "") -> Descriptor:
        self.packed.append((diff_id, lease))
        data = b"blob of " + diff_id.encode()
        self.store.blobs[Digest.of(data)] = data
        return Descriptor(OCI_LAYER_GZIP, Digest.of(data), len(data))


class Room:
    """Exporters on fakes."""

    def __init__(self, scratch: Path) -> None:
        self.store, self.images, self.files, self.session = (
            FakeStore(),
            ExportedImages(),
            ExportedFiles(),
            FakeSession(stores={"export": {}}),
        )
        self.step = FakeStep()
        self.made_ready: list[Tree] = []
        self.announced: list[tuple[str, tuple[str, ...]]] = []
        self.layers = Layers(self.images, self.store)
        self.exporters = BuildExporters(
            self.store,
            self.images,
            cast("Trees", self),
            cast("FileWorker", self.files),
            LayerConverter(self.store, self.layers, cast("FileWorker", self.files), scratch),
            Clients(cast("Sessions", self)),
            self._announce,
            lambda: NOW,
        )

    async def _announce(self, image: images.ImageDetails, names: Sequence[str]) -> None:
        self.announced.append((image.id, tuple(names)))

    async def ready(self, tree: Tree) -> str:
        self.made_ready.append(tree)
        return "chain"

    async def get(self, id: str, timeout_s: float = 5) -> FakeSession:
        assert (id, timeout_s) == ("s", 5)
        return self.session

    async def export(self, result: BuildResult, kind: str, **more: str) -> Any:
        attributes = {name.replace("_", "-"): value for name, value in more.items()}
        return (await self.exporters.export(result, Export(kind, attributes), self.step, {})).told

    def json(self, digest: str) -> Any:
        return json.loads(self.store.blobs[digest])


def unpacked(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = [(member.name, archive.extractfile(member)) for member in archive.getmembers()]
        return {name: file.read() for name, file in members if file is not None}


def one(tree: Tree, config: object = CONFIG) -> BuildResult:
    return BuildResult({"": tree}, {"containerimage.config": json.dumps(config).encode()})


def several(trees: Mapping[str, Tree]) -> BuildResult:
    platforms = []
    metadata = {}
    for key in trees:
        system, architecture = key.split("/")
        platforms.append({"ID": key, "Platform": {"os": system, "architecture": architecture}})
        metadata[f"containerimage.config/{key}"] = json.dumps({"os": system, "architecture": architecture}).encode()
    metadata["refs.platforms"] = json.dumps({"Platforms": platforms}).encode()
    return BuildResult(trees, metadata)
