"""A pass over content: what it removes, what it must not, and whom it says to hold what."""

import asyncio
import os
import random

import pytest

from imaged.content.blobs import UNLEASED_HOLD_NS
from imaged.gc.collector import ContentCollector
from imaged.gc.usage import ContentUsage
from sampan.disk import HOLD, IMAGE, LEASE, ORPHAN, REGISTRY, SERVICE, WRITER, StoredObject
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from tests.fakes.registry import FakeRegistry
from tests.unit.imaged.parts import Parts

DAY_S = 24 * 3600.0
REGISTRY_LABEL = "containerd.io/gc.root.registry-1234"


@pytest.fixture
def collector(parts: Parts) -> ContentCollector:
    clock = parts.clock
    usage = ContentUsage(
        parts.root, parts.store, parts.content, parts.ingests, parts.partials, keep_s=DAY_S, now_ns=clock
    )
    return ContentCollector(
        parts.store, parts.content, parts.ingests, parts.partials, parts.leases, usage, keep_s=DAY_S, now_ns=clock
    )


async def objects(collector: ContentCollector) -> list[StoredObject]:
    return [one async for page in collector.objects(measure=True) for one in page]


async def held(collector: ContentCollector, kind: str = "blob") -> dict[str, str]:
    return {one.id: one.owner for one in await objects(collector) if one.kind == kind}


async def write(parts: Parts, data: bytes, labels: dict[str, str] | None = None) -> Digest:
    """Content from a client that names no lease."""
    async with parts.ingests.open(f"ref-{Digest.of(data)}") as ingest:
        await ingest.write(data)
        return await parts.ingests.commit(ingest, 0, None, labels)


async def test_an_orphan_goes_whatever_has_left_it(parts: Parts, collector: ContentCollector) -> None:
    await parts.import_image("kept:1", b"kept")
    kept = parts.blobs()
    await parts.import_image("gone:1", b"gone")
    query = "DELETE FROM images WHERE id IN (SELECT image FROM names WHERE reference LIKE '%gone%')"
    await parts.store.write(lambda db: db.execute(query))
    (parts.root / "blobs/sha256" / Digest.of(b"stray").hex).write_bytes(b"stray")
    assert list((await held(collector)).values()).count(ORPHAN) == 3
    freed = await collector.collect(leftovers=False)
    assert (freed["blob"].count, freed["stray"].count) == (3, 1)
    assert parts.blobs() == kept
    assert set((await held(collector)).values()) == {IMAGE}
    again = await collector.collect(leftovers=False)
    assert not any(one.count for one in again.values())


async def test_everything_that_keeps_content_keeps_it(parts: Parts, collector: ContentCollector) -> None:
    lease = await parts.leases.begin("registry.example/x")
    leased = (await parts.content.put(b"leased", "text/plain", lease)).digest
    imported = await parts.import_image("web:1")
    labelled = await write(parts, b"in a repository", {REGISTRY_LABEL: "team/web"})
    fresh = await write(parts, b"just written")
    before = parts.blobs()
    freed = await collector.collect(leftovers=True)
    assert not any(one.count for one in freed.values())
    assert parts.blobs() == before
    owners = await held(collector)
    assert owners[leased] == LEASE
    assert owners[imported.image_id] == IMAGE
    assert (owners[labelled], owners[fresh]) == (REGISTRY, HOLD)
    parts.clock.advance(UNLEASED_HOLD_NS / 1e9 + 1)
    assert (await collector.collect(leftovers=False))["blob"].count == 1
    assert fresh not in parts.blobs()


async def test_what_a_broken_pull_left_goes_when_it_is_asked_for(
    parts: Parts, collector: ContentCollector, registry: FakeRegistry
) -> None:
    lease = await parts.leases.begin(f"{registry.address}/x")
    blob = (await parts.content.put(b"half an image", "text/plain", lease)).digest
    await parts.leases.abandon(lease)

    async def room() -> bool:
        return False

    missing = Digest.of(b"missing")
    async with parts.partials.open(Descriptor("text/plain", missing, 1 << 20), room) as partial:
        await partial.write(0, bytes(1000))
        assert await held(collector, "partial") == {missing: WRITER}
        assert not (await collector.collect(leftovers=True))["partial"].count, "somebody writes it"
    assert await held(collector, "partial") == {missing: HOLD}
    assert not (await collector.collect(leftovers=False))["partial"].count
    freed = await collector.collect(leftovers=True)
    assert (freed["partial"].count, freed["partial"].size_bytes) == (1, 8192)
    assert parts.leftovers() == []
    assert blob not in parts.blobs()


async def test_a_write_that_nobody_goes_on_with_goes_after_a_day(parts: Parts, collector: ContentCollector) -> None:
    async with parts.ingests.open("upload") as ingest:
        await ingest.write(b"half")
        parts.clock.advance(2 * DAY_S)
        assert (await held(collector, "ingest"))["upload"] == WRITER
        assert not (await collector.collect(leftovers=False))["ingest"].count, "somebody is at it"
        await ingest.write(b" of it")
    (stray := parts.root / "ingests/stray").write_bytes(b"x")
    os.utime(stray, ns=(parts.clock(), parts.clock() - 10**9))
    parts.clock.advance(DAY_S - 2)
    assert not (await collector.collect(leftovers=True))["ingest"].count
    parts.clock.advance(3)
    assert (await collector.collect(leftovers=False))["ingest"].count == 2
    assert parts.leftovers() == []


async def test_all_that_is_said_to_be_there_is_what_is_there(parts: Parts, collector: ContentCollector) -> None:
    await parts.import_image("web:1")
    async with parts.ingests.open("upload") as ingest:
        await ingest.write(bytes(10000))
        said = await objects(collector)
        on_disk = sum(path.lstat().st_blocks * 512 for path in (parts.root, *parts.root.rglob("*")))
    assert sum(one.size_bytes for one in said) == on_disk
    assert {one.owner for one in said} == {IMAGE, WRITER, SERVICE}


async def test_a_lease_tells_what_it_will_be_unpacked_to_until_its_image_does(
    parts: Parts, registry: FakeRegistry
) -> None:
    registry.add_image("web", "1", b"layer")
    resolved, _, fetched = await parts.fetch(f"{registry.address}/web:1")
    diff_ids = tuple(layer.diff_id for layer in resolved.layers)
    (root,) = await parts.images.roots()
    assert (root.holder.kind, root.holder.id, root.diff_ids) == (LEASE, resolved.lease, diff_ids)
    await parts.images.create(resolved.reference, fetched.target, resolved.lease, None)
    (root,) = await parts.images.roots()
    assert (root.holder.kind, root.diff_ids) == (IMAGE, diff_ids)
    assert f"{registry.address}/web:1" in root.holder.names
    await parts.images.remove(fetched.image_id, force=True, in_use=())
    assert await parts.images.roots() == ()


async def test_an_abandoned_lease_keeps_nothing_unpacked(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("web", "1", b"layer")
    resolved, _, _ = await parts.fetch(f"{registry.address}/web:1")
    await parts.leases.abandon(resolved.lease)
    assert await parts.images.roots() == ()
    await parts.leases.expect("no such lease", [])


@pytest.mark.parametrize("seed", range(4))
async def test_passes_among_pulls_and_removals_take_nothing_that_is_needed(
    parts: Parts, collector: ContentCollector, registry: FakeRegistry, seed: int
) -> None:
    """Pulls that share layers, removals and passes at once: every image that has its name is whole."""
    choice = random.Random(seed)
    names = [f"web{number}" for number in range(4)]
    for name in names:
        registry.add_image(name, "1", choice.choice([b"one", b"two"]))
    stop = asyncio.Event()

    async def pass_after_pass() -> None:
        while not stop.is_set():
            await collector.collect(leftovers=choice.random() < 0.3)
            await asyncio.sleep(0)

    async def pull_and_remove(name: str) -> None:
        for _ in range(3):
            reference = f"{registry.address}/{name}:1"
            fetched = await parts.pull(reference)
            image = await parts.images.get(reference)
            for layer in image.record.layers:
                assert parts.content.is_whole(layer.descriptor.digest, layer.descriptor.size)
            if choice.random() < 0.7:
                await parts.images.remove(reference, force=False, in_use=())
            assert fetched.image_id == image.record.id

    passing = asyncio.create_task(pass_after_pass())
    await asyncio.wait_for(asyncio.gather(*map(pull_and_remove, names)), 60)
    stop.set()
    await passing
    await collector.collect(leftovers=True)
    needed: set[str] = set()
    for image in await parts.images.list():
        record = image.record
        needed |= {record.id, record.target.digest, record.manifest.digest}
        needed |= {layer.descriptor.digest for layer in record.layers}
    assert parts.blobs() == needed


async def test_a_pass_over_many_blobs_lets_writers_in_between(parts: Parts, collector: ContentCollector) -> None:
    digests = [Digest.of(b"%d" % number) for number in range(600)]

    def insert(db: object) -> None:
        rows = [(digest, 1, 0, 0, 0) for digest in digests]
        db.executemany("INSERT INTO blobs VALUES (?, ?, ?, ?, ?)", rows)  # type: ignore[attr-defined]

    await parts.store.write(insert)
    for digest in digests:
        parts.content.path(digest).write_bytes(b"x")
    passing = asyncio.create_task(collector.collect(leftovers=False))
    writes = 0
    while not passing.done():
        await parts.store.write(lambda db: None)
        writes += 1
    assert (await passing)["blob"].count == 600
    assert parts.blobs() == set()
    assert writes >= 600 // 50, "one between every two batches"
