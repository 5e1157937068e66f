"""What ``resource.storage.images.Images`` promises of images and their names, whoever keeps it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace

import pytest

from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError, ResourceExhaustedError
from sampan.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.resource.image import ImageUse
from sampan.resource.storage.images import Images
from sampan.resource.transfer import Fetched, FetchResolved, Pushed, PushResolved, PushStep


@dataclass(frozen=True, slots=True)
class ImageParts:
    """What the contract needs: images, of which there is none yet."""

    images: Images
    add: Callable[[str], Awaitable[str]]  # make one of that name, and return its ID
    offered: str = ""  # what a registry has
    pushed: str = ""  # what one takes


async def in_turn(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class ImagesContract:
    """Subclass with a fixture ``parts``."""

    promises: tuple[type, ...] = (Images,)

    async def test_one_is_found_by_its_name_and_its_id(self, parts: ImageParts) -> None:
        made = await parts.add("web:1")
        found = await parts.images.get("web:1")
        assert (found.id, found.repo_tags) == (made, ("web:1",))
        assert found.layers
        for name in (made, made.removeprefix("sha256:")[:12]):
            assert await parts.images.get(name) == found

    async def test_what_is_not_there_is_not_found(self, parts: ImageParts) -> None:
        with pytest.raises(NotFoundError, match="No such image: nosuch:latest"):
            await parts.images.get("nosuch")
        with pytest.raises(NotFoundError, match="No such image: nosuch:latest"):
            await parts.images.tag("nosuch", "web:1")
        with pytest.raises(NotFoundError, match="No such image: nosuch:latest"):
            await parts.images.remove("nosuch")
        with pytest.raises(InvalidArgumentError):
            await parts.images.get("No/Name")

    async def test_one_is_found_for_its_platform_alone(self, parts: ImageParts) -> None:
        await parts.add("web:1")
        found = await parts.images.get("web:1")
        assert await parts.images.get("web:1", platform=found.platform) == found
        with pytest.raises(NotFoundError, match="does not provide the specified platform"):
            await parts.images.get("web:1", platform=Platform("linux", "s390x"))

    async def test_lists_are_newest_first_and_a_brief_one_has_less(self, parts: ImageParts) -> None:
        older, newer = await parts.add("old:1"), await parts.add("new:1")
        listed = await parts.images.list()
        assert [one.id for one in listed] == [newer, older]
        assert [one async for page in parts.images.pages() for one in page.items] == listed
        brief = await parts.images.list(brief=True)
        assert [(one.id, one.repo_tags, one.history) for one in brief] == [
            (newer, ("new:1",), ()),
            (older, ("old:1",), ()),
        ]

    async def test_names_go_one_by_one_and_the_image_with_the_last(self, parts: ImageParts) -> None:
        made = await parts.add("web:1")
        await parts.images.tag("web:1", "other:2")
        assert set((await parts.images.get(made)).repo_tags) == {"web:1", "other:2"}
        removed = await parts.images.remove("web:1")
        untagged = [each.untagged for each in removed.changes]
        assert ("web:1" in untagged, "other:2" in untagged) == (True, False)
        assert (await parts.images.get("other:2")).id == made
        removed = await parts.images.remove("other:2")
        assert "other:2" in [each.untagged for each in removed.changes]
        assert await parts.images.list() == []

    async def test_names_that_were_taken_away_bear_the_image_s_labels(self, parts: ImageParts) -> None:
        await parts.add("web:1")
        await parts.images.tag("web:1", "other:2")
        for name in ("web:1", "other:2"):  # the last one goes with the image
            removed = await parts.images.remove(name)
            told = [(dict(each.labels), bool(each.untagged)) for each in removed.changes]
            assert ({"of": "test"}, True) in told
            assert all(bool(labels) == untagged for labels, untagged in told)

    async def test_several_names_go_at_once_by_force_alone(self, parts: ImageParts) -> None:
        made = await parts.add("web:1")
        await parts.images.tag("web:1", "other:2")
        with pytest.raises(ConflictError, match="must be forced"):
            await parts.images.remove(made)
        await parts.images.remove(made, force=True)
        assert await parts.images.list() == []

    @pytest.mark.parametrize("running", [True, False])
    async def test_one_that_a_container_uses_stays(self, parts: ImageParts, running: bool) -> None:
        made = await parts.add("web:1")
        uses = [ImageUse(made, "c" * 64, running=running)]
        with pytest.raises(ConflictError, match=r"container c{12}|using its"):
            await parts.images.remove("web:1", in_use=uses)
        with pytest.raises(ConflictError):
            await parts.images.remove(made, in_use=uses)
        assert (await parts.images.get("web:1")).id == made

    async def test_a_prune_takes_what_it_is_told_and_what_is_gone_is_no_error(self, parts: ImageParts) -> None:
        gone, kept = await parts.add("gone:1"), await parts.add("kept:1")
        removed = await parts.images.prune([gone, gone], ())
        assert "gone:1" in [each.untagged for each in removed.changes]
        assert [one.id for one in await parts.images.list()] == [kept]

    async def test_what_is_fetched_has_no_name_before_it_is_given_one(self, parts: ImageParts) -> None:
        async with aclosing(parts.images.fetch(parts.offered)) as running:
            steps = [step async for step in running]
        resolved, fetched = steps[0], steps[-1]
        assert isinstance(resolved, FetchResolved)
        assert isinstance(fetched, Fetched)
        assert resolved.layers
        assert await parts.images.list() == []
        named = await parts.images.create(parts.offered, fetched.target, resolved.lease)
        assert (named.image.repo_tags, named.moved, named.existed) == ((parts.offered,), False, False)
        assert await parts.images.get(parts.offered) == named.image

    async def test_a_registry_says_what_it_has_not(self, parts: ImageParts) -> None:
        with pytest.raises(NotFoundError):
            async with aclosing(parts.images.fetch(f"{parts.offered}-nosuch")) as running:
                assert [step async for step in running] == []

    async def test_a_lease_lasts_as_long_as_it_is_kept(self, parts: ImageParts) -> None:
        async with parts.images.kept() as lease:
            assert lease
            async with parts.images.kept(lease) as same:
                assert same == lease

    async def test_what_is_saved_is_loaded_again_with_its_names(self, parts: ImageParts) -> None:
        made = await parts.add("web:1")
        pieces = [piece async for piece in parts.images.save(["web:1"])]
        await parts.images.remove("web:1")
        (loaded,) = await parts.images.load(in_turn(pieces))
        assert (loaded.image_id, [each.familiar for each in loaded.references]) == (made, ["web:1"])
        assert loaded.layers
        assert await parts.images.list() == [], "a name comes last, from whoever has loaded"
        named = await parts.images.create("web:1", loaded.target, loaded.lease, loaded.platform)
        assert (named.image.id, named.image.repo_tags) == (made, ("web:1",))

    async def test_what_is_not_there_is_not_saved_and_no_archive_not_loaded(self, parts: ImageParts) -> None:
        with pytest.raises(NotFoundError, match="No such image: nosuch:latest"):
            assert [piece async for piece in parts.images.save(["nosuch"])] == []
        with pytest.raises(InvalidArgumentError):
            await parts.images.load(in_turn([b"no archive at all" * 100]))

    async def test_a_push_says_what_goes_and_ends_with_the_tag(self, parts: ImageParts) -> None:
        made = await parts.add(parts.pushed)
        async with aclosing(parts.images.push(parts.pushed)) as running:
            steps = [step async for step in running]
        resolved, pushed = steps[0], steps[-1]
        assert isinstance(resolved, PushResolved)
        assert isinstance(pushed, Pushed)
        assert resolved.reference.familiar == parts.pushed
        layers = {each.descriptor.digest for each in resolved.layers}
        assert layers <= {each.digest for each in steps if isinstance(each, PushStep)}  # and perhaps the config
        assert (pushed.image_id, pushed.tag) == (made, parts.pushed.rpartition(":")[2])

    async def test_what_has_no_such_name_is_not_pushed(self, parts: ImageParts) -> None:
        with pytest.raises(NotFoundError, match="An image does not exist locally with the tag"):
            async with aclosing(parts.images.push(f"{parts.pushed}-nosuch")) as running:
                assert [step async for step in running] == []

    async def test_a_manifest_is_read_at_its_registry_as_it_is(self, parts: ImageParts) -> None:
        found = await parts.images.manifest(parts.offered)
        assert (found.target.digest, found.target.size) == (Digest.of(found.content), len(found.content))
        named = json.loads(found.content)["config"]["digest"]
        assert named == Digest.of(found.config)
        by_digest = f"{parts.offered.rpartition(':')[0]}@{found.target.digest}"
        assert await parts.images.manifest(by_digest, insecure=True) == found
        repository = parts.offered.rpartition(":")[0]
        assert await parts.images.read_remote(repository, found.target) == found.content
        with pytest.raises(NotFoundError):
            await parts.images.read_remote(repository, replace(found.target, digest=Digest.of(b"nosuch")))
        with pytest.raises(ResourceExhaustedError):
            await parts.images.read_remote(repository, replace(found.target, size=9 << 20))
        assert await parts.images.referrers(by_digest) == ()
        with pytest.raises(InvalidArgumentError, match="referrers are those of a digest"):
            await parts.images.referrers(parts.offered)
        with pytest.raises(NotFoundError):
            await parts.images.manifest(f"{parts.offered}-nosuch")
        assert await parts.images.list() == []

    async def test_an_index_is_put_as_it_is_and_what_it_is_not_is_refused(self, parts: ImageParts) -> None:
        content = b'{ "schemaVersion": 2, "manifests": [] }'
        assert await parts.images.put_manifest(parts.pushed, OCI_INDEX, content) == Digest.of(content)
        other = f"{parts.pushed.rpartition(':')[0]}@{Digest.of(b'other')}"
        with pytest.raises(InvalidArgumentError, match=f"has the digest {Digest.of(content)}"):
            await parts.images.put_manifest(other, OCI_INDEX, content)
        with pytest.raises(InvalidArgumentError):
            await parts.images.put_manifest(parts.pushed, OCI_MANIFEST, content, mount_from="other")
