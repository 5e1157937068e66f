"""Indexes: everything of one that is here stays, and leaves, together; document bytes are never touched."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from imaged.archive.save import Saver
from imaged.images.index import Tree
from imaged.images.platform_removal import remove_platform
from imaged.push.metrics import PushMetrics
from imaged.push.push import Pusher, UploadMeans
from imaged.registry.auth import Tokens
from imaged.registry.endpoints import Endpoints
from imaged.registry.retry import RetryPolicy
from imaged.registry.source import Sources
from imaged.registry.transport import Transport
from sampan.errors import ConflictError, DataLossError, NotFoundError
from sampan.oci.platform import Platform
from sampan.oci.reference import parse_reference
from sampan.resource.image import ANONYMOUS, ImageUse
from sampan.resource.transfer import Pushed, PushResolved
from tests.fakes.push_registry import PushRegistry
from tests.fakes.registry import FakeRegistry
from tests.support.images import OCI_INDEX, OCI_MANIFEST, Entry, Image, descriptor, layer, sha256, tar
from tests.unit.imaged.archives import archive, blob, contents, index_of, load
from tests.unit.imaged.parts import Parts

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64", "v8")
S390X = Platform("linux", "s390x")
IMAGES = {
    AMD64: Image([layer(tar(Entry("amd64", b"a" * 5000)))], {"Cmd": ["a"]}, oci=True),
    ARM64: Image([layer(tar(Entry("arm64", b"b" * 5000)))], {"Cmd": ["b"]}, oci=True, architecture="arm64"),
}


def entry(image: Image, platform: Platform, **more: Any) -> dict[str, Any]:
    """Return an index's entry."""
    content = image.manifest()
    fields = {"os": platform.os, "architecture": platform.architecture, "variant": platform.variant}
    return {
        **descriptor(OCI_MANIFEST, content, len(content)),
        "platform": {key: value for key, value in fields.items() if value},
        **more,
    }


def attestation(about: Image) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the blobs of an attestation as BuildKit writes it, and its entry."""
    config, layer_ = b"{}", b'{"predicateType":"https://slsa.dev/provenance/v0.2"}'
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", config, len(config)),
            "layers": [descriptor("application/vnd.in-toto+json", layer_, len(layer_))],
        }
    ).encode()
    annotations = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": sha256(about.manifest()),
    }
    blobs = {blob(content): content for content in (config, layer_, manifest)}
    unknown = {"os": "unknown", "architecture": "unknown"}
    fields = {**descriptor(OCI_MANIFEST, manifest, len(manifest)), "platform": unknown, "annotations": annotations}
    return blobs, fields


# Not as any writer would lay it out: whoever parses it and writes it again changes its digest.
_ENTRIES = [entry(image, platform, annotations={"org.example": "ünï <b>"}) for platform, image in IMAGES.items()]
INDEX = (
    b'{ "annotations": {"z": "1", "a": "2"},\n "schemaVersion": 2,\t"mediaType": "' + OCI_INDEX.encode() + b'",'
    b' "manifests": ' + json.dumps(_ENTRIES, indent=1, ensure_ascii=False).encode() + b" }\n"
)


def layout(
    content: bytes, *blobs: dict[str, Any], name: str = "docker.io/library/multi:1", skip: tuple[bytes, ...] = ()
) -> bytes:
    """Return the archive of an index as containerd's tools write it."""
    root = {**descriptor(OCI_INDEX, content, len(content)), "annotations": {"io.containerd.image.name": name}}
    files: dict[str, Any] = {**index_of([root]), blob(content): content}
    for each in blobs:
        files |= each
    for missing in skip:
        del files[blob(missing)]
    return archive(files)


def both() -> tuple[dict[str, Any], ...]:
    """Return the blobs of both platforms."""
    return tuple(contents(image) for image in IMAGES.values())


async def tree(parts: Parts, name: str) -> Tree:
    """Return what a name leads to."""
    return await parts.images.tree((await parts.images.get(name)).record.target)


@dataclass
class Out:
    """The way out: pushes to a registry, and archives."""

    parts: Parts
    registry: PushRegistry
    pusher: Pusher

    async def push(self, name: str, tag: str, platform: Platform | None = None) -> tuple[Pushed, PushResolved]:
        """Tag an image with the registry's name and push it."""
        reference = parse_reference(f"{self.registry.address}/{tag}")
        await self.parts.images.tag(name, reference)
        async with aclosing(self.pusher.push(reference, ANONYMOUS, platform)) as running:
            steps = [step async for step in running]
        first, *_, last = steps
        assert isinstance(first, PushResolved)
        assert isinstance(last, Pushed)
        return last, first

    async def saved(self, name: str, *platforms: Platform) -> bytes:
        """Return an archive."""
        saver = Saver(self.parts.images, self.parts.content, self.parts.leases)
        return b"".join([piece async for piece in saver.archive([name], platforms)])


@pytest.fixture
async def out(parts: Parts) -> AsyncIterator[Out]:
    async with PushRegistry().running() as registry:
        transport = Transport(stall_timeout_s=5)
        retry = RetryPolicy(attempts=3, base_s=0.001)
        tokens = Tokens(transport)
        means = UploadMeans(transport, tokens, retry, PushMetrics(CollectorRegistry()))
        pusher = Pusher(parts.store, parts.content, parts.leases, Sources(Endpoints(), transport, tokens, retry), means)
        yield Out(parts, registry, pusher)
        await pusher.close()
        await transport.close()


def own(image: Image) -> set[str]:
    """Return the digests of what an image is made of."""
    return {sha256(image.manifest()), image.id, *(sha256(each.blob) for each in image.layers)}


def serve(registry: FakeRegistry) -> str:
    """Serve the index with both platforms; return its name."""
    for image in IMAGES.values():
        for content in (image.config_blob(), *(each.blob for each in image.layers)):
            assert isinstance(content, bytes)
            registry.add_blob(content, "")
        registry.add_manifest("multi", "", image.manifest(), OCI_MANIFEST)
    registry.add_manifest("multi", "1", INDEX, OCI_INDEX)
    return f"{registry.address}/multi:1"


async def pull(parts: Parts, name: str, platform: Platform) -> None:
    """Pull one platform of an index."""
    resolved, _, fetched = await parts.fetch(name, platform)
    await parts.images.create(resolved.reference, fetched.target, resolved.lease, platform)


async def test_platforms_of_one_index_gather_under_its_name(parts: Parts, registry: FakeRegistry) -> None:
    name = serve(registry)
    await pull(parts, name, AMD64)
    assert [member.available for member in (await tree(parts, name)).members] == [True, False]
    await pull(parts, name, ARM64)
    assert (await tree(parts, name)).whole
    shown = await parts.images.get(name)
    assert (shown.record.id, shown.record.target.digest) == (IMAGES[ARM64].id, sha256(INDEX))
    assert shown.repo_digests == (f"{registry.address}/multi@{sha256(INDEX)}",)
    # The other one has lost its name. When it goes it is no longer in the index either: its disk space comes back.
    await parts.images.remove(IMAGES[AMD64].id, force=False, in_use=())
    assert [member.available for member in (await tree(parts, name)).members] == [False, True]
    assert parts.blobs() == {sha256(INDEX), *own(IMAGES[ARM64])}
    await parts.images.remove(name, force=False, in_use=())
    assert parts.blobs() == set()


async def test_platform_leaves_an_index_with_what_is_said_about_it(parts: Parts) -> None:
    about, attested = attestation(IMAGES[AMD64])
    content = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*_ENTRIES, attested]}).encode()
    archived = layout(content, *both(), about)
    await load(parts, archived)
    record = (await parts.images.get("multi:1")).record
    lease = await parts.leases.begin()
    await parts.images.create(parse_reference("multi:1"), record.target, lease, ARM64)
    assert (await tree(parts, "multi:1")).whole
    await parts.images.prune([IMAGES[AMD64].id], ())
    assert parts.blobs() == {sha256(content), *own(IMAGES[ARM64])}


async def test_index_that_is_all_here_is_pushed_as_it_is(parts: Parts, out: Out) -> None:
    await load(parts, layout(INDEX, *both()))
    pushed, resolved = await out.push("multi:1", "web:1")
    assert (pushed.manifest.digest, pushed.instead_of) == (sha256(INDEX), None)
    assert out.registry.manifests["web", "1"] == (OCI_INDEX, INDEX)
    for image in IMAGES.values():
        assert out.registry.manifests["web", sha256(image.manifest())] == (OCI_MANIFEST, image.manifest())
    assert {each.diff_id for each in resolved.layers} == {image.layers[0].diff_id for image in IMAGES.values()}
    digests = (await parts.images.get("multi:1")).repo_digests
    assert digests == (f"{out.registry.address}/web@{sha256(INDEX)}",)
    # What an index lists is there before the index is.
    order = [line.rpartition("/")[2] for line in out.registry.requests if line.startswith("PUT /v2/web/manifests/")]
    assert order[-1] == "1"
    assert len(order) == 3


async def test_of_an_index_that_is_here_in_part_the_image_that_is_shown_is_pushed(
    parts: Parts, registry: FakeRegistry, out: Out
) -> None:
    name = serve(registry)
    await pull(parts, name, ARM64)
    pushed, _ = await out.push(name, "web:1")
    assert pushed.manifest.digest == sha256(IMAGES[ARM64].manifest())
    assert pushed.instead_of is not None
    assert pushed.instead_of.digest == sha256(INDEX)
    assert out.registry.manifests["web", "1"] == (OCI_MANIFEST, IMAGES[ARM64].manifest())


async def test_platform_that_is_asked_for_is_pushed_alone(parts: Parts, out: Out) -> None:
    await load(parts, layout(INDEX, *both()))
    pushed, _ = await out.push("multi:1", "web:1", Platform("linux", "arm64"))
    assert (pushed.manifest.digest, pushed.instead_of) == (sha256(IMAGES[ARM64].manifest()), None)
    assert list(out.registry.manifests) == [("web", "1")]
    complaint = r"image with reference .*/web:1 was found but does not provide the specified platform \(linux/s390x\)"
    with pytest.raises(NotFoundError, match=complaint):
        await out.push("multi:1", "web:1", Platform("linux", "s390x"))


async def test_image_without_an_index_is_pushed_for_its_own_platform_only(parts: Parts, out: Out) -> None:
    await load(parts, layout(INDEX, *both()), AMD64)
    saved = await out.saved("multi:1", AMD64)
    await parts.images.remove("multi:1", force=False, in_use=())
    await load(parts, saved)
    assert (await tree(parts, "multi:1")).indexes == ()
    await out.push("multi:1", "web:1", AMD64)
    with pytest.raises(NotFoundError, match="does not provide the specified platform"):
        await out.push("multi:1", "web:1", ARM64)


async def test_attestations_belong_to_an_index(parts: Parts, out: Out) -> None:
    amd64 = IMAGES[AMD64]
    blobs, about = attestation(amd64)
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry(amd64, AMD64), about]}).encode()
    await load(parts, layout(index, contents(amd64), blobs))
    image, attested = (await tree(parts, "multi:1")).members
    assert (image.is_image, image.is_attestation) == (True, False)
    assert (attested.is_image, attested.is_attestation) == (False, True)
    assert attested.attested == image.descriptor.digest
    pushed, _ = await out.push("multi:1", "web:1")
    assert pushed.manifest.digest == sha256(index)
    assert about["digest"] in {digest for _, digest in out.registry.manifests}


async def test_index_in_an_index_is_kept_and_pushed(parts: Parts, out: Out) -> None:
    outer_entry = descriptor(OCI_INDEX, INDEX, len(INDEX))
    platform = {"os": "linux", "architecture": "amd64"}
    outer = json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{**outer_entry, "platform": platform}]}
    ).encode()
    await load(parts, layout(outer, {blob(INDEX): INDEX}, *both()))
    found = await tree(parts, "multi:1")
    assert [index.digest for index in found.indexes] == [sha256(outer), sha256(INDEX)]
    assert found.whole
    pushed, _ = await out.push("multi:1", "web:1")
    assert pushed.manifest.digest == sha256(outer)
    names = [line.rpartition("/")[2] for line in out.registry.requests if line.startswith("PUT /v2/web/manifests/")]
    assert names[-2:] == [sha256(INDEX), "1"]


async def test_index_is_the_same_after_save_and_load(parts: Parts, out: Out) -> None:
    await load(parts, layout(INDEX, *both()))
    saved = await out.saved("multi:1")
    blobs = parts.blobs()
    await parts.images.remove("multi:1", force=False, in_use=())
    assert parts.blobs() == set()
    await load(parts, saved)
    assert parts.blobs() == blobs
    assert await parts.content.load((await tree(parts, "multi:1")).target.digest, 1 << 20) == INDEX
    assert await out.saved("multi:1") == saved


async def test_archive_of_half_an_index_is_loaded_and_saved_again(parts: Parts, out: Out) -> None:
    # containerd leaves out of an archive what it does not have.
    await load(parts, layout(INDEX, contents(IMAGES[AMD64])))
    found = await tree(parts, "multi:1")
    assert [member.available for member in found.members] == [True, False]
    assert found.target.digest == sha256(INDEX)
    saved = await out.saved("multi:1")
    await parts.images.remove("multi:1", force=False, in_use=())
    await load(parts, saved)
    assert (await tree(parts, "multi:1")).target.digest == sha256(INDEX)


async def test_platform_without_all_of_its_blobs_is_left_out(parts: Parts) -> None:
    lost = IMAGES[ARM64].layers[0].blob
    assert isinstance(lost, bytes)
    await load(parts, layout(INDEX, *both(), skip=(lost,)))
    assert [member.available for member in (await tree(parts, "multi:1")).members] == [True, False]
    assert sha256(IMAGES[ARM64].config_blob()) not in parts.blobs()


async def test_load_for_one_platform_keeps_that_one(parts: Parts) -> None:
    await load(parts, layout(INDEX, *both()), ARM64)
    assert (await parts.images.get("multi:1")).record.id == IMAGES[ARM64].id
    assert [member.available for member in (await tree(parts, "multi:1")).members] == [False, True]


async def test_save_for_one_platform_has_its_manifest_alone(parts: Parts, out: Out) -> None:
    await load(parts, layout(INDEX, *both()))
    saved = await out.saved("multi:1", ARM64)
    await parts.images.remove("multi:1", force=False, in_use=())
    await load(parts, saved)
    record = (await parts.images.get("multi:1")).record
    assert (record.id, record.target.digest) == (IMAGES[ARM64].id, sha256(IMAGES[ARM64].manifest()))
    with pytest.raises(NotFoundError, match="no suitable export target found for platform linux/s390x"):
        await out.saved("multi:1", Platform("linux", "s390x"))


async def test_platform_that_came_with_an_archive_is_an_image_to_look_at(parts: Parts) -> None:
    third, data = await three(parts)
    await load(parts, data)
    for platform, image in ((ARM64, IMAGES[ARM64]), (S390X, third), (AMD64, IMAGES[AMD64])):
        found = await parts.images.of_platform("multi:1", platform)
        assert (found.record.id, found.repo_tags) == (image.id, ("multi:1",))
        assert found.record.manifest.digest == sha256(image.manifest())
        assert [each.diff_id for each in found.record.layers] == [each.diff_id for each in image.layers]
    with pytest.raises(NotFoundError, match=r"does not provide the specified platform \(linux/riscv64\)"):
        await parts.images.of_platform("multi:1", Platform("linux", "riscv64"))


async def three(parts: Parts) -> tuple[Image, bytes]:
    """Return an image for a third platform, and an index of all with an attestation about that one."""
    third = Image([layer(tar(Entry("s390x", b"1")), "none")], oci=True, architecture="s390x")
    blobs, about = attestation(third)
    entries = [*_ENTRIES, entry(third, S390X), about]
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    return third, layout(index, *both(), contents(third), blobs)


@pytest.mark.parametrize("at", ["load", "save"])
async def test_of_several_platforms_the_index_and_theirs_are_loaded_and_saved(parts: Parts, out: Out, at: str) -> None:
    third, data = await three(parts)
    if at == "load":
        await load(parts, data, S390X, ARM64)
    else:
        await load(parts, data)
        data = await out.saved("multi:1", S390X, ARM64)
        for image in (IMAGES[AMD64], IMAGES[ARM64], third):
            with suppress(NotFoundError):
                await parts.images.remove(image.id, force=True, in_use=())
        await load(parts, data)
    found = await tree(parts, "multi:1")
    here = [(str(member.platform), member.available) for member in found.members]
    assert here == [
        ("linux/amd64", False),
        ("linux/arm64/v8", True),
        ("linux/s390x", True),
        ("unknown/unknown", True),
    ]
    assert (await parts.images.get("multi:1")).record.id in (third.id, IMAGES[ARM64].id)


async def test_host_s_platform_is_shown_of_several_that_are_asked_for(parts: Parts, out: Out) -> None:
    await load(parts, layout(INDEX, *both()), ARM64, AMD64)
    assert (await parts.images.get("multi:1")).record.id == IMAGES[AMD64].id
    assert (await tree(parts, "multi:1")).whole
    with pytest.raises(NotFoundError, match="no suitable export target found for platform linux/s390x"):
        await out.saved("multi:1", ARM64, S390X)
    with pytest.raises(NotFoundError, match="no matching manifest for linux/s390x"):
        await load(parts, layout(INDEX, *both()), ARM64, S390X)


async def test_name_keeps_what_it_points_to_whatever_other_names_its_image_has(parts: Parts, out: Out) -> None:
    # One image by two names: through an index, and by its manifest alone.
    await load(parts, layout(INDEX, *both()))
    alone = archive(
        {
            **contents(IMAGES[AMD64]),
            **index_of([{**entry(IMAGES[AMD64], AMD64), "annotations": {"io.containerd.image.name": "alone:1"}}]),
        }
    )
    await load(parts, alone)
    names = {name: (await parts.images.get(name)).record.id for name in ("multi:1", "alone:1")}
    assert set(names.values()) == {IMAGES[AMD64].id}
    reference = parse_reference("docker.io/library/multi:1")
    assert (target := await parts.images.named(reference)) is not None
    assert target.digest == sha256(INDEX)
    saved = await out.saved("multi:1")
    await parts.images.remove("multi:1", force=False, in_use=())
    await load(parts, saved)
    assert (await parts.images.named(reference)) == target


async def test_index_that_no_name_points_to_any_more_goes(parts: Parts) -> None:
    await load(parts, layout(INDEX, *both()))
    root = {**entry(IMAGES[AMD64], AMD64), "annotations": {"io.containerd.image.name": "multi:1"}}
    alone = archive({**contents(IMAGES[AMD64]), **index_of([root])})
    await parts.images.tag("multi:1", parse_reference("other:1"))
    await load(parts, alone)
    assert sha256(INDEX) in parts.blobs(), "another name of the image points to it"
    await parts.images.remove("other:1", force=False, in_use=())
    assert parts.blobs() == own(IMAGES[AMD64])
    # An image that came by its manifest goes back to that, and to the index in the same way.
    await parts.images.tag("multi:1", parse_reference("third:1"))
    await load(parts, layout(INDEX, *both()))
    assert (await parts.images.get("third:1")).record.target.digest == sha256(INDEX)
    await parts.images.remove("multi:1", force=False, in_use=())
    record = (await parts.images.get("third:1")).record
    assert (record.target, record.names) == (record.manifest, (parse_reference("third:1"),))
    assert parts.blobs() == own(IMAGES[AMD64])


async def test_name_that_another_image_takes_leaves_no_index_behind(parts: Parts) -> None:
    root = {**entry(IMAGES[AMD64], AMD64), "annotations": {"io.containerd.image.name": "alone:1"}}
    await load(parts, archive({**contents(IMAGES[AMD64]), **index_of([root])}))
    await load(parts, layout(INDEX, *both()))
    other = await parts.import_image("other:1")
    await parts.images.tag("other:1", parse_reference("multi:1"))
    manifest = (await parts.images.get("other:1")).record.manifest.digest
    assert parts.blobs() == own(IMAGES[AMD64]) | {manifest, other.image_id, other.layers[0].descriptor.digest}


async def test_name_that_moves_to_the_manifest_of_its_own_image_leaves_no_index_behind(parts: Parts) -> None:
    await load(parts, layout(INDEX, *both()))
    root = {**entry(IMAGES[AMD64], AMD64), "annotations": {"io.containerd.image.name": "alone:1"}}
    await load(parts, archive({**contents(IMAGES[AMD64]), **index_of([root])}))
    assert sha256(INDEX) in parts.blobs()
    await parts.images.tag("alone:1", parse_reference("multi:1"))
    assert parts.blobs() == own(IMAGES[AMD64])


@pytest.mark.parametrize("damaged", [INDEX, IMAGES[ARM64].manifest()], ids=["index", "manifest"])
async def test_index_that_cannot_be_read_keeps_what_it_had(parts: Parts, damaged: bytes) -> None:
    await load(parts, layout(INDEX, *both()))
    await parts.images.tag("multi:1", parse_reference("other:1"))
    root = {**entry(IMAGES[AMD64], AMD64), "annotations": {"io.containerd.image.name": "alone:1"}}
    await load(parts, archive({**contents(IMAGES[AMD64]), **index_of([root])}))
    before = parts.blobs()
    path = parts.root / "blobs/sha256" / sha256(damaged).removeprefix("sha256:")
    path.write_bytes(b"x" * len(damaged))
    await parts.images.remove("alone:1", force=False, in_use=())
    assert parts.blobs() == before


async def test_damaged_manifest_is_named(parts: Parts, out: Out) -> None:
    await load(parts, layout(INDEX, *both()))
    image = await parts.images.get("multi:1")
    parts.content.path(image.record.manifest.digest).write_bytes(b"x" * image.record.manifest.size)
    with pytest.raises(DataLossError, match=image.record.manifest.digest):
        await out.push("multi:1", "web:1")
    with pytest.raises(DataLossError, match=image.record.manifest.digest):
        await out.saved("multi:1")


async def test_one_platform_leaves_an_index_that_was_loaded_whole(parts: Parts) -> None:
    about, attested = attestation(IMAGES[ARM64])
    content = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*_ENTRIES, attested]}).encode()
    await load(parts, layout(content, *both(), about))
    removed = await remove_platform(parts.images, "multi:1", ARM64, force=False, in_use=())
    assert [change.image for change in removed.changes] == [sha256(IMAGES[ARM64].manifest())]
    assert removed.reclaimed_bytes > 0
    assert parts.blobs() == {sha256(content), *own(IMAGES[AMD64])}
    with pytest.raises(NotFoundError, match=r"does not provide the specified platform \(linux/arm64/v8\)"):
        await remove_platform(parts.images, "multi:1", ARM64, force=False, in_use=())
    # What is left is the whole image as far as it is here.
    removed = await remove_platform(parts.images, "multi:1", AMD64, force=False, in_use=())
    assert removed.untagged == ("multi:1",)
    assert parts.blobs() == set()


async def test_names_go_over_to_another_platform_when_theirs_is_removed(parts: Parts, registry: FakeRegistry) -> None:
    name = serve(registry)
    await pull(parts, name, ARM64)
    await pull(parts, name, AMD64)
    await parts.images.tag(name, parse_reference("other:1"))
    with pytest.raises(ConflictError, match=r"\(must be forced\) - image is being used by stopped container c{12}$"):
        await remove_platform(parts.images, name, AMD64, force=False, in_use=[ImageUse(IMAGES[AMD64].id, "c" * 64)])
    removed = await remove_platform(parts.images, name, AMD64, force=False, in_use=())
    assert [change.image for change in removed.changes] == [IMAGES[AMD64].id]
    image = await parts.images.get(name)
    assert (image.record.id, image.repo_tags) == (IMAGES[ARM64].id, (name, "other:1"))
    assert image.repo_digests == (f"{registry.address}/multi@{sha256(INDEX)}",)
    assert parts.blobs() == {sha256(INDEX), *own(IMAGES[ARM64])}


async def test_platform_of_an_image_without_a_name_goes_with_it(parts: Parts, registry: FakeRegistry) -> None:
    name = serve(registry)
    await pull(parts, name, ARM64)
    await pull(parts, name, AMD64)
    removed = await remove_platform(parts.images, name, ARM64, force=False, in_use=())
    assert [record.id for record in removed.deleted] == [IMAGES[ARM64].id]
    assert parts.blobs() == {sha256(INDEX), *own(IMAGES[AMD64])}
