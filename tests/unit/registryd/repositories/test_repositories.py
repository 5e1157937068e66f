"""What repositories hold, and for how long."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from registryd.repositories.refusal import Code, RefusedError
from registryd.repositories.roots import ROOT_PREFIX
from sampan.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from sampan.oci.digest import Digest
from tests.unit.registryd.parts import MAX_BLOB_BYTES, UNUSED_S, Parts, descriptor, document, pieces

LAYER = Digest.of(b"layer")


def refused(code: Code) -> "pytest.RaisesExc[RefusedError]":
    return pytest.RaisesExc(RefusedError, check=lambda error: error.code is code)


async def test_blob_is_kept_for_its_repository_by_a_label(parts: Parts) -> None:
    await parts.push("app", b"layer")
    assert list(parts.contents.labels[LAYER].values()) == ["app"]
    assert await parts.blobs.size("app", LAYER) == 5
    with refused(Code.BLOB_UNKNOWN):
        await parts.blobs.size("other", LAYER)


async def test_blob_pushed_again_has_one_label(parts: Parts) -> None:
    for _ in range(3):
        await parts.push("app", b"layer")
    assert len(parts.contents.labels[LAYER]) == 1


async def test_blob_of_two_repositories_goes_with_the_second(parts: Parts) -> None:
    await parts.push("one", b"layer")
    assert await parts.blobs.mount("two", LAYER, "one")
    await parts.blobs.delete("one", LAYER)
    assert await parts.blobs.size("two", LAYER) == 5
    await parts.blobs.delete("two", LAYER)
    assert LAYER not in parts.contents.blobs
    with refused(Code.BLOB_UNKNOWN):
        await parts.blobs.delete("two", LAYER)


async def test_mount_without_a_source_finds_one(parts: Parts) -> None:
    await parts.push("one", b"layer")
    assert await parts.blobs.mount("two", LAYER, None)
    assert not await parts.blobs.mount("two", Digest.of(b"none"), None)
    assert not await parts.blobs.mount("two", LAYER, "three")


async def test_content_of_the_engine_is_not_mounted_by_its_digest_alone(parts: Parts) -> None:
    digest = parts.contents.add(b"secret")
    assert not await parts.blobs.mount("app", digest, None)


async def test_blob_of_a_manifest_cannot_be_deleted(parts: Parts) -> None:
    manifest = await parts.push_image("app", "1")
    with refused(Code.UNSUPPORTED):
        await parts.blobs.delete("app", LAYER)
    await parts.manifests.delete("app", manifest)
    await parts.blobs.delete("app", LAYER)


async def test_blob_that_was_never_part_of_a_manifest_goes_after_its_time(parts: Parts) -> None:
    await parts.push("app", b"layer")
    parts.clock.now_s += UNUSED_S - 1
    await parts.upkeep.sweep()
    assert LAYER in parts.contents.blobs
    assert await parts.blobs.size("app", LAYER, counted_on=True)
    parts.clock.now_s += UNUSED_S - 1
    await parts.upkeep.sweep()
    assert LAYER in parts.contents.blobs  # somebody had asked for it
    parts.clock.now_s += 2
    await parts.upkeep.sweep()
    assert parts.contents.blobs == {}


async def test_blobs_of_a_manifest_stay_and_go_some_time_after_it(parts: Parts) -> None:
    manifest = await parts.push_image("app", "1")
    parts.clock.now_s += UNUSED_S * 10
    await parts.upkeep.sweep()
    assert LAYER in parts.contents.blobs
    await parts.manifests.delete("app", manifest)
    await parts.upkeep.sweep()
    assert LAYER in parts.contents.blobs
    assert manifest not in parts.contents.blobs
    parts.clock.now_s += UNUSED_S + 1
    await parts.upkeep.sweep()
    assert parts.contents.blobs == {}


async def test_upload_that_does_not_grow_is_dropped(parts: Parts) -> None:
    upload = await parts.uploads.begin("app")
    parts.contents.grown_ns = parts.clock.nanoseconds()
    parts.clock.now_s += UNUSED_S - 1
    await parts.upkeep.sweep()
    assert await parts.uploads.offset("app", upload) == 0
    parts.clock.now_s += 1
    await parts.upkeep.sweep()
    with refused(Code.BLOB_UPLOAD_UNKNOWN):
        await parts.uploads.offset("app", upload)


async def test_an_upload_that_grows_while_upkeep_looks_at_others_is_not_dropped(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await parts.uploads.begin("app")
    parts.clock.now_s += UNUSED_S
    writes = parts.contents.writes

    async def then_it_grows() -> list[tuple[str, int]]:
        found = await writes()
        assert await parts.uploads.append("app", upload, pieces(b"layer"), 0) == 5
        return found

    monkeypatch.setattr(parts.contents, "writes", then_it_grows)
    await parts.upkeep.sweep()
    await parts.uploads.finish("app", upload, LAYER)
    assert LAYER in parts.contents.blobs


async def test_an_upload_that_is_being_added_to_is_not_dropped(parts: Parts) -> None:
    upload = await parts.uploads.begin("app")
    parts.clock.now_s += UNUSED_S

    async def slowly() -> AsyncIterator[bytes]:
        yield b"la"
        await parts.upkeep.sweep()
        yield b"yer"

    assert await parts.uploads.append("app", upload, slowly(), 0) == 5
    await parts.uploads.finish("app", upload, LAYER)


async def test_who_comes_for_an_upload_that_is_being_dropped_is_told_that_it_is_not_there(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await parts.uploads.begin("app")
    parts.clock.now_s += UNUSED_S
    abort = parts.contents.abort

    async def somebody_comes(ref: str) -> None:
        with refused(Code.BLOB_UPLOAD_UNKNOWN):
            await parts.uploads.append("app", upload, pieces(b"layer"), 0)
        with refused(Code.BLOB_UPLOAD_UNKNOWN):
            await parts.uploads.finish("app", upload, LAYER)
        await abort(ref)

    monkeypatch.setattr(parts.contents, "abort", somebody_comes)
    await parts.upkeep.sweep()
    assert parts.contents.ingests == {}


async def test_start_takes_back_labels_without_a_row_and_no_others(parts: Parts) -> None:
    await parts.push("app", b"layer")
    parts.contents.add(b"orphan", f"{ROOT_PREFIX}0123")
    image = parts.contents.add(b"image")
    await parts.upkeep.recover()
    assert parts.contents.blobs.keys() == {LAYER, image}


async def test_a_label_that_appears_without_a_row_is_taken_back_while_the_registry_runs(parts: Parts) -> None:
    with parts.blobs.roots.issued() as pending:
        parts.contents.add(b"pending", pending)
        parts.contents.add(b"late", f"{ROOT_PREFIX}0123")
        await parts.upkeep.sweep()
        assert parts.contents.blobs.keys() == {Digest.of(b"pending")}
    await parts.upkeep.sweep()
    assert not parts.contents.blobs


async def test_upload_goes_on_where_it_is_and_nowhere_else(parts: Parts) -> None:
    upload = await parts.uploads.begin("app")
    assert await parts.uploads.append("app", upload, pieces(b"la", b"y"), 0) == 3
    with refused(Code.RANGE_INVALID):
        await parts.uploads.append("app", upload, pieces(b"er"), 2)
    assert await parts.uploads.append("app", upload, pieces(b"er"), 3) == 5
    await parts.uploads.finish("app", upload, LAYER)
    assert parts.contents.ingests == {}


async def test_wrong_digest_ends_an_upload(parts: Parts) -> None:
    upload = await parts.uploads.begin("app")
    with refused(Code.DIGEST_INVALID):
        await parts.uploads.finish("app", upload, LAYER)
    assert parts.contents.ingests == {}


async def test_blob_that_grows_too_large_ends_its_upload(parts: Parts) -> None:
    upload = await parts.uploads.begin("app")
    await parts.uploads.append("app", upload, pieces(bytes(MAX_BLOB_BYTES)))
    with refused(Code.SIZE_INVALID):
        await parts.uploads.append("app", upload, pieces(b"x"))
    assert parts.contents.ingests == {}


async def test_manifest_refused_leaves_nothing(parts: Parts) -> None:
    data = document(config=descriptor(b"{}"), layers=[])
    with refused(Code.MANIFEST_BLOB_UNKNOWN):
        await parts.manifests.put("app", "1", OCI_MANIFEST, data)
    assert parts.contents.blobs == {}
    with refused(Code.NAME_UNKNOWN):
        await parts.manifests.tags("app", "", None)


async def test_manifest_pushed_again_has_one_label_and_keeps_its_tags(parts: Parts) -> None:
    first = await parts.push_image("app", "1")
    second = await parts.push_image("app", "2")
    assert first == second
    assert len(parts.contents.labels[first]) == 1
    assert (await parts.manifests.tags("app", "", None)).items == ("1", "2")


async def test_manifest_whose_bytes_are_gone_is_unknown_until_it_is_pushed_again(parts: Parts) -> None:
    manifest = await parts.push_image("app", "1")
    del parts.contents.blobs[manifest], parts.contents.labels[manifest]
    with refused(Code.MANIFEST_UNKNOWN):
        await parts.manifests.load("app", "1")
    await parts.push_image("app", "1")
    assert (await parts.manifests.load("app", "1"))[0].digest == manifest


async def test_child_of_an_index_stays_as_long_as_the_index(parts: Parts) -> None:
    child = await parts.push_image("app", "child")
    size = len(parts.contents.blobs[child])
    entry = {"mediaType": OCI_MANIFEST, "digest": child, "size": size}
    index = await parts.manifests.put("app", "all", OCI_INDEX, document(manifests=[entry]))
    with refused(Code.UNSUPPORTED):
        await parts.manifests.delete("app", child)
    await parts.manifests.delete("app", "child")
    await parts.manifests.delete("app", index.descriptor.digest)
    await parts.manifests.delete("app", child)
    with refused(Code.MANIFEST_UNKNOWN):
        await parts.manifests.delete("app", child)


async def test_subject_need_not_be_there(parts: Parts) -> None:
    subject = Digest.of(b"subject")
    manifest = await parts.push_image("app", "sig", subject=descriptor(b"subject"), artifactType="test/sig")
    (referrer,) = await parts.manifests.referrers("app", subject, "")
    assert (referrer.descriptor.digest, referrer.artifact_type) == (manifest, "test/sig")
    assert await parts.manifests.referrers("app", subject, "test/other") == []
    assert await parts.manifests.referrers("other", subject, "") == []


async def test_pages_are_in_order_and_say_whether_there_is_more(parts: Parts) -> None:
    for tag in ("b", "a", "c"):
        await parts.push_image("app", tag)
    page = await parts.manifests.tags("app", "", 2)
    assert (page.items, page.more) == (("a", "b"), True)
    page = await parts.manifests.tags("app", "b", 2)
    assert (page.items, page.more) == (("c",), False)
    assert (await parts.manifests.tags("app", "", 0)).items == ()
    assert (await parts.manifests.repositories("", None)).items == ("app",)


async def test_one_blob_pushed_and_deleted_at_once_is_whole_or_gone(parts: Parts) -> None:
    async def delete() -> None:
        try:
            await parts.blobs.delete("app", LAYER)
        except RefusedError:
            return

    for _ in range(20):
        await asyncio.gather(parts.push("app", b"layer"), delete(), parts.push("app", b"layer"), delete())
        try:
            assert await parts.blobs.size("app", LAYER) == 5
        except RefusedError:
            assert LAYER not in parts.contents.blobs
        else:
            assert len(parts.contents.labels[LAYER]) == 1
