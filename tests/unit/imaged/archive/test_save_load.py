"""Images to archives and back: what is written, what is read, and what is refused."""

import asyncio
import gzip
import io
import json
import random
import tarfile
from collections.abc import AsyncIterator

import pytest

from sampan.errors import DataLossError, InvalidArgumentError, NotFoundError, SampanError, UnimplementedError
from sampan.oci.descriptor import OCI_LAYER, OCI_LAYER_GZIP
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from tests.fakes.registry import FakeRegistry
from tests.support.images import OCI_INDEX, Entry, Image, descriptor, layer, sha256, tar
from tests.unit.imaged.archives import (
    archive,
    blob,
    contents,
    docker_archive,
    dump,
    index_of,
    link,
    load,
    loader,
    oci_layout,
    save,
)
from tests.unit.imaged.parts import Parts

SMALL = tar(Entry("hello", b"hello"))
LARGE = tar(Entry("noise", random.Random(7).randbytes(3_000_000)))
IMAGE = Image([layer(SMALL), layer(LARGE)], {"Cmd": ["sh"]})
PLAIN = Image([layer(SMALL, "none"), layer(LARGE, "none")], {"Cmd": ["sh"]})


async def nothing_left(parts: Parts) -> None:
    """Check that no content and no lease is there."""
    assert parts.blobs() == set()
    assert parts.leftovers() == []
    leases = await parts.store.read(lambda db: db.execute("SELECT count(*) FROM leases").fetchone()[0])
    assert leases == 0


@pytest.mark.parametrize("files", [docker_archive(IMAGE), docker_archive(PLAIN), oci_layout(IMAGE)])
async def test_an_image_keeps_its_id(parts: Parts, files: dict[str, bytes]) -> None:
    (loaded,) = await load(parts, archive(files))
    image = await parts.images.get("web:1")
    assert image.record.id == loaded.image_id == IMAGE.id
    assert [each.diff_id for each in image.record.layers] == [sha256(SMALL), sha256(LARGE)]
    assert image.config.run.cmd == ("sh",)
    assert parts.leftovers() == []


async def test_a_layout_keeps_its_manifest(parts: Parts) -> None:
    await load(parts, archive(oci_layout(IMAGE)))
    assert (await parts.images.get("web:1")).record.manifest.digest == sha256(IMAGE.manifest())


async def test_what_is_saved_is_an_archive_and_a_layout(parts: Parts, registry: FakeRegistry) -> None:
    fetched = await parts.pull_image(registry, "web", "1", b"content" * 1000)
    name = f"{registry.address}/web:1"
    with tarfile.open(fileobj=io.BytesIO(await save(parts, name))) as saved:
        files = {member.name: saved.extractfile(member) for member in saved if member.isfile()}
        read = {path: file.read() for path, file in files.items() if file is not None}
    (entry,) = json.loads(read["index.json"])["manifests"]
    assert entry["digest"] == fetched.manifest.digest
    assert entry["annotations"]["io.containerd.image.name"] == name
    (item,) = json.loads(read["manifest.json"])
    assert item["RepoTags"] == [name]
    assert item["Config"] == f"blobs/sha256/{fetched.image_id.hex}"
    assert all(sha256(content)[7:] == path.rpartition("/")[2] for path, content in read.items() if "blobs" in path)


async def test_a_saved_image_is_the_same_after_it_was_removed(parts: Parts, registry: FakeRegistry) -> None:
    fetched = await parts.pull_image(registry, "web", "1", b"content" * 1000)
    name = f"{registry.address}/web:1"
    saved = await save(parts, name)
    await parts.images.remove(name, force=False, in_use=())
    await nothing_left(parts)
    await load(parts, saved)
    record = (await parts.images.get(name)).record
    assert (record.id, record.manifest) == (fetched.image_id, fetched.manifest)
    assert await save(parts, name) == saved


async def test_names_go_with_what_was_named(parts: Parts) -> None:
    await load(parts, archive(docker_archive(PLAIN, ["web:1", "web:2", "other:1"])))
    image = (await parts.images.get("web:1")).record.id

    async def tags(*wanted: str) -> list[str] | None:
        with tarfile.open(fileobj=io.BytesIO(await save(parts, *wanted))) as saved:
            file = saved.extractfile("manifest.json")
            assert file is not None
            (item,) = json.load(file)
            found: list[str] | None = item["RepoTags"]
            return found

    assert await tags("web:1") == ["web:1"]
    assert await tags("web") == ["web:1", "web:2"]
    assert await tags("other:1", "web:2") == ["other:1", "web:2"]
    assert await tags(image) is None


async def test_saving_what_is_not_there_is_refused(parts: Parts) -> None:
    with pytest.raises(NotFoundError, match="No such image: nonesuch:latest"):
        await save(parts, "nonesuch")


async def test_a_damaged_blob_is_found_while_it_is_saved(parts: Parts) -> None:
    await load(parts, archive(docker_archive(PLAIN)))
    path = parts.content.path(Digest(sha256(LARGE)))
    path.write_bytes(bytes(len(LARGE)))
    with pytest.raises(DataLossError, match=sha256(LARGE)):
        await save(parts, "web:1")


async def test_layers_that_are_here_are_not_stored_again(parts: Parts) -> None:
    await load(parts, archive(oci_layout(IMAGE)))
    before = parts.blobs()
    other = Image([layer(LARGE, "none")], {"Cmd": ["other"]})
    await load(parts, archive(docker_archive(other, ["other:1"])))
    image = await parts.images.get("other:1")
    assert image.record.layers[0].descriptor.media_type != OCI_LAYER
    assert parts.blobs() - before == {image.record.id, image.record.manifest.digest}


async def test_an_image_that_is_here_stays_as_it_is(parts: Parts) -> None:
    await load(parts, archive(oci_layout(IMAGE)))
    before, blobs = (await parts.images.get("web:1")).record, parts.blobs()
    await load(parts, archive(docker_archive(PLAIN, ["again:1"])))
    after = (await parts.images.get("again:1")).record
    assert (after.id, after.manifest, after.layers) == (before.id, before.manifest, before.layers)
    assert parts.blobs() == blobs


async def test_several_images_and_links_and_packed_archives(parts: Parts) -> None:
    first, second = Image([layer(LARGE, "none")], {"Cmd": ["1"]}), Image([layer(LARGE, "none")], {"Cmd": ["2"]})
    files: dict[str, bytes | tarfile.TarInfo] = {
        "a/layer.tar": LARGE,
        "b/layer.tar": link("../a/layer.tar"),
        "1.json": first.config_blob(),
        "2.json": second.config_blob(),
        "manifest.json": dump(
            [
                {"Config": "1.json", "RepoTags": ["one:1"], "Layers": ["a/layer.tar"]},
                {"Config": "2.json", "RepoTags": None, "Layers": ["b/layer.tar"]},
            ]
        ),
    }
    loaded = await load(parts, gzip.compress(archive(files)))
    assert [one.image_id for one in loaded] == [first.id, second.id]
    assert [one.references != () for one in loaded] == [True, False]


@pytest.mark.parametrize("name", ["config.json", "a/b/config.json"])
async def test_links_lead_from_where_they_are(parts: Parts, name: str) -> None:
    files = docker_archive(PLAIN, Config=name)
    files["real.json"] = files.pop("config.json")
    files[name] = link("../" * name.count("/") + "real.json")
    (loaded,) = await load(parts, archive(files))
    assert loaded.image_id == PLAIN.id


async def test_packed_layers_keep_their_form(parts: Parts) -> None:
    (loaded,) = await load(parts, archive(docker_archive(IMAGE)))
    assert [each.descriptor.media_type for each in loaded.layers] == [OCI_LAYER_GZIP, OCI_LAYER_GZIP]


async def test_an_index_in_an_index_gives_the_platform_s_image(parts: Parts) -> None:
    arm = Image([layer(tar(Entry("arm", b"1")), "none")], oci=True, architecture="arm64")
    amd = Image([layer(tar(Entry("amd", b"1")), "none")], oci=True)
    entries = [
        {
            **descriptor(image.media_type, image.manifest(), len(image.manifest())),
            "platform": {"os": "linux", "architecture": image.architecture},
        }
        for image in (arm, amd)
    ]
    inner = dump({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    annotations = {"org.opencontainers.image.ref.name": "docker.io/library/multi:1"}
    outer = index_of([{**descriptor(OCI_INDEX, inner, len(inner)), "annotations": annotations}])
    files = {**outer, blob(inner): inner, **contents(arm), **contents(amd)}
    await load(parts, archive(files), Platform("linux", "arm64"))
    image = (await parts.images.get("multi:1")).record
    assert (image.id, image.target.digest) == (arm.id, sha256(inner))
    await load(parts, archive({**outer, blob(inner): inner, **contents(amd)}))
    assert (await parts.images.get("multi:1")).record.id == amd.id
    with pytest.raises(NotFoundError, match="no matching manifest for linux/s390x"):
        await load(parts, archive(files), Platform("linux", "s390x"))


async def test_the_layout_from_before_docker_1_10_is_read(parts: Parts) -> None:
    base, top = "a" * 64, "b" * 64
    files = {
        f"{top}/VERSION": b"1.0",
        f"{top}/json": dump({"id": top, "parent": base, "config": {"Cmd": ["sh"]}, "created": "2015-01-01T00:00:00Z"}),
        f"{top}/layer.tar": LARGE,
        f"{base}/VERSION": b"1.0",
        f"{base}/json": dump({"id": base, "container_config": {"Cmd": ["ADD", "x"]}}),
        f"{base}/layer.tar": SMALL,
        "repositories": dump({"old": {"1": top}}),
    }
    await load(parts, archive(files))
    image = await parts.images.get("old:1")
    assert [each.diff_id for each in image.record.layers] == [sha256(SMALL), sha256(LARGE)]
    assert image.config.run.cmd == ("sh",)
    assert [step.created_by for step in image.config.history] == ["ADD x", ""]
    del files["repositories"]
    (loaded,) = await load(parts, archive(files))
    assert loaded.references == ()


CUT = archive(docker_archive(PLAIN))
BAD: dict[str, tuple[bytes, type[SampanError], str]] = {
    "cut short": (CUT[: len(CUT) // 2], InvalidArgumentError, "ends in the middle of a file"),
    "packed and cut short": (gzip.compress(CUT)[:-100_000], InvalidArgumentError, "ends too early"),
    "no tar": (b"this is no archive at all" * 1000, InvalidArgumentError, "not an archive of images: tar"),
    "nothing": (b"", InvalidArgumentError, "not an archive of images"),
    "zeros": (bytes(1 << 20), InvalidArgumentError, "not an archive of images"),
    "a root file system": (archive({"etc/passwd": b"root"}), InvalidArgumentError, "is taken by `import`"),
    "a way out": (archive({"../../etc/passwd": b"x"}), InvalidArgumentError, "'../../etc/passwd' leads out"),
    "an absolute name": (archive({"/etc/passwd": b"x"}), InvalidArgumentError, "'/etc/passwd' leads out"),
    "a link out": (archive({"a/b": link("../../c")}), InvalidArgumentError, "leads out of the archive"),
    "a layer that is not there": (
        archive({k: v for k, v in docker_archive(PLAIN).items() if k != "1/layer.tar"}),
        InvalidArgumentError,
        "manifest.json names '1/layer.tar', which is not in the archive",
    ),
    "a config that is not there": (
        archive(docker_archive(PLAIN, Config="../up.json")),
        InvalidArgumentError,
        "'../up.json', which is not inside the archive",
    ),
    "too few layers": (archive(docker_archive(PLAIN, Layers=[])), InvalidArgumentError, "lists 0 layers .* 2 diff IDs"),
    "another layer": (
        archive({**docker_archive(PLAIN), "1/layer.tar": SMALL}),
        DataLossError,
        f"layer '1/layer.tar' has the digest {sha256(SMALL)}",
    ),
    "no JSON": (archive({"manifest.json": b"{"}), InvalidArgumentError, "manifest.json is not JSON"),
    "no list": (archive({"manifest.json": b"{}"}), InvalidArgumentError, "manifest.json is not a list of images"),
    "no images": (archive({"manifest.json": b"[]"}), InvalidArgumentError, "manifest.json lists no images"),
    "a bad name": (archive(docker_archive(PLAIN, ["Web:1"])), InvalidArgumentError, "must be lowercase"),
    "a digest for a tag": (
        archive(docker_archive(PLAIN, [f"web@{sha256(b'')}"])),
        InvalidArgumentError,
        "holds a digest where a tag belongs",
    ),
    "a blob of another digest": (
        archive({**oci_layout(PLAIN), blob(LARGE): bytes(len(LARGE))}),
        DataLossError,
        f"'{blob(LARGE)}' is damaged",
    ),
    "a layout without a manifest": (
        archive({k: v for k, v in oci_layout(PLAIN).items() if k != blob(PLAIN.manifest())}),
        InvalidArgumentError,
        f"index.json names '{blob(PLAIN.manifest())}', which is not in the archive",
    ),
    "a layout without a layer": (
        archive({k: v for k, v in oci_layout(PLAIN).items() if k != blob(LARGE)}),
        InvalidArgumentError,
        f"'{blob(LARGE)}', which is not in the archive",
    ),
    "too many names": (
        archive(docker_archive(PLAIN, [f"web:{number}" for number in range(4097)])),
        InvalidArgumentError,
        "the archive gives 4097 names, the most is 4096",
    ),
    "too many images": (
        archive({"manifest.json": dump([{"Config": "c", "RepoTags": [], "Layers": []}] * 4097)}),
        InvalidArgumentError,
        "lists 4097 images, the most is 4096",
    ),
    "xz": (
        archive({**docker_archive(PLAIN), "1/layer.tar": b"\xfd7zXZ\0" + bytes(100)}),
        UnimplementedError,
        "packed with xz",
    ),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_archive_is_refused_by_name_and_leaves_nothing(parts: Parts, case: str) -> None:
    data, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        await load(parts, data)
    await nothing_left(parts)


async def test_a_name_that_is_given_twice_is_one(parts: Parts) -> None:
    (loaded,) = await load(parts, archive(docker_archive(PLAIN, ["web:1", "docker.io/library/web:1", "web:1"])))
    assert [each.familiar for each in loaded.references] == ["web:1"]


async def test_two_images_of_one_name_are_refused(parts: Parts) -> None:
    first, second = Image([layer(LARGE, "none")], {"Cmd": ["1"]}), Image([layer(LARGE, "none")], {"Cmd": ["2"]})
    files = {"l": LARGE, "1.json": first.config_blob(), "2.json": second.config_blob()}
    files["manifest.json"] = dump([{"Config": f"{n}.json", "RepoTags": ["web:1"], "Layers": ["l"]} for n in (1, 2)])
    with pytest.raises(InvalidArgumentError, match="gives the name web:1 to two images"):
        await load(parts, archive(files))
    await nothing_left(parts)


async def test_an_image_for_another_system_is_refused(parts: Parts) -> None:
    config = dump({"os": "windows", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}})
    files = {"c": config, "manifest.json": dump([{"Config": "c", "RepoTags": [], "Layers": []}])}
    with pytest.raises(UnimplementedError, match='image operating system "windows" cannot be used'):
        await load(parts, archive(files))
    await nothing_left(parts)


async def test_endless_zeros_are_not_read_to_their_end(parts: Parts) -> None:
    taken = 0

    async def zeros() -> AsyncIterator[bytes]:
        nonlocal taken
        while taken < 100 << 20:
            taken += 1 << 20
            yield bytes(1 << 20)

    with pytest.raises(InvalidArgumentError):
        await loader(parts).run(zeros())
    assert taken < 10 << 20


async def test_a_load_that_is_cancelled_leaves_nothing(parts: Parts) -> None:
    reached = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield CUT[: len(CUT) // 2]
        reached.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(loader(parts).run(stuck()))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await nothing_left(parts)


async def test_load_that_is_killed_holds_nothing_for_longer_than_it_lives(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [Image([layer(tar(Entry(name, b"1")))]) for name in ("one", "two")]
    data = archive(
        {
            **{path: content for each in images for path, content in contents(each).items()},
            **index_of([descriptor(each.media_type, each.manifest(), len(each.manifest())) for each in images]),
        }
    )
    kept: list[str] = []

    async def put(content: bytes, media_type: str, lease: str) -> object:
        if lease not in kept:
            kept.append(lease)
        if len(kept) == 2:
            raise ConnectionResetError  # as if killed: what undoes is never run
        return await original(content, media_type, lease)

    async def never(lease: str) -> None:
        del lease

    original = parts.content.put
    monkeypatch.setattr(parts.content, "put", put)
    monkeypatch.setattr(parts.leases, "let_go", never)
    with pytest.raises(ConnectionResetError):
        await load(parts, data)
    assert len(kept) == 2
    await parts.leases.recover()
    await parts.content.recover()
    assert parts.blobs() == set()
