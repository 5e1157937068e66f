"""Caches that go away and come back: to a registry, and to a client's directory."""

import gzip
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from buildd.exporters.layers import LayerConverter
from buildd.protocol import FileWorker, StepContext, Tree
from buildd.remote_cache.document import CachedResult, parse_document
from buildd.remote_cache.exports import CacheExports, check_export, ignores_errors, inline
from buildd.remote_cache.imports import CacheImports
from buildd.remote_cache.proofs import LayerProofs
from buildd.session.clients import Clients
from buildd.session.protocol import Sessions
from sampan.build.request import CacheOption
from sampan.errors import InvalidArgumentError, NotFoundError, SampanError
from sampan.oci.descriptor import OCI_LAYER_GZIP, Descriptor
from sampan.oci.digest import Digest
from sampan.resource.image import Layer
from tests.fakes.build_stores import ExportedFiles, FakeStep, FakeStore, layer
from tests.unit.buildd.exporters.exporting import ExportedImages, Layers

KEY, OTHER = Digest.of(b"key"), Digest.of(b"other")


@dataclass
class ClientStore:
    """A directory of the client's."""

    blobs: dict[str, bytes] = field(default_factory=dict)

    async def write(
        self, digest: Digest, size: int, chunks: AsyncIterable[bytes], labels: Mapping[str, str] | None = None
    ) -> None:
        data = b"".join([chunk async for chunk in chunks])
        assert (len(data), f"sha256:{hashlib.sha256(data).hexdigest()}", labels) == (size, digest, None)
        self.blobs[digest] = data

    async def read(self, digest: str, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes, None]:
        assert (offset, size) == (0, 0)
        if digest not in self.blobs:
            raise NotFoundError(f"content {digest}: not found")
        for start in range(0, len(self.blobs[digest]), 2):
            yield self.blobs[digest][start : start + 2]


class Session:
    """A client with one store for each name."""

    def __init__(self) -> None:
        self.stores: dict[str, ClientStore] = {}

    def content(self, store: str) -> ClientStore:
        return self.stores.setdefault(store, ClientStore())

    async def credentials(self, host: str) -> None:
        assert host


class Room:
    """Exports and imports on fakes, which are for two builders: what one has, the other has not."""

    def __init__(self, scratch: Path) -> None:
        self.here, self.there, self.scratch = FakeStore(), FakeStore(), scratch
        self.images, self.session = ExportedImages(), Session()
        clients = Clients(cast("Sessions", self))
        self.files = ExportedFiles()
        layers = LayerConverter(self.here, Layers(self.images, self.here), cast("FileWorker", self.files), scratch)
        self.exports = CacheExports(self.here, self.images, layers, clients, lambda: 10**18)
        self.proofs = LayerProofs(self, layers)
        self.imports = CacheImports(self, self.there, clients, lambda: self.images.kept(), self.proofs.prove)
        self.step = FakeStep()
        self.registry: dict[str, tuple[bytes, Sequence[Layer]]] = {}

    async def get(self, id: str, timeout_s: float = 5) -> Session:
        assert (id, timeout_s) == ("s", 5)
        return self.session

    async def unproven(self, tree: Tree) -> Sequence[Layer]:
        return tree.layers

    async def bring(self, reference: str, context: StepContext, stack: AsyncExitStack) -> tuple[bytes, Sequence[Layer]]:
        if reference not in self.registry:
            raise NotFoundError(f"{reference}: not found")
        return self.registry[reference]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


async def test_a_directory_of_the_client_carries_a_cache(room: Room) -> None:
    tree, stage = room.here.add("base", "run"), room.here.add("builder")
    results = [CachedResult(KEY, (tree,)), CachedResult(OTHER, (stage,))]
    option = CacheOption("local", {"dest": "/c", "mode": "max"})
    check_export(option)
    told = await room.exports.export(option, [tree], results, (), room.step)
    manifest = json.loads(told["cache.manifest"])
    store = room.session.stores.pop("local:/c")
    assert manifest["digest"] in store.blobs

    room.session.stores["local:/from"] = store
    wanted = CacheOption("local", {"src": "/from", "digest": manifest["digest"]})
    async with room.imports as imports:
        await imports.load(wanted, room.step)
        assert await imports.find(Digest.of(b"unknown")) is None
        assert not room.there.blobs, "nothing is brought before it is hit"
        assert await imports.find(OTHER) == (stage,)
        assert room.there.kept_by == {stage.layers[0].descriptor.digest: "lease"}
        assert await imports.find(KEY) == (tree,)


async def test_with_the_least_only_the_results_of_the_image_go(room: Room) -> None:
    tree, stage = room.here.add("base", "run"), room.here.add("builder")
    results = [CachedResult(KEY, (tree,)), CachedResult(OTHER, (stage,))]
    await room.exports.export(CacheOption("local", {"dest": "/c"}), [tree], results, (), room.step)
    assert stage.layers[0].descriptor.digest not in room.session.stores["local:/c"].blobs


async def test_a_damaged_blob_is_no_hit(room: Room) -> None:
    tree = room.here.add("base")
    told = await room.exports.export(
        CacheOption("local", {"dest": "/c"}), [tree], [CachedResult(KEY, (tree,))], (), room.step
    )
    digest = json.loads(told["cache.manifest"])["digest"]
    store = room.session.stores["local:/c"]
    store.blobs[tree.layers[0].descriptor.digest] = b"lies"
    async with room.imports as imports:
        await imports.load(CacheOption("local", {"src": "/c", "digest": digest}), room.step)
        assert await imports.find(KEY) is None
        store.blobs[digest] += b" "
        with pytest.raises(SampanError, match="is damaged"):
            await imports.load(CacheOption("local", {"src": "/c", "digest": digest}), room.step)
        with pytest.raises(NotFoundError, match="found none there"):
            await imports.load(CacheOption("local", {"src": "/c"}), room.step)


async def test_a_cache_at_a_registry_leaves_no_name_here(room: Room) -> None:
    tree = room.here.add("base")
    option = CacheOption("registry", {"ref": "registry.example/c", "mode": "max"})
    await room.exports.export(option, [tree], [CachedResult(KEY, (tree,))], (), room.step)
    name = "registry.example/c:latest"
    assert [pushed for pushed, _ in room.images.pushed] == [name]
    assert (room.images.created, room.images.tags) == ([], [])
    (manifest,) = room.images.targets
    assert manifest is not None

    config = room.here.blobs[json.loads(room.here.blobs[manifest.digest])["config"]["digest"]]
    assert parse_document(config, tree.layers, "x").results == {KEY: (tree,)}
    room.registry["registry.example/c"] = (config, tree.layers)
    async with room.imports as imports:
        await imports.load(CacheOption("registry", {"ref": "registry.example/c"}), room.step)
        assert await imports.find(KEY) == (tree,)
        with pytest.raises(NotFoundError):
            await imports.load(CacheOption("registry", {"ref": "elsewhere"}), room.step)


def stored(room: Room, blob: bytes, tar: bytes) -> Layer:
    """A layer with this blob, of which somebody says that this tar is in it."""
    room.here.blobs[Digest.of(blob)] = blob
    return Layer(Descriptor(OCI_LAYER_GZIP, Digest.of(blob), len(blob)), Digest.of(tar))


async def test_a_blob_that_is_said_to_be_a_layer_that_is_here_is_read(room: Room) -> None:
    true = stored(room, gzip.compress(b"tar"), b"tar")
    lie = stored(room, gzip.compress(b"another"), b"tar")
    damaged = stored(room, gzip.compress(b"tar")[:-9], b"tar")
    async with room.imports as imports:
        assert await imports.proven((Tree((true,)),), ())
        assert not await imports.proven((Tree((true, lie)),), ())
        assert not await imports.proven((Tree((damaged,)),), ())
        assert await imports.proven((Tree((lie,)),), (Tree((lie,)),)), "a step stands on what it stands on"
    assert not list((room.scratch).iterdir())


async def test_a_blob_is_read_once(room: Room) -> None:
    true = stored(room, gzip.compress(b"tar"), b"tar")
    await room.proofs.prove(Tree((true,)), ())
    room.here.blobs.clear()
    await room.proofs.prove(Tree((true,)), ())


def test_an_image_carries_its_own_cache() -> None:
    tree = Tree((layer("a"), layer("b")))
    (said,) = inline({"": tree}, [CachedResult(KEY, (tree,)), CachedResult(OTHER, (Tree((layer("c"),)),))]).values()
    assert json.loads(said)["records"] == [{"key": KEY, "outputs": [{"layers": [0, 1]}]}]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (CacheOption("gha"), "cache export of type gha is not supported"),
        (CacheOption("nosuch"), 'unknown cache exporter: "nosuch"'),
        (CacheOption("registry"), "cache registry needs ref"),
        (CacheOption("local"), "cache local needs dest"),
        (CacheOption("registry", {"ref": "a", "mode": "most"}), "invalid mode 'most'"),
        (CacheOption("registry", {"ref": "a", "colour": "red"}), "unknown attribute 'colour'"),
        (CacheOption("inline", {"ref": "a"}), "unknown attribute 'ref'"),
        (CacheOption("local", {"dest": "a", "compression": "estargz"}), "compression estargz"),
    ],
)
def test_exports_that_cannot_be(option: CacheOption, words: str) -> None:
    with pytest.raises(SampanError, match=words):
        check_export(option)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (CacheOption("s3"), "unknown cache importer: s3"),
        (CacheOption("registry"), "failed to configure registry cache importer: it needs ref"),
        (CacheOption("local"), "failed to configure local cache importer: it needs src"),
    ],
)
async def test_imports_that_cannot_be(room: Room, option: CacheOption, words: str) -> None:
    async with room.imports as imports:
        with pytest.raises(InvalidArgumentError, match=words):
            await imports.load(option, room.step)


class Telling(FakeStep):
    """One that says something."""

    def log(self, data: bytes, stream: int = 1) -> None:
        self.said.append(data.decode())


async def test_what_is_not_known_of_an_import_is_passed_over_and_said(room: Room) -> None:
    option, step = CacheOption("local", {"src": "a", "colour": "red"}), Telling()
    async with room.imports as imports:
        with pytest.raises(NotFoundError):
            await imports.load(option, step)
    assert step.said == ["attribute colour of a local cache is not known here, and passed over\n"]


def test_an_export_may_be_allowed_to_fail() -> None:
    assert ignores_errors(CacheOption("registry", {"ref": "a", "ignore-error": "true"}))
    assert not ignores_errors(CacheOption("registry", {"ref": "a"}))
    with pytest.raises(InvalidArgumentError):
        ignores_errors(CacheOption("registry", {"ignore-error": "perhaps"}))
