"""Blobs, rows and images compared, and repaired from a registry that a test has in hand."""

import os
from contextlib import aclosing
from pathlib import Path

import pytest

from imaged.check.check import ContentCheck
from imaged.check.rebuild import Rebuilder
from imaged.check.repair import Repairer
from imaged.gc.usage import drop_strays
from sampan.check import Finding, Means, Outcome
from sampan.oci.digest import Digest
from tests.fakes.registry import FakeRegistry
from tests.unit.imaged.parts import Parts, imaged_parts

LAYER = os.urandom(3 << 20)  # larger than what is read to see whether it is whole


def checker(parts: Parts) -> ContentCheck:
    repairer = Repairer(parts.store, parts.content, parts.leases, parts.sources, parts.downloads)
    return ContentCheck(parts.store, parts.content, repairer)


async def findings(parts: Parts, *, quick: bool = False) -> list[Finding]:
    async with aclosing(checker(parts).check(quick=quick)) as steps:
        return [step async for step in steps if isinstance(step, Finding)]


async def repaired(parts: Parts, finding: Finding) -> Outcome:
    return await checker(parts).repair(finding, Means())


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.fixture
async def layer(parts: Parts, registry: FakeRegistry) -> Digest:
    """The layer of an image that is here."""
    registry.add_image("a/b", "1", LAYER)
    await parts.pull(f"{registry.address}/a/b:1")
    assert await findings(parts) == []
    return Digest(registry.largest)


async def test_a_quick_check_sees_sizes_and_a_whole_one_bytes(parts: Parts, layer: Digest) -> None:
    flip(parts.content.path(layer))
    assert await findings(parts, quick=True) == []
    (finding,) = await findings(parts)
    assert (finding.kind, finding.subject) == ("blob-damaged", layer)


async def test_a_finding_says_who_suffers_and_where_it_may_be_had(
    parts: Parts, registry: FakeRegistry, layer: Digest
) -> None:
    parts.content.path(layer).unlink()
    (finding,) = await findings(parts)
    assert finding.affected == (f"{registry.address}/a/b:1",)
    assert finding.sources == (f"{registry.address}/a/b",)
    assert finding.path == str(parts.content.path(layer))


async def test_repositories_of_the_private_registry_suffer_too(parts: Parts, layer: Digest) -> None:
    await parts.content.update(layer, {"containerd.io/gc.root.registry-0123": "team/app"}, ())
    (image,) = await parts.images.list()
    await parts.images.remove(image.record.id, force=True, in_use=())
    parts.content.path(layer).unlink()
    (finding,) = await findings(parts)
    assert (finding.affected, finding.mendable) == (("team/app in the private registry",), False)


async def test_only_what_is_damaged_is_fetched(parts: Parts, registry: FakeRegistry, layer: Digest) -> None:
    flip(parts.content.path(layer))
    (finding,) = await findings(parts)
    before = len(registry.paths("/blobs/"))
    assert (await repaired(parts, finding)).repaired
    assert len(registry.paths("/blobs/")) == before + 1
    assert await findings(parts) == []


async def test_what_a_check_found_damaged_is_fetched_again_even_by_the_next_process(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.add_image("a/b", "1", LAYER)
    async with imaged_parts(tmp_path / "imaged") as parts:
        await parts.pull(f"{registry.address}/a/b:1")
        flip(parts.content.path(Digest(registry.largest)))
        assert len(await findings(parts)) == 1
    async with imaged_parts(tmp_path / "imaged") as parts:
        await parts.pull(f"{registry.address}/a/b:1")
        assert await findings(parts) == []


async def test_one_that_the_registry_does_not_have_any_more_stays_named(
    parts: Parts, registry: FakeRegistry, layer: Digest
) -> None:
    flip(parts.content.path(layer))
    (finding,) = await findings(parts)
    del registry.blobs[layer]
    outcome = await repaired(parts, finding)
    assert not outcome.repaired
    assert f"{registry.address}/a/b" in outcome.text
    assert [again.subject for again in await findings(parts)] == [layer]


async def test_a_file_whose_row_is_lost_is_recorded_again_if_it_is_whole(
    parts: Parts, registry: FakeRegistry, layer: Digest
) -> None:
    await parts.store.read(lambda db: db.execute("PRAGMA foreign_keys = OFF"))
    await parts.store.write(lambda db: db.execute("DELETE FROM blobs WHERE digest = ?", (layer,)))
    await parts.store.read(lambda db: db.execute("PRAGMA foreign_keys = ON"))
    await drop_strays(parts.store, parts.content.directory)
    (finding,) = await findings(parts)
    assert finding.problem == "its row is gone"
    before = len(registry.paths("/blobs/"))
    assert (await repaired(parts, finding)).repaired
    assert len(registry.paths("/blobs/")) == before, "nothing was fetched"
    assert await findings(parts) == []


async def test_a_blob_that_no_image_needs_is_forgotten(parts: Parts) -> None:
    lease = await parts.leases.begin()
    blob = await parts.content.put(LAYER, "", lease)
    flip(parts.content.path(blob.digest))
    (finding,) = await findings(parts)
    assert (await repaired(parts, finding)).repaired
    assert parts.blobs() == set()


async def test_a_lease_that_promises_what_is_not_here_is_ended(parts: Parts) -> None:
    lease = await parts.leases.begin()
    await parts.leases.hold(lease, [Digest.of(b"never came")])
    assert await findings(parts) == [], "it may still come"
    await parts.leases.complete(lease)
    (finding,) = await findings(parts)
    assert (finding.kind, finding.subject) == ("lease-broken", lease)
    assert (await repaired(parts, finding)).repaired
    assert await findings(parts) == []


async def test_a_file_that_came_to_have_a_row_is_not_removed(parts: Parts, layer: Digest) -> None:
    orphan = Finding("blob-orphan", layer, "no row knows its file", "remove the file")
    assert (await repaired(parts, orphan)).repaired
    assert parts.content.path(layer).exists()


async def test_images_come_back_from_files_alone(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.add_image("a/b", "1", LAYER)
    async with imaged_parts(tmp_path / "imaged") as parts:
        image = await parts.pull(f"{registry.address}/a/b:1")
    (tmp_path / "imaged/metadata.db").unlink()
    kept = tmp_path / "kept"
    (tmp_path / "imaged/blobs").rename(kept)
    async with imaged_parts(tmp_path / "imaged") as parts:
        for file in (kept / "sha256").iterdir():
            file.rename(parts.content.directory / file.name)
        await Rebuilder(parts.store, parts.content).run()
        (found,) = await parts.images.list()
        assert (found.record.id, found.record.names) == (image.image_id, ())
        assert await findings(parts) == []
