"""Results as images, archives and files."""

import base64
import gzip
import io
import json
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from buildd.exporters.attributes import parse_attributes
from buildd.exporters.config import Times, finish_config
from buildd.exporters.exporters import BuildExporters
from buildd.exporters.layers import LayerConverter
from buildd.exporters.protocol import Attestation, BuildResult
from buildd.protocol import FileWorker, Form, Tree, Trees
from buildd.session.clients import Clients
from buildd.session.protocol import Credentials, Sessions
from sampan.build.request import Export
from sampan.errors import InvalidArgumentError, NotFoundError, RemoteError, SampanError, UnimplementedError
from sampan.oci.descriptor import OCI_LAYER_GZIP, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.resource import image as images
from sampan.resource.transfer import PushPhase, PushProgress, PushStep
from sampan.tar.entry import Entry, EntryType
from sampan.tar.writer import TarWriter
from tests.fakes.build_sessions import FakeSession
from tests.fakes.build_stores import FakeFiles, FakeStep, FakeStore, layer

NOW = 1_700_000_000_123_456_789
AMD = Platform("linux", "amd64")
CONFIG = {
    "architecture": "amd64",
    "os": "linux",
    "config": {"Env": ["A=1"]},
    "history": [{"created_by": "FROM"}, {"created_by": "RUN"}, {"created_by": "ENV A=1", "empty_layer": True}],
}


@dataclass
class FakeImages:
    """Satisfies ``exporters.content.Images``."""

    created: list[tuple[str, Descriptor, str]] = field(default_factory=list)
    tags: list[tuple[str, str]] = field(default_factory=list)
    pushed: list[tuple[str, images.Credentials | None]] = field(default_factory=list)
    failure: SampanError | None = None
    refusal: SampanError | None = None  # of the registry
    known: dict[str, Any] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)

    async def get(self, image: str, *, manifests: bool = False) -> Any:
        if image not in self.known:
            raise NotFoundError(f"No such image: {image}")
        return self.known[image]

    async def remove(self, image: str, *, no_prune: bool = False, **more: object) -> Any:
        assert no_prune
        assert not more
        self.removed.append(image)

    @asynccontextmanager
    async def kept(self, *leases: str) -> AsyncIterator[str]:
        assert not leases
        yield "lease"

    async def create(
        self, reference: str, target: Descriptor, lease: str, platform: Platform | None = None, parent: str = ""
    ) -> images.NamedImage:
        assert (platform, parent) == (None, "")
        if self.failure is not None:
            raise self.failure
        self.created.append((reference, target, lease))
        return cast("images.NamedImage", None)

    async def tag(self, image: str, reference: str) -> None:
        self.tags.append((image, reference))

    async def push(
        self, reference: str, credentials: images.Credentials | None = None, platform: Platform | None = None
    ) -> AsyncGenerator[PushProgress, None]:
        assert platform is None
        self.pushed.append((reference, credentials))
        if self.refusal is not None:
            raise self.refusal
        yield PushStep(Digest.of(b"l"), PushPhase.PUSHING, 1, 2)
        yield PushStep(Digest.of(b"l"), PushPhase.PUSHED, 2, 2)


class Room:
    """Exporters on fakes."""

    def __init__(self, scratch: Path) -> None:
        self.store, self.images, self.files, self.session = (
            FakeStore(),
            FakeImages(),
            FakeFiles(),
            FakeSession(stores={"export": {}}),
        )
        self.step = FakeStep()
        self.made_ready: list[Tree] = []
        self.exporters = BuildExporters(
            self.store,
            self.images,
            cast("Trees", self),
            cast("FileWorker", self.files),
            LayerConverter(self.store, cast("FileWorker", self.files), scratch),
            Clients(cast("Sessions", self)),
            lambda: NOW,
        )

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


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


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


async def test_an_image_gets_its_names_when_all_of_it_is_there(room: Room) -> None:
    tree = room.store.add("base", "run")
    told = await room.export(one(tree), "moby", name="docker.io/library/one:1,two")

    ((name, target, lease),) = room.images.created
    assert (name, lease) == ("docker.io/library/one:1", "lease")
    assert room.images.tags == [("docker.io/library/one:1", "docker.io/library/two:latest")]
    manifest = room.json(target.digest)
    assert [each["digest"] for each in manifest["layers"]] == [each.descriptor.digest for each in tree.layers]
    config = room.json(manifest["config"]["digest"])
    assert config["rootfs"] == {"type": "layers", "diff_ids": [each.diff_id for each in tree.layers]}
    assert config["config"] == {"Env": ["A=1"]}
    assert told["containerimage.digest"] == target.digest
    assert told["containerimage.config.digest"] == manifest["config"]["digest"]
    assert told["image.name"] == "docker.io/library/one:1,docker.io/library/two:latest"
    described = json.loads(base64.b64decode(told["containerimage.descriptor"]))
    assert (described["digest"], described["annotations"]["config.digest"]) == (
        target.digest,
        manifest["config"]["digest"],
    )
    assert set(room.store.kept_by.values()) == {"lease"}
    assert room.step.said == [
        "exporting layers",
        f"writing image {manifest['config']['digest']}",
        "naming to docker.io/library/one:1",
        "naming to docker.io/library/two:latest",
    ]


async def test_several_platforms_make_an_index(room: Room) -> None:
    trees = {"linux/amd64": room.store.add("a"), "linux/arm64": room.store.add("b", "c")}
    told = await room.export(several(trees), "image", name="x", **{"annotation-index.k": "v", "annotation.m": "n"})
    index = room.json(told["containerimage.digest"])
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert index["annotations"] == {"k": "v"}
    assert [each["platform"] for each in index["manifests"]] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux"},
    ]
    for entry, tree in zip(index["manifests"], trees.values(), strict=True):
        manifest = room.json(entry["digest"])
        assert manifest["annotations"] == {"m": "n"}
        assert len(manifest["layers"]) == len(tree.layers)
    assert "containerimage.config.digest" not in told


async def test_dockers_media_types_if_they_are_asked_for(room: Room) -> None:
    told = await room.export(one(room.store.add("a")), "image", oci_mediatypes="false")
    manifest = room.json(told["containerimage.digest"])
    assert manifest["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert manifest["layers"][0]["mediaType"] == "application/vnd.docker.image.rootfs.diff.tar.gzip"
    assert manifest["config"]["mediaType"] == "application/vnd.docker.container.image.v1+json"


async def test_an_image_without_a_name_may_be_dangling(room: Room) -> None:
    await room.export(one(room.store.add("a")), "moby")
    assert room.images.created[0][0] == ""


async def test_a_push_uses_the_clients_credentials(room: Room) -> None:
    room.session.logins = {"registry.example": Credentials("u", "p"), "registry-1.docker.io": Credentials("", "t")}
    await room.export(one(room.store.add("a")), "image", name="registry.example/x:1,y", push="true")
    assert room.images.pushed == [
        ("registry.example/x:1", images.Credentials("u", "p")),
        ("docker.io/library/y:latest", images.Credentials(identity_token="t")),
    ]


async def test_a_push_that_fails_names_what_was_pushed(room: Room) -> None:
    room.images.refusal = RemoteError("no such host")
    with pytest.raises(RemoteError, match=r"^failed to push r\.example/x:1: no such host$"):
        await room.export(one(room.store.add("a")), "image", name="r.example/x:1", push="true")


async def test_what_is_missing_is_said_and_nothing_is_named(room: Room) -> None:
    room.images.failure = NotFoundError("content sha256:… is not here")
    with pytest.raises(NotFoundError):
        await room.export(one(Tree((layer("gone"),))), "moby", name="x")
    assert not room.images.tags


async def test_an_archive_is_a_layout_that_docker_can_load(room: Room) -> None:
    tree = room.store.add("base", "run")
    told = await room.export(one(tree), "docker", name="one:1")
    data, metadata = room.session.files["0"]
    assert metadata == told
    files = unpacked(data)

    def read(name: str) -> Any:
        return json.loads(files[name])

    assert read("oci-layout") == {"imageLayoutVersion": "1.0.0"}
    (loadable,) = read("manifest.json")
    assert loadable["RepoTags"] == ["one:1"]
    assert read(loadable["Config"])["rootfs"]["diff_ids"] == [each.diff_id for each in tree.layers]
    (entry,) = read("index.json")["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == "docker.io/library/one:1"
    names = set(files)
    assert {f"blobs/sha256/{each.descriptor.digest.hex}" for each in tree.layers} <= names
    assert f"blobs/sha256/{entry['digest'].removeprefix('sha256:')}" in names
    assert not room.images.created


async def test_an_oci_archive_has_nothing_of_dockers_and_may_have_several_platforms(room: Room) -> None:
    trees = {"linux/amd64": room.store.add("a"), "linux/arm64": room.store.add("b")}
    await room.export(several(trees), "oci")
    names = unpacked(room.session.files["0"][0])
    assert "manifest.json" not in names
    assert len([name for name in names if name.startswith("blobs/sha256/")]) == 2 + 2 + 2 + 1
    with pytest.raises(UnimplementedError, match="manifest lists"):
        await room.export(several(trees), "docker")


async def test_an_oci_layout_goes_to_the_clients_own_store(room: Room) -> None:
    told = await room.export(one(room.store.add("a")), "oci", tar="false")
    written = room.session.stores["export"]
    assert told["containerimage.digest"] in written
    assert list(written)[-1] == told["containerimage.digest"], "what refers to others comes last"
    assert not room.session.files


async def test_files_go_as_they_are_or_by_platform(room: Room, tmp_path: Path) -> None:
    room.files.place = tmp_path
    assert await room.export(one(room.store.add("a")), "tar") == {}
    assert room.session.files["0"][0] == b"tar of all;"
    both = several({"linux/amd64": Tree(), "linux/arm64": Tree()})
    await room.export(both, "local")
    assert sorted(room.session.trees["0"]) == ["linux_amd64", "linux_arm64"]
    with pytest.raises(InvalidArgumentError, match="overwrite"):
        await room.export(both, "local", platform_split="false")


@pytest.mark.parametrize(
    ("kind", "attributes", "words"),
    [
        ("nonsense", {}, "exporter 'nonsense' could not be found"),
        ("image", {"colour": "red"}, "unknown attribute 'colour' of exporter image"),
        ("image", {"push": "true"}, "can't push without a name"),
        ("image", {"push": "maybe"}, "maybe"),
        ("image", {"name": "UPPER"}, "invalid reference format"),
        ("image", {"name": "a@sha256:" + "0" * 64}, "cannot have a digest"),
    ],
)
def test_what_has_no_effect_is_refused_by_name(kind: str, attributes: dict[str, str], words: str) -> None:
    with pytest.raises(SampanError, match=words):
        parse_attributes(kind, attributes)


def test_an_annotation_may_be_for_one_platform() -> None:
    said = parse_attributes("image", {"annotation[linux/amd64].a": "1", "annotation-manifest.b": "2"})
    assert said.annotations_on("manifest", AMD) == {"a": "1", "b": "2"}
    assert said.annotations_on("manifest", Platform("linux", "s390x")) == {"b": "2"}


def lines(tree: Tree, history: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    made = json.loads(finish_config(json.dumps({**CONFIG, "history": history}).encode(), tree, AMD, Times(NOW)))
    return [(line.get("created_by", line.get("comment")), bool(line.get("empty_layer"))) for line in made["history"]]


def test_a_step_that_changed_nothing_has_a_line_and_no_layer() -> None:
    steps = [{"created_by": name} for name in "abcd"]
    tree = Tree((layer("a"), layer("c")), unchanged=(1, 2))
    assert lines(tree, steps) == [("a", False), ("b", True), ("c", False), ("d", True)]
    assert lines(Tree((), unchanged=(0,)), steps[:1]) == [("a", True)]


def test_history_always_counts_the_layers() -> None:
    two = Tree((layer("a"), layer("b")))
    assert lines(two, []) == [("buildkit.exporter.image.v0", False)] * 2
    assert lines(two, [{"created_by": name} for name in "abc"]) == [("a", False), ("b", False), ("c", True)]


def test_a_graph_without_a_config_gets_one() -> None:
    made = json.loads(finish_config(b"", Tree((layer("a"),)), AMD, Times(NOW)))
    assert (made["architecture"], made["os"], made["created"]) == ("amd64", "linux", "2023-11-14T22:13:20.123456789Z")
    with pytest.raises(SampanError):
        finish_config(b"[]", Tree(), AMD, Times(NOW))


def test_an_inline_cache_replaces_the_base_images() -> None:
    said = json.dumps({**CONFIG, "moby.buildkit.cache.v0": "old"}).encode()
    assert "moby.buildkit.cache.v0" not in json.loads(finish_config(said, Tree(), AMD, Times(NOW)))
    made = json.loads(finish_config(said, Tree(), AMD, Times(NOW), b"new"))
    assert base64.b64decode(made["moby.buildkit.cache.v0"]) == b"new"


def test_a_line_has_the_time_of_its_layer_and_the_image_that_of_the_last() -> None:
    base, first, second = map(layer, "abc")
    steps = [
        {"created_by": "FROM", "created": "2020-01-01T00:00:00Z"},
        {"created_by": "ENV", "empty_layer": True},
        {"created_by": "RUN"},
        {"created_by": "CMD", "empty_layer": True},
        {"created_by": "COPY"},
    ]
    said = json.dumps({**CONFIG, "history": steps}).encode()
    times = Times(NOW, {first.diff_id: 10**9, second.diff_id: 2 * 10**9})
    made = json.loads(finish_config(said, Tree((base, first, second)), AMD, times))
    one, two = "1970-01-01T00:00:01.000000000Z", "1970-01-01T00:00:02.000000000Z"
    assert [line["created"] for line in made["history"]] == ["2020-01-01T00:00:00Z", one, one, one, two]
    assert made["created"] == two
    assert finish_config(said, Tree((base, first, second)), AMD, Times(NOW + 1, times.made_ns)) == finish_config(
        said, Tree((base, first, second)), AMD, times
    ), "the same image, whenever it is built again"


def layer_of(*names: str, mtime_ns: int = NOW) -> bytes:
    """Return the tar of a layer."""
    data = bytearray()
    writer = TarWriter(data.extend)
    for name in names:
        writer.add(Entry(name.encode(), EntryType.FILE, 0o644, 0, 0, 4, mtime_ns))
        writer.data(b"data")
    writer.close()
    return bytes(data)


def stored(room: Room, *tars: bytes) -> Tree:
    """Put layers as freezing a step's files does."""
    layers = []
    for tar in tars:
        blob = gzip.compress(tar, mtime=0)
        room.store.blobs[Digest.of(blob)] = blob
        layers.append(images.Layer(Descriptor(OCI_LAYER_GZIP, Digest.of(blob), len(blob)), Digest.of(tar)))
    return Tree(tuple(layers))


async def test_layers_made_here_are_compressed_as_is_asked_for(room: Room) -> None:
    tree = stored(room, layer_of("base"), layer_of("own"))
    result = replace(one(tree), taken=frozenset((tree.layers[0].diff_id,)))
    for compression, kind in (("zstd", "+zstd"), ("uncompressed", "")):
        told = await room.export(result, "image", compression=compression)
        base, own = room.json(told["containerimage.digest"])["layers"]
        assert base["digest"] == tree.layers[0].descriptor.digest
        assert own["mediaType"] == f"application/vnd.oci.image.layer.v1.tar{kind}"
        assert own["digest"] in room.store.blobs
        config = room.json(told["containerimage.config.digest"])
        assert config["rootfs"]["diff_ids"] == [layer.diff_id for layer in tree.layers]
    assert room.store.blobs[own["digest"]] == layer_of("own")
    told = await room.export(result, "image", compression="zstd", force_compression="true", oci_mediatypes="false")
    manifest = room.json(told["containerimage.digest"])
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"  # Docker's have no type for it
    assert {each["mediaType"] for each in manifest["layers"]} == {"application/vnd.oci.image.layer.v1.tar+zstd"}


async def test_a_layer_is_converted_once(room: Room) -> None:
    result = one(stored(room, layer_of("own")))
    first = await room.export(result, "image", compression="gzip", compression_level="1")
    second = await room.export(result, "image", compression="gzip", compression_level="1")
    assert first["containerimage.digest"] == second["containerimage.digest"]
    assert room.files.converted == [Form("gzip", 1)]
    (layer,) = room.json(first["containerimage.digest"])["layers"]
    del room.store.blobs[layer["digest"]]
    await room.export(result, "image", compression="gzip", compression_level="1")
    assert layer["digest"] in room.store.blobs


async def test_times_end_at_the_epoch_but_for_the_base_image_s(room: Room) -> None:
    tree = stored(room, layer_of("base"), layer_of("own"), layer_of("old", mtime_ns=5 * 10**9))
    base = {"rootfs": {"diff_ids": [tree.layers[0].diff_id]}, "history": [{"created_by": "FROM"}]}
    result = one(tree, {**CONFIG, "created": "2030-01-01T00:00:00Z"})
    result = replace(result, metadata={**result.metadata, "containerimage.base.config": json.dumps(base).encode()})
    told = await room.export(result, "image", rewrite_timestamp="true", source_date_epoch="1000")
    first, own, old = room.json(told["containerimage.digest"])["layers"]
    assert first["digest"] == tree.layers[0].descriptor.digest
    assert gzip.decompress(room.store.blobs[own["digest"]]) == layer_of("own", mtime_ns=1000 * 10**9)
    assert gzip.decompress(room.store.blobs[old["digest"]]) == layer_of("old", mtime_ns=5 * 10**9)
    config = room.json(told["containerimage.config.digest"])
    assert config["created"] == "1970-01-01T00:16:40Z"
    assert config["rootfs"]["diff_ids"][1] == Digest.of(layer_of("own", mtime_ns=1000 * 10**9))
    assert {line["created"] for line in config["history"][1:]} == {"1970-01-01T00:16:40Z"}


async def test_an_image_is_pushed_by_its_digest_alone(room: Room) -> None:
    told = await room.export(one(room.store.add("a")), "image", name="r.example/a", push="true", push_by_digest="true")
    name = f"r.example/a@{told['containerimage.digest']}"
    assert [pushed for pushed, _ in room.images.pushed] == [name]
    assert [each[0] for each in room.images.created] == [name]
    assert told["image.name"] == "r.example/a"
    with pytest.raises(InvalidArgumentError, match=r"can't push tagged ref r\.example/a:1 by digest"):
        parse_attributes("image", {"name": "r.example/a:1", "push-by-digest": "true"})


async def test_what_is_not_to_be_stored_is_pushed_all_the_same(room: Room) -> None:
    await room.export(one(room.store.add("a")), "image", name="r.example/a:1,r.example/b", push="true", store="false")
    names = ["r.example/a:1", "r.example/b:latest"]
    assert [pushed for pushed, _ in room.images.pushed] == names
    assert room.images.removed == names
    await room.export(one(room.store.add("a")), "image", name="r.example/a:1", store="false")
    assert room.images.removed == names
    assert len(room.images.created) == 2


async def test_names_with_digests_are_added(room: Room) -> None:
    told = await room.export(one(room.store.add("a")), "image", name="a:1", name_canonical="true",
                             dangling_name_prefix="dangling")  # fmt: skip
    digest = told["containerimage.digest"]
    assert [each[0] for each in room.images.created] == [
        "docker.io/library/a:1", f"docker.io/library/a@{digest}", f"dangling@{digest}"
    ]  # fmt: skip
    assert told["image.name"] == f"docker.io/library/a:1,dangling@{digest}"


@pytest.mark.parametrize(
    ("attributes", "kind", "words"),
    [
        ({"compression": "estargz"}, UnimplementedError, "compression estargz"),
        ({"compression": "lzma"}, InvalidArgumentError, 'unsupported layer compression type "lzma"'),
        ({"compression-level": "10"}, InvalidArgumentError, "from 0 to 9"),
        ({"compression": "zstd", "compression-level": "high"}, InvalidArgumentError, "compression-level 'high'"),
        ({"source-date-epoch": "now"}, InvalidArgumentError, "invalid SOURCE_DATE_EPOCH: now"),
    ],
)
def test_a_form_that_layers_cannot_have_is_refused(
    attributes: Mapping[str, str], kind: type[SampanError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        parse_attributes("image", attributes)


def attested(inline_only: bool) -> BuildResult:
    said = Attestation("https://slsa.dev/provenance/v1", b'{"a": 1}', "provenance.json", inline_only=inline_only)
    return replace(one(Tree()), attestations={"": (said,)})


async def test_an_attested_image_is_an_index_with_a_statement(room: Room) -> None:
    told = await room.export(attested(inline_only=True), "image", name="r.example/a:1")
    made, said = room.json(told["containerimage.digest"])["manifests"]
    manifest = room.json(said["digest"])
    assert manifest["subject"]["digest"] == made["digest"]
    assert manifest["artifactType"] == "application/vnd.docker.attestation.manifest.v1+json"
    (layer,) = manifest["layers"]
    statement = room.json(layer["digest"])
    assert statement["subject"][0]["name"].startswith("pkg:docker/r.example/a@1?platform=linux%2F")
    assert statement["subject"][0]["digest"] == {"sha256": made["digest"].partition(":")[2]}
    assert statement["predicate"] == {"a": 1}
    told = await room.export(attested(inline_only=True), "image", oci_artifact="false")
    _, said = room.json(told["containerimage.digest"])["manifests"]
    config = room.json(room.json(said["digest"])["config"]["digest"])
    assert config["architecture"] == "unknown"
    assert config["rootfs"]["diff_ids"]
    with pytest.raises(InvalidArgumentError, match='cannot export attestations with "oci-mediatypes=false"'):
        await room.export(attested(inline_only=False), "image", oci_mediatypes="false")


async def test_what_is_for_images_alone_makes_nothing_else_an_index(room: Room) -> None:
    for kind in ("moby", "oci"):
        told = await room.export(attested(inline_only=True), kind)
        assert "layers" in room.json(told["containerimage.digest"])
    with pytest.raises(UnimplementedError, match="does not currently support exporting manifest lists"):
        await room.export(attested(inline_only=False), "docker")
