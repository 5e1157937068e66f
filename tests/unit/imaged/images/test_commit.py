"""Images made of images, and what becomes of their parents."""

import json

import pytest

from imaged.images.commit import Committer
from imaged.images.model import Image as ShownImage
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError
from sampan.oci.descriptor import OCI_LAYER, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.image_config import RunConfig
from sampan.oci.reference import parse_reference
from sampan.resource.image import ImageCommit, ImageUse, Layer
from tests.support.images import Entry, tar
from tests.unit.imaged.parts import Parts

CHANGES = tar(Entry("new", b"new"))
LAYER = Layer(Descriptor(OCI_LAYER, Digest.of(CHANGES), len(CHANGES)), Digest.of(CHANGES))


async def write_layer(parts: Parts) -> None:
    """Write the layer as the snapshotter does."""
    async with parts.ingests.open("diff") as ingest:
        await ingest.write(CHANGES)
        await parts.ingests.commit(ingest, len(CHANGES), None)


async def commit(parts: Parts, base: str, name: str = "", options: ImageCommit | None = None) -> ShownImage:
    """Commit the changes on ``base`` and name the image."""
    await write_layer(parts)
    committer = Committer(parts.images, parts.store, parts.content, parts.leases, parts.clock)
    committed = await committer.run(base, LAYER, options or ImageCommit(RunConfig()))
    reference = parse_reference(name) if name else None
    parent = (await parts.images.get(base)).record.id
    created = await parts.images.create(reference, committed.target, committed.lease, None, parent)
    return created.image


async def test_a_committed_image_stands_on_its_base(parts: Parts) -> None:
    base = await parts.import_image("base:1")
    options = ImageCommit(RunConfig(env=("A=1",), cmd=("sh",)), ('CMD ["ls"]', "ENV B=2"), "me", "why", "sh -c x")
    image = await commit(parts, "base:1", "new:1", options)
    assert image.record.parent == base.image_id
    assert image.record.layers[-1] == LAYER
    assert image.config.run == RunConfig(env=("A=1", "B=2"), cmd=("ls",))
    step = image.config.history[-1]
    assert (step.author, step.comment, step.created_by, step.empty_layer) == ("me", "why", "sh -c x", False)
    assert (await parts.images.get("new:1")).record == image.record


@pytest.mark.parametrize(("entrypoint", "cmd"), [((), ("ls",)), (("sh",), ())])
async def test_entrypoint_that_is_taken_away_leaves_the_command(
    parts: Parts, entrypoint: tuple[str, ...], cmd: tuple[str, ...]
) -> None:
    await parts.import_image("base:1")
    options = ImageCommit(RunConfig(entrypoint=("init",), cmd=("ls",)), (f"ENTRYPOINT {json.dumps(entrypoint)}",))
    run = (await commit(parts, "base:1", "new:1", options)).config.run
    assert (run.entrypoint, run.cmd) == (entrypoint, cmd)


async def test_without_a_layer_only_the_config_is_new(parts: Parts) -> None:
    base = await parts.import_image("base:1")
    committer = Committer(parts.images, parts.store, parts.content, parts.leases, parts.clock)
    committed = await committer.run("base:1", None, ImageCommit(RunConfig(cmd=("ls",))))
    assert committed.layers == base.layers
    config = json.loads(parts.content.load_now(committed.image_id))
    assert config["history"][-1]["empty_layer"] is True
    await parts.leases.release(committed.lease)


async def test_a_commit_that_fails_leaves_nothing(parts: Parts) -> None:
    await parts.import_image("base:1")
    before = parts.blobs()
    committer = Committer(parts.images, parts.store, parts.content, parts.leases, parts.clock)
    with pytest.raises(NotFoundError, match="not found"):
        await committer.run("base:1", LAYER, ImageCommit(RunConfig()))
    with pytest.raises(NotFoundError, match="No such image"):
        await committer.run("nonesuch", None, ImageCommit(RunConfig()))
    with pytest.raises(InvalidArgumentError, match="is not a valid change command"):
        await committer.run("base:1", None, ImageCommit(RunConfig(), ("RUN x",)))
    assert parts.blobs() == before


async def test_a_layer_goes_with_its_last_image(parts: Parts) -> None:
    await parts.import_image("base:1")
    await commit(parts, "base:1", "new:1")
    await parts.images.remove("new:1", force=False, in_use=())
    assert LAYER.diff_id not in parts.blobs()


async def test_a_parent_that_loses_its_name_stays_for_its_children(parts: Parts) -> None:
    base = await parts.import_image("base:1")
    image = await commit(parts, "base:1", "new:1")
    with pytest.raises(ConflictError, match=r"\(cannot be forced\) - image has dependent child images"):
        await parts.images.remove(base.image_id, force=True, in_use=())
    removed = await parts.images.remove("base:1", force=False, in_use=())
    assert (removed.untagged, removed.deleted) == (("base:1",), ())
    removed = await parts.images.remove("new:1", force=False, in_use=())
    assert [record.id for record in removed.deleted] == [image.record.id, base.image_id]
    assert parts.blobs() == set()


@pytest.mark.parametrize("why", ["no_prune", "named", "in use"])
async def test_a_parent_that_is_wanted_stays(parts: Parts, why: str) -> None:
    base = await parts.import_image("" if why != "named" else "base:1")
    await commit(parts, base.image_id, "new:1")
    in_use = (ImageUse(base.image_id, "c" * 64),) if why == "in use" else ()
    removed = await parts.images.remove("new:1", force=False, in_use=in_use, no_prune=why == "no_prune")
    assert len(removed.deleted) == 1
    assert (await parts.images.get(base.image_id)).record.id == base.image_id
