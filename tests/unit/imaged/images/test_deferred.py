"""Images with layers of which nobody has made a blob yet."""

import json
from dataclasses import dataclass

import pytest

from imaged.archive.save import Saver
from imaged.content import store as rows
from imaged.content.lasting import LastingLeases
from imaged.gc.collector import ContentCollector
from imaged.gc.usage import ContentUsage
from imaged.images.commit import Committer
from imaged.images.deferred import Completer
from sampan.errors import DataLossError, InvalidArgumentError, NotFoundError
from sampan.oci.config_document import render_config
from sampan.oci.descriptor import DOCKER_LAYER, DOCKER_LAYER_GZIP, OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.image_config import ConfigFile, RunConfig
from sampan.oci.manifest_document import render_manifest
from sampan.oci.platform import host_platform
from sampan.oci.reference import parse_reference
from sampan.resource.content import LastingLease
from sampan.resource.image import ImageCommit, Layer
from tests.unit.imaged.parts import Parts

TAR = b"the tar of a large layer"
DIFF_ID = Digest.of(TAR)
BLOB = b"compressed"
MADE = Layer(Descriptor(OCI_LAYER_GZIP, Digest.of(BLOB), len(BLOB)), DIFF_ID)


@dataclass
class Room:
    parts: Parts
    completer: Completer

    async def make(self, *names: str, kind: str = OCI_LAYER, promised: bool = True) -> Digest:
        """Make an image of a layer that is here and one that is not."""
        content, leases = self.parts.content, self.parts.leases
        async with leases.held() as lease:
            base = await content.put(b"base", OCI_LAYER_GZIP, lease)
            config = ConfigFile(host_platform(), (Digest.of(b"tar of base"), DIFF_ID), None, RunConfig(cmd=("a",)))
            described = await content.put(render_config(config), OCI_CONFIG, lease)
            layers = [base, Descriptor(kind, DIFF_ID, len(TAR))]
            annotated = render_manifest(described, layers, {"note": "kept"})
            target = await content.put(annotated, "application/vnd.oci.image.manifest.v1+json", lease)
        deferred = (DIFF_ID,) if promised else ()
        first = parse_reference(names[0]) if names else None
        created = await self.parts.images.create(first, target, lease, None, deferred_layers=deferred)
        for name in names[1:]:
            await self.parts.images.tag(names[0], parse_reference(name))
        return created.image.record.id

    async def complete(self, image: str) -> None:
        lease = await self.parts.leases.begin()
        await self.parts.content.put(BLOB, OCI_LAYER_GZIP, lease)
        await self.completer.complete(image, [MADE], lease)

    async def blobs(self) -> set[str]:
        return {blob.digest for blob in await self.parts.content.list(lambda _: True)}


@pytest.fixture
def room(parts: Parts) -> Room:
    return Room(parts, Completer(parts.store, parts.content))


async def test_an_image_can_need_what_is_not_made_yet_and_nobody_can_read_it(room: Room) -> None:
    content = room.parts.content
    image = await room.make("big:1")
    record = (await room.parts.images.get("big:1")).record
    assert (record.deferred, record.layers[1].descriptor.digest) == ((DIFF_ID,), DIFF_ID)
    assert [one.record.deferred for one in await room.parts.images.list()] == [(DIFF_ID,)]
    with pytest.raises(NotFoundError):
        await content.info(DIFF_ID)
    with pytest.raises(NotFoundError):
        await anext(content.read(DIFF_ID))
    assert DIFF_ID not in await room.blobs() | room.parts.blobs()
    lease = await room.parts.leases.begin()
    assert await room.parts.leases.hold(lease, [DIFF_ID]) == {}
    await room.parts.leases.release(lease)
    await content.recover()
    assert (await room.parts.images.get(image)).record == record
    await room.parts.images.remove("big:1", force=False, in_use=())
    assert (room.parts.blobs(), await room.parts.store.read(rows.deferred)) == (set(), set())


async def test_what_nobody_has_is_no_image(room: Room) -> None:
    with pytest.raises(NotFoundError, match=DIFF_ID):
        await room.make("big:1", promised=False)
    assert await room.parts.images.list() == []


async def test_an_image_is_completed_under_all_its_names(room: Room) -> None:
    image = await room.make("big:1", "other:2")
    before = (await room.parts.images.get(image)).record
    await room.complete(image)
    after = (await room.parts.images.get("other:2")).record
    assert (after.id, after.names, after.deferred, after.tagged_ns) == (image, before.names, (), before.tagged_ns)
    assert (after.target, after.layers) == (after.manifest, (before.layers[0], MADE))
    assert after.content_bytes == before.content_bytes + after.target.size - before.target.size + len(BLOB) - len(TAR)
    document = json.loads(room.parts.content.load_now(after.target.digest))
    assert (document["annotations"], document["layers"][1]["digest"]) == ({"note": "kept"}, MADE.descriptor.digest)
    assert await room.blobs() == {after.target.digest, image, after.layers[0].descriptor.digest, MADE.descriptor.digest}
    assert await room.parts.store.read(rows.deferred) == set()
    for name in ("big:1", "other:2"):
        target = await room.parts.images.named(parse_reference(name))
        assert target == after.target
    for text in (before.target.digest, before.target.digest.hex[:12], after.target.digest):
        assert (await room.parts.images.get(text)).record == after  # whoever built it was told the first
    await room.complete("big:1")  # whoever was not answered asks once more
    assert (await room.parts.images.get(image)).record == after
    assert await room.parts.store.read(lambda db: db.execute("SELECT id FROM leases").fetchall()) == []


async def test_a_manifest_of_docker_s_kind_stays_one(room: Room) -> None:
    await room.make("big:1", kind=DOCKER_LAYER)
    await room.complete("big:1")
    layer = (await room.parts.images.get("big:1")).record.layers[1]
    assert (layer.descriptor.media_type, layer.descriptor.digest) == (DOCKER_LAYER_GZIP, MADE.descriptor.digest)


async def test_an_image_is_completed_wholly_or_stays_as_it_is(room: Room) -> None:
    image = await room.make("big:1")
    before = (await room.parts.images.get(image)).record
    lease = await room.parts.leases.begin()
    with pytest.raises(InvalidArgumentError, match=f"not complete without layer {DIFF_ID}"):
        await room.completer.complete(image, [], lease)
    with pytest.raises(NotFoundError, match=MADE.descriptor.digest):
        await room.completer.complete(image, [MADE], lease)
    with pytest.raises(NotFoundError, match="No such image"):
        await room.completer.complete("nosuch", [MADE], lease)
    assert (await room.parts.images.get(image)).record == before


async def test_the_blob_of_a_layer_is_known_once_an_image_has_it(room: Room) -> None:
    image = await room.make("big:1")
    base = (await room.parts.images.get(image)).record.layers[0]
    assert list(await room.completer.forms([DIFF_ID, base.diff_id])) == [base]
    await room.complete(image)
    assert list(await room.completer.forms([DIFF_ID])) == [MADE]


async def test_a_tar_that_comes_after_all_is_content_like_any_other(room: Room) -> None:
    image = await room.make("big:1")
    async with room.parts.ingests.open("write", len(TAR), DIFF_ID) as ingest:  # it is not here: not refused
        await ingest.write(TAR)
        await room.parts.ingests.commit(ingest, len(TAR), DIFF_ID)
    assert (await room.parts.content.info(DIFF_ID)).size == len(TAR)
    assert (await room.parts.images.get(image)).record.deferred == ()


async def test_nothing_goes_elsewhere_without_its_blobs(room: Room) -> None:
    await room.make("big:1")
    saver = Saver(room.parts.images, room.parts.content, room.parts.leases)
    with pytest.raises(DataLossError, match="is not here in full"):
        await anext(saver.archive(["big:1"]))


async def test_an_image_on_top_needs_them_too(room: Room) -> None:
    parts = room.parts
    base = await room.make("big:1")
    committer = Committer(parts.images, parts.store, parts.content, parts.leases, parts.clock)
    made = await committer.run(base, None, ImageCommit(RunConfig(cmd=("b",))))
    await parts.images.create(parse_reference("top:1"), made.target, made.lease, None)
    await parts.images.remove("big:1", force=False, in_use=())
    assert (await parts.images.get("top:1")).record.deferred == (DIFF_ID,)
    await room.complete("top:1")
    assert (await parts.images.get("top:1")).record.layers[1] == MADE


async def test_a_pass_of_garbage_collection_leaves_it(room: Room) -> None:
    parts = room.parts
    await room.make("big:1")
    usage = ContentUsage(
        parts.root, parts.store, parts.content, parts.ingests, parts.partials, keep_s=1, now_ns=parts.clock
    )
    collector = ContentCollector(
        parts.store, parts.content, parts.ingests, parts.partials, parts.leases, usage, keep_s=1
    )
    await collector.collect(leftovers=True)
    assert (await parts.images.get("big:1")).record.deferred == (DIFF_ID,)
    sizes = {each.id: each.size_bytes async for page in usage.objects() for each in page}
    assert sizes[DIFF_ID] == 0


async def test_a_lasting_lease_holds_only_what_is_made(room: Room) -> None:
    await room.make("big:1")
    leases = LastingLeases(room.parts.store, room.parts.content)
    with pytest.raises(NotFoundError, match=DIFF_ID):
        await leases.put(LastingLease("cache", "buildd", (DIFF_ID,)))
