"""Names: given, found, moved and taken away by Docker's rules."""

import json
from functools import partial

import pytest

from imaged.images import store
from imaged.images.model import ImageRecord
from imaged.images.names import Images
from imaged.images.removal import plan_removal
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError
from sampan.oci.descriptor import DOCKER_CONFIG, DOCKER_MANIFEST, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.reference import parse_reference
from sampan.resource.image import ImageUse
from tests.fakes.registry import FakeRegistry
from tests.support.images import OCI_MANIFEST, Entry, Image, layer, tar
from tests.unit.imaged.parts import Parts

ID = Digest.of(b"config")
TARGET = Descriptor(DOCKER_MANIFEST, Digest.of(b"manifest"), 7)


async def test_pulled_image_has_a_tag_and_a_digest(parts: Parts, registry: FakeRegistry) -> None:
    fetched = await parts.pull_image(registry, "x", "1")
    image = await parts.images.get(f"{registry.address}/x:1")
    assert image.record.id == fetched.image_id
    assert image.repo_tags == (f"{registry.address}/x:1",)
    assert image.repo_digests == (f"{registry.address}/x@{fetched.target.digest}",)


async def test_image_pulled_by_digest_has_no_tag(parts: Parts, registry: FakeRegistry) -> None:
    digest = registry.add_image("x", "", b"layer")["digest"]
    await parts.pull(f"{registry.address}/x@{digest}")
    image = await parts.images.get(f"{registry.address}/x@{digest}")
    assert image.repo_tags == ()
    assert image.repo_digests == (f"{registry.address}/x@{digest}",)


async def test_image_made_here_has_no_digest(parts: Parts) -> None:
    await parts.import_image("local:1")
    image = await parts.images.get("local:1")
    assert (image.repo_tags, image.repo_digests) == (("local:1",), ())


async def test_image_is_found_by_id_prefix_name_and_digest(parts: Parts, registry: FakeRegistry) -> None:
    fetched = await parts.pull_image(registry, "x", "latest")
    name = f"{registry.address}/x"
    whole = fetched.image_id
    for text in (whole, whole.hex, whole.short, whole[:15], name, f"{name}:latest", f"{name}@{fetched.target.digest}"):
        assert (await parts.images.get(text)).record.id == whole


async def test_image_is_found_by_the_digest_of_its_manifest(parts: Parts, registry: FakeRegistry) -> None:
    fetched = await parts.pull_image(registry, "x", "latest")
    manifest = fetched.target.digest
    for text in (manifest, manifest.hex, manifest.short):
        assert (await parts.images.get(text)).record.id == fetched.image_id
    await parts.pull_image(registry, "y", "latest", b"another")
    assert (await parts.images.get(manifest)).record.id == fetched.image_id


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nope", "nope:latest"),
        ("nope:1", "nope:1"),
        ("docker.io/library/nope", "nope:latest"),
        ("0" * 12, "000000000000:latest"),
        (f"sha256:{'0' * 64}", f"sha256:{'0' * 64}"),
        ("0" * 64, f"sha256:{'0' * 64}"),
    ],
)
async def test_unknown_image_is_not_found_in_dockers_words(parts: Parts, text: str, shown: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        await parts.images.get(text)
    assert str(caught.value) == f"No such image: {shown}"


@pytest.mark.parametrize("text", ["", "UPPER", "a b", "x@sha256:0", "-x"])
async def test_what_is_no_name_is_refused(parts: Parts, text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid reference format"):
        await parts.images.get(text)


async def test_prefix_of_two_images_finds_neither(parts: Parts) -> None:
    seen: dict[str, str] = {}
    for number in range(40):
        imported = await parts.import_image(f"n:{number}", f"file{number}".encode())
        first = imported.image_id.hex[0]
        if first in seen:
            with pytest.raises(NotFoundError):
                await parts.images.get(first)
            return
        seen[first] = imported.image_id
    raise AssertionError("forty images and no two begin alike")


async def test_name_that_is_given_again_moves_and_the_old_image_stays(parts: Parts, registry: FakeRegistry) -> None:
    old = await parts.pull_image(registry, "x", "1", b"old")
    new = registry.add_image("x", "1", b"new")
    resolved, _, fetched = await parts.fetch(f"{registry.address}/x:1")
    created = await parts.images.create(resolved.reference, fetched.target, resolved.lease, None)
    assert (created.moved, created.existed) == (True, False)
    assert (await parts.images.get(f"{registry.address}/x:1")).record.target.digest == new["digest"]
    left = await parts.images.get(old.image_id)
    assert left.repo_tags == ()
    again = await parts.images.create(resolved.reference, fetched.target, "", None)
    assert (again.moved, again.existed) == (False, True)


async def test_image_without_a_name_is_dangling(parts: Parts) -> None:
    imported = await parts.import_image("")
    image = await parts.images.get(imported.image_id)
    assert (image.repo_tags, image.repo_digests) == ((), ())
    assert image.record.tagged_ns == 0


async def test_image_needs_all_its_content(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", b"layer")
    resolved, _, fetched = await parts.fetch(f"{registry.address}/x:1")
    await parts.content.delete(resolved.layers[0].descriptor.digest)
    with pytest.raises(NotFoundError, match=resolved.layers[0].descriptor.digest):
        await parts.images.create(resolved.reference, fetched.target, resolved.lease, None)
    assert await parts.images.list() == []


async def test_images_are_listed_newest_first(parts: Parts) -> None:
    for name in ("first", "second", "third"):
        await parts.import_image(name, name.encode())
        parts.clock.advance(1)
    assert [image.repo_tags for image in await parts.images.list()] == [
        ("third:latest",),
        ("second:latest",),
        ("first:latest",),
    ]


async def test_damaged_image_is_listed_and_can_be_removed(parts: Parts) -> None:
    imported = await parts.import_image("x")
    parts.content.path(imported.image_id).write_bytes(b"rubbish")
    (image,) = await Images(parts.store, parts.content).list()  # which has not read it before
    assert "damaged" in image.config.comment
    parts.images = Images(parts.store, parts.content)  # which has not read it either
    removed = await parts.images.remove("x", force=False, in_use=())
    assert [dict(each.labels) for each in removed.changes] == [{}, {}], "nobody can tell"
    assert parts.blobs() == set()


async def test_tag_is_one_more_name(parts: Parts) -> None:
    imported = await parts.import_image("one")
    await parts.images.tag(imported.image_id.short, parse_reference("registry.example/two:2"))
    image = await parts.images.get("registry.example/two:2")
    assert image.repo_tags == ("one:latest", "registry.example/two:2")
    assert image.repo_digests == ()


async def test_an_image_has_no_more_names_than_a_list_can_show(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_NAMES", 3)
    imported = await parts.import_image("one")
    for tag in ("2", "3", "3"):  # a name that it has already is no new one
        await parts.images.tag(imported.image_id.short, parse_reference(f"one:{tag}"))
    with pytest.raises(InvalidArgumentError, match="has 3 names, which is the most"):
        await parts.images.tag(imported.image_id.short, parse_reference("one:4"))
    (image,) = await parts.images.list()
    assert image.repo_tags == ("one:2", "one:3", "one:latest")


async def test_an_image_whose_labels_are_too_long_gets_no_name(parts: Parts) -> None:
    labels = " ".join(f"l{number}={'x' * 10_000}" for number in range(110))
    with pytest.raises(InvalidArgumentError, match=r"labels: .* the most is 1048576"):
        await parts.import_image("long", changes=(f"LABEL {labels}",))
    assert await parts.images.list() == []
    assert parts.blobs() == set()


async def test_tag_of_a_name_points_to_what_the_name_does(parts: Parts, registry: FakeRegistry) -> None:
    image = Image([layer(tar(Entry("file", b"content")))], oci=True)
    document = json.loads(image.manifest())
    for blob in (image.config_blob(), image.layers[0].blob):
        assert isinstance(blob, bytes)
        registry.add_blob(blob, "application/octet-stream")
    targets = {}
    for tag, manifest in ("1", document), ("2", document | {"annotations": {"the same": "image"}}):
        registry.add_manifest("x", tag, manifest, OCI_MANIFEST)
        resolved, _, fetched = await parts.fetch(name := f"{registry.address}/x:{tag}")
        await parts.images.create(resolved.reference, fetched.target, resolved.lease, None)
        targets[name] = fetched.target.digest
    for name, target in targets.items():
        assert (await parts.images.get(name)).record.id == image.id
        await parts.images.tag(name, again := parse_reference(f"again:{target.hex[:9]}"))
        assert await parts.store.read(partial(store.target_of, reference=again)) == target


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [(f"x@{ID}", "digest reference"), ("sha256:abc", "ambiguous tag using digest algorithm as name")],
)
async def test_names_that_mislead_are_refused(parts: Parts, reference: str, complaint: str) -> None:
    await parts.import_image("one")
    with pytest.raises(InvalidArgumentError, match=complaint):
        await parts.images.tag("one", parse_reference(reference))


async def test_last_name_takes_the_image_and_its_blobs_with_it(parts: Parts, registry: FakeRegistry) -> None:
    fetched = await parts.pull_image(registry, "x", "1")
    name = f"{registry.address}/x"
    removed = await parts.images.remove(f"{name}:1", force=False, in_use=())
    assert removed.untagged == (f"{name}:1", f"{name}@{fetched.target.digest}")
    assert [record.id for record in removed.deleted] == [fetched.image_id]
    assert parts.blobs() == set()
    assert await parts.images.list() == []


async def test_name_of_several_goes_alone(parts: Parts) -> None:
    await parts.import_image("one")
    await parts.images.tag("one", parse_reference("two"))
    removed = await parts.images.remove("two", force=False, in_use=())
    assert (removed.untagged, removed.deleted) == (("two:latest",), ())
    assert [change.chain_ids for change in removed.changes] == [()]


async def test_layers_that_another_image_shares_stay(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", b"base", b"one")
    registry.add_image("x", "2", b"base", b"two")
    await parts.pull(f"{registry.address}/x:1")
    await parts.pull(f"{registry.address}/x:2")
    await parts.images.remove(f"{registry.address}/x:1", force=False, in_use=())
    image = await parts.images.get(f"{registry.address}/x:2")
    assert {layer.descriptor.digest for layer in image.record.layers} <= parts.blobs()


def record(*names: str) -> ImageRecord:
    references = tuple(parse_reference(name) for name in names)
    return ImageRecord(ID, TARGET, Descriptor(DOCKER_CONFIG, ID, 1), (), 0, 0, references)


STOPPED, RUNNING = ImageUse(ID, "c" * 64), ImageUse(ID, "d" * 64, running=True)


def by_name(
    image: ImageRecord, name: str, use: ImageUse | None = None, *, force: bool = False
) -> tuple[list[str], bool]:
    plan = plan_removal(image, name, parse_reference(name), use, force=force)
    return [reference.familiar for reference in plan.untag], plan.delete


def by_id(
    image: ImageRecord, use: ImageUse | None = None, *, force: bool = False, continued: bool = False
) -> tuple[list[str], bool]:
    plan = plan_removal(image, ID.short, None, use, force=force, continued=continued)
    return [reference.familiar for reference in plan.untag], plan.delete


D = f"@{TARGET.digest}"


def test_name_goes_and_others_keep_the_image() -> None:
    assert by_name(record("a:1", "b:1"), "a:1") == (["a:1"], False)


def test_digest_stays_while_its_repository_has_a_tag() -> None:
    assert by_name(record("a:1", "a:2", f"a{D}"), "a:1") == (["a:1"], False)


def test_digest_goes_with_its_repositorys_last_tag() -> None:
    assert by_name(record("a:1", f"a{D}"), "a:1") == (["a:1", f"a{D}"], True)
    assert by_name(record("a:1", f"a{D}", "b:1"), "a:1") == (["a:1", f"a{D}"], False)


def test_only_the_digest_is_taken_if_it_is_asked_for() -> None:
    assert by_name(record("a:1", f"a{D}"), f"a{D}") == ([f"a{D}"], False)
    assert by_name(record(f"a{D}"), f"a{D}") == ([f"a{D}"], True)


@pytest.mark.parametrize("use", [STOPPED, RUNNING])
def test_last_name_of_a_used_image_must_be_forced(use: ImageUse) -> None:
    image = record("a:1", f"a{D}")
    words = (
        rf'^conflict: unable to remove repository reference "a:1" \(must force\) - '
        rf"container {use.container[:12]} is using its referenced image {ID.short}$"
    )
    with pytest.raises(ConflictError, match=words):
        by_name(image, "a:1", use)
    assert by_name(image, "a:1", use, force=True) == (["a:1", f"a{D}"], use is STOPPED)


@pytest.mark.parametrize("use", [STOPPED, RUNNING])
@pytest.mark.parametrize("names", [("a:1", "b:1"), ("a:1", "a:2"), ("a:1", f"b{D}")])
def test_one_of_several_names_of_a_used_image_may_go(names: tuple[str, ...], use: ImageUse) -> None:
    assert by_name(record(*names), "a:1", use) == (["a:1"], False)


def test_id_takes_all_names_of_one_repository() -> None:
    assert by_id(record("a:1", f"a{D}")) == (["a:1", f"a{D}"], True)
    assert by_id(record()) == ([], True)


@pytest.mark.parametrize("names", [("a:1", "b:1"), ("a:1", "a:2"), ("a:1", f"b{D}")])
def test_id_with_several_names_must_be_forced(names: tuple[str, ...]) -> None:
    words = (
        rf"^conflict: unable to delete {ID.short} \(must be forced\) - image is referenced in multiple repositories$"
    )
    with pytest.raises(ConflictError, match=words):
        by_id(record(*names))
    assert by_id(record(*names), force=True)[1]


SEVERAL, ONE = ("a:1", "b:1"), ("a:1",)


@pytest.mark.parametrize(
    ("names", "use", "force", "continued", "words"),
    [
        (ONE, STOPPED, False, False, r"\(must be forced\) - image is being used by stopped container c{12}"),
        (ONE, RUNNING, False, False, r"\(cannot be forced\) - image is being used by running container d{12}"),
        (ONE, RUNNING, True, False, r"\(cannot be forced\) - image is being used by running container d{12}"),
        (SEVERAL, RUNNING, False, False, r"\(cannot be forced\) - image is being used by running container d{12}"),
        (SEVERAL, STOPPED, False, False, r"\(must be forced\) - image is referenced in multiple repositories"),
        (SEVERAL, RUNNING, True, True, r"\(cannot be forced\) - image has dependent child images"),
        ((), STOPPED, False, False, r"\(must be forced\) - image is being used by stopped container c{12}"),
    ],
)
def test_the_first_thing_that_forbids_a_removal_by_id_is_told(
    names: tuple[str, ...], use: ImageUse, force: bool, continued: bool, words: str
) -> None:
    with pytest.raises(ConflictError, match=rf"^conflict: unable to delete {ID.short} {words}$"):
        by_id(record(*names), use, force=force, continued=continued)


def test_a_used_image_goes_by_force_from_under_containers_that_do_not_run() -> None:
    assert by_id(record(*SEVERAL), STOPPED, force=True) == ([*SEVERAL], True)


async def test_prune_takes_many_in_one_transaction_and_passes_over_what_is_refused(parts: Parts) -> None:
    kept = await parts.import_image("used:1", b"used")
    base = await parts.import_image("base:1", b"base")
    other = await parts.import_image("other:1", b"other")
    await parts.images.tag("other:1", parse_reference("other:2"))
    loose = await parts.import_image("", b"loose")
    names = ["used:1", "nope:1", "base:1", "other:1", "UPPER", "other:2", loose.image_id, "base:1"]
    removed = await parts.images.prune(names, [ImageUse(kept.image_id, "c" * 64)])
    assert [(change.image, change.untagged) for change in removed.changes] == [
        (base.image_id, "base:1"),
        (base.image_id, ""),
        (other.image_id, "other:1"),
        (other.image_id, "other:2"),
        (other.image_id, ""),
        (loose.image_id, ""),
    ]
    assert [change.chain_ids for change in removed.changes if not change.untagged] == [
        (image.layers[0].diff_id,) for image in (base, other, loose)
    ]
    assert removed.reclaimed_bytes > 0
    assert [image.record.id for image in await parts.images.list()] == [kept.image_id]
    assert parts.blobs() == {
        kept.image_id, kept.target.digest, *(layer.descriptor.digest for layer in kept.layers)
    }  # fmt: skip


async def test_layer_of_several_images_goes_with_the_last_of_them(parts: Parts, registry: FakeRegistry) -> None:
    for tag in ("1", "2", "3"):
        registry.add_image("x", tag, b"base", tag.encode())
        await parts.pull(f"{registry.address}/x:{tag}")
    first, second, third = [
        (await parts.images.get(f"{registry.address}/x:{tag}")).record for tag in ("1", "2", "3")
    ]  # fmt: skip
    removed = await parts.images.prune([first.id, second.id], ())
    chains = [len(change.chain_ids) for change in removed.changes if not change.untagged]
    assert chains == [1, 1], "the third one has the base still"
    (change,) = [change for change in (await parts.images.prune([third.id], ())).changes if not change.untagged]
    assert change.chain_ids[0] == third.layers[0].diff_id
    assert len(change.chain_ids) == 2
