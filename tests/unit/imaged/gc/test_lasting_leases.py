"""What lasting leases hold is known to all who remove, count and check things, also after a restart."""

from contextlib import aclosing
from pathlib import Path

import pytest

from imaged.check.check import ContentCheck
from imaged.check.repair import Repairer
from imaged.content.lasting import LastingLeases
from imaged.gc.collector import ContentCollector
from imaged.gc.usage import ContentUsage
from sampan import check as kinds
from sampan.check import Finding, Means
from sampan.disk import CACHE, IMAGE
from sampan.errors import NotFoundError
from sampan.oci.chain import chain_ids
from sampan.resource.content import LastingLease
from tests.unit.imaged.parts import Parts, imaged_parts

OWNER = "buildd"


def lasting(parts: Parts) -> LastingLeases:
    return LastingLeases(parts.store, parts.content, parts.clock)


def collector(parts: Parts) -> ContentCollector:
    of = (parts.store, parts.content, parts.ingests, parts.partials)
    usage = ContentUsage(parts.root, *of, keep_s=60, now_ns=parts.clock)
    return ContentCollector(*of, parts.leases, usage, keep_s=60, now_ns=parts.clock)


async def findings(parts: Parts, check: ContentCheck) -> list[Finding]:
    async with aclosing(check.check(quick=False)) as steps:
        return [found async for found in steps if isinstance(found, Finding)]


async def test_an_image_that_is_removed_leaves_the_layers_and_the_stack_of_a_record(parts: Parts) -> None:
    imported = await parts.import_image("web:1")
    (layer,) = imported.layers
    await lasting(parts).put(LastingLease("record", OWNER, (layer.descriptor.digest,), (layer.diff_id,)))
    owners = {one.id: one.owner async for page in collector(parts).objects(measure=False) for one in page}
    assert owners[layer.descriptor.digest] == IMAGE
    removed = await parts.images.remove("web:1", force=False, in_use=())
    assert [change.chain_ids for change in removed.changes if not change.untagged] == [()]
    await collector(parts).collect(leftovers=True)
    assert parts.blobs() == {layer.descriptor.digest}
    (blob,) = [one async for page in collector(parts).objects(measure=False) for one in page if one.kind == "blob"]
    assert (blob.owner, blob.holders[0].id, blob.holders[0].names, blob.holders[0].expires_ns) == (
        CACHE, "record", (OWNER,), 0,
    )  # fmt: skip
    (root,) = await parts.images.roots()
    assert (root.holder.kind, root.diff_ids) == (CACHE, (layer.diff_id,))
    gone = await lasting(parts).remove(OWNER, ["record"])
    assert gone.stacks == (chain_ids([layer.diff_id]),)
    assert parts.blobs() == set()


async def test_an_image_keeps_what_a_record_lets_go_of(parts: Parts) -> None:
    imported = await parts.import_image("web:1")
    (layer,) = imported.layers
    await lasting(parts).put(LastingLease("record", OWNER, (layer.descriptor.digest,), (layer.diff_id,)))
    removed = await lasting(parts).remove(OWNER, ["record"])
    assert (removed.stacks, removed.reclaimed_bytes) == ((), 0)
    assert layer.descriptor.digest in parts.blobs()


async def test_after_a_restart_it_holds_as_before(tmp_path: Path) -> None:
    async with imaged_parts(tmp_path / "imaged", lease_s=60) as parts:
        lease = await parts.leases.begin()
        blob = (await parts.content.put(b"layer", "text/plain", lease)).digest
        await lasting(parts).put(LastingLease("record", OWNER, (blob,)))
    for _ in range(2):
        async with imaged_parts(tmp_path / "imaged", lease_s=60) as parts:
            parts.clock.advance(10**9)
            await collector(parts).collect(leftovers=True)
            assert parts.blobs() == {blob}
            assert [one.id for one in await lasting(parts).list(OWNER)] == ["record"]


async def test_a_check_names_the_cache_and_ends_what_holds_nothing(parts: Parts) -> None:
    lease = await parts.leases.begin()
    blob = (await parts.content.put(b"layer", "text/plain", lease)).digest
    await lasting(parts).put(LastingLease("record", OWNER, (blob,)))
    await parts.leases.release(lease)
    check = ContentCheck(
        parts.store,
        parts.content,
        Repairer(parts.store, parts.content, parts.leases, parts.sources, parts.downloads),
    )
    assert await findings(parts, check) == []
    parts.content.path(blob).write_bytes(b"xayer")
    (found,) = await findings(parts, check)
    assert (found.kind, found.affected, found.mendable) == (kinds.BLOB_DAMAGED, ("build cache",), True)
    assert "only the build cache has it" in found.remedy
    assert (await check.repair(found, Means())).repaired
    with pytest.raises(NotFoundError):
        await parts.content.info(blob)
    (broken,) = await findings(parts, check)
    assert broken.kind == kinds.LEASE_BROKEN
    assert (await check.repair(broken, Means())).repaired
    assert await lasting(parts).list(OWNER) == ()
    assert await findings(parts, check) == []
