"""What a crash leaves, and what the next start makes of it."""

import asyncio
import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from imaged.content import blobs
from imaged.content.blobs import UNLEASED_HOLD_NS
from imaged.content.disk_full import storing
from sampan.errors import (
    AlreadyExistsError,
    ConflictError,
    DataLossError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from sampan.filter_expressions import parse_filters
from sampan.oci.digest import Digest
from sampan.service.set_aside import SetAside
from sampan.store.database import Store
from tests.fakes.registry import FakeRegistry
from tests.unit.imaged.parts import Parts, imaged_parts

T = TypeVar("T")

HELLO = Digest.of(b"hello")


async def test_small_blob_is_leased_and_durable_when_put_returns(parts: Parts) -> None:
    lease = await parts.leases.begin()
    descriptor = await parts.content.put(b"hello", "text/plain", lease)
    assert (descriptor.digest, descriptor.size) == (HELLO, 5)
    assert await parts.content.load(HELLO, 5) == b"hello"
    await parts.leases.release(lease)
    with pytest.raises(NotFoundError):
        await parts.content.info(HELLO)
    assert parts.blobs() == set()


async def test_damaged_blob_is_found_when_it_is_loaded(parts: Parts) -> None:
    await parts.content.put(b"hello", "text/plain", await parts.leases.begin())
    parts.content.path(HELLO).write_bytes(b"jello")
    with pytest.raises(DataLossError, match=f"{HELLO} is damaged"):
        await parts.content.load(HELLO, 5)


async def test_blob_whose_file_is_gone_is_data_loss(parts: Parts) -> None:
    await parts.content.put(b"hello", "text/plain", await parts.leases.begin())
    parts.content.path(HELLO).unlink()
    with pytest.raises(DataLossError, match="pull it again"):
        await parts.content.load(HELLO, 5)


async def test_start_removes_files_without_a_record_and_half_written_ones(tmp_path: Path) -> None:
    async with imaged_parts(tmp_path / "imaged") as parts:
        stray = parts.content.path(HELLO)
    stray.write_bytes(b"hello")
    (tmp_path / "imaged/ingests/0123").write_bytes(b"half")
    async with imaged_parts(tmp_path / "imaged") as parts:
        assert parts.blobs() == set()
        assert parts.leftovers() == []


async def test_start_drops_what_a_killed_import_had_brought(tmp_path: Path) -> None:
    async with imaged_parts(tmp_path / "imaged") as parts:
        await parts.content.put(b"hello", "text/plain", await parts.leases.begin())
    async with imaged_parts(tmp_path / "imaged") as parts:
        assert parts.blobs() == set()


async def test_start_keeps_what_a_killed_fetch_had_brought_for_a_day(tmp_path: Path) -> None:
    async with imaged_parts(tmp_path / "imaged") as parts:
        await parts.content.put(b"hello", "text/plain", await parts.leases.begin("registry.example/x"))
    async with imaged_parts(tmp_path / "imaged") as parts:
        assert parts.blobs() == {HELLO}
        parts.clock.advance(24 * 3600 + 1)
        await parts.leases.recover()
        await parts.content.recover()
        assert parts.blobs() == set()


async def test_what_a_broken_fetch_left_goes_when_an_image_of_the_same_source_has_its_name(
    parts: Parts, registry: FakeRegistry
) -> None:
    lease = await parts.leases.begin(f"{registry.address}/x")
    await parts.content.put(b"hello", "text/plain", lease)
    await parts.leases.abandon(lease)
    assert parts.blobs() == {HELLO}
    await parts.pull_image(registry, "y", "1")
    assert HELLO in parts.blobs()
    await parts.pull_image(registry, "x", "1")
    assert HELLO not in parts.blobs()


async def test_what_broken_fetches_left_makes_room(parts: Parts) -> None:
    lease = await parts.leases.begin("registry.example/x")
    await parts.content.put(b"hello", "text/plain", lease)
    await parts.leases.abandon(lease)
    assert (await parts.leases.end_abandoned())[0] == 1
    assert parts.blobs() == set()
    assert (await parts.leases.end_abandoned())[0] == 0


async def test_start_keeps_what_a_complete_lease_holds(tmp_path: Path) -> None:
    async with imaged_parts(tmp_path / "imaged") as parts:
        lease = await parts.leases.begin()
        await parts.content.put(b"hello", "text/plain", lease)
        await parts.leases.complete(lease)
    async with imaged_parts(tmp_path / "imaged") as parts:
        assert parts.blobs() == {HELLO}
        await parts.leases.release(lease)
        assert parts.blobs() == set()


async def test_lease_that_expires_lets_its_content_go(tmp_path: Path) -> None:
    async with imaged_parts(tmp_path / "imaged", lease_s=0.05) as parts:
        lease = await parts.leases.begin()
        await parts.content.put(b"hello", "text/plain", lease)
        parts.clock.advance(-0.05)  # the next look at the clock finds it over
        await parts.leases.complete(lease)
        parts.clock.advance(10)
        gone = parts.content.path(HELLO)
        async with asyncio.timeout(60):
            while gone.exists():  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0.01)
        with pytest.raises(NotFoundError, match="does not exist"):
            await parts.leases.release(lease)


async def test_content_written_without_a_lease_is_kept_for_a_day(tmp_path: Path) -> None:
    async with imaged_parts(tmp_path / "imaged") as parts, parts.ingests.open("r") as ingest:
        await ingest.write(b"hello")
        await parts.ingests.commit(ingest, 5, HELLO)
    async with imaged_parts(tmp_path / "imaged") as parts:
        assert parts.blobs() == {HELLO}
        parts.clock.advance(UNLEASED_HOLD_NS / 1e9 + 1)
        await parts.content.recover()
        assert parts.blobs() == set()


async def test_label_of_a_root_keeps_content_for_good(parts: Parts) -> None:
    async with parts.ingests.open("r") as ingest:
        await ingest.write(b"hello")
        await parts.ingests.commit(ingest, 5, HELLO, {"containerd.io/gc.root": "x"})
    parts.clock.advance(UNLEASED_HOLD_NS / 1e9 + 1)
    await parts.content.recover()
    assert parts.blobs() == {HELLO}


async def test_content_stays_until_the_last_of_several_roots_is_taken_back(parts: Parts) -> None:
    async with parts.ingests.open("ref") as ingest:
        await ingest.write(b"hello")
        await parts.ingests.commit(
            ingest, 5, HELLO, {"containerd.io/gc.root.one": "x", "containerd.io/gc.root.two": "y"}
        )
    await parts.content.update(HELLO, {}, ["labels.containerd.io/gc.root.one"])
    assert parts.blobs() == {HELLO}
    await parts.content.update(HELLO, {}, ["labels.containerd.io/gc.root.two"])
    assert parts.blobs() == set()


async def test_client_that_leaves_in_the_middle_of_a_removal_leaves_no_file(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await parts.content.put(b"hello", "text/plain", await parts.leases.begin())
    write = parts.store.write

    async def write_and_leave(change: Callable[[sqlite3.Connection], T]) -> T:
        answer = await write(change)
        client.cancel()
        return answer

    monkeypatch.setattr(Store, "write", staticmethod(write_and_leave))
    client = asyncio.create_task(parts.content.delete(HELLO))
    await asyncio.wait([client])
    assert client.cancelled()
    with pytest.raises(NotFoundError):
        await parts.content.info(HELLO)
    async with asyncio.timeout(60):
        while parts.blobs():
            await parts.store.read(lambda _: None)


async def test_content_of_an_image_cannot_be_deleted(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", b"layer")
    fetched = await parts.pull(f"{registry.address}/x:1")
    for blob in await parts.content.list(parse_filters(())):
        with pytest.raises(ConflictError, match="part of an image"):
            await parts.content.delete(blob.digest)
    assert fetched.target.digest in parts.blobs()


async def test_pulling_again_mends_an_image_that_lost_a_layer(tmp_path: Path, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", b"layer" * 1000)
    async with imaged_parts(tmp_path / "imaged") as parts:
        await parts.pull(f"{registry.address}/x:1")
        image = await parts.images.get(f"{registry.address}/x:1")
        layer = parts.content.path(image.record.layers[0].descriptor.digest)
    os.truncate(layer, 3)
    async with imaged_parts(tmp_path / "imaged") as parts:
        await parts.pull(f"{registry.address}/x:1")
        assert Digest.of(layer.read_bytes()) == image.record.layers[0].descriptor.digest


def test_full_disk_and_used_up_quota_are_named() -> None:
    for number in (28, 122):
        with pytest.raises(ResourceExhaustedError, match="write thing: no space left on device"), storing("thing"):
            raise OSError(number, "full")
    with pytest.raises(PermissionError), storing("thing"):
        raise PermissionError(13, "no")


async def test_write_that_fails_half_way_can_go_on(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def fill_the_disk(fd: int, data: bytes) -> int:
        if len(data) == 1:
            raise OSError(errno.ENOSPC, "full")
        return write(fd, data[:-1])

    async with parts.ingests.open("r") as ingest:
        await ingest.write(b"hel")
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", fill_the_disk)
            with pytest.raises(ResourceExhaustedError):
                await ingest.write(b"lo")
        await ingest.write(b"lo")
        await parts.ingests.commit(ingest, 5, HELLO)
    assert parts.content.path(HELLO).read_bytes() == b"hello"


async def test_a_blob_is_placed_while_its_writer_s_directory_is_swept(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def link_and_sweep(source: Path, target: Path) -> None:
        link(source, target)
        for path in tmp_path.glob("download*"):
            if path.name != "download":
                path.unlink()

    monkeypatch.setattr(os, "link", link_and_sweep)
    file = tmp_path / "download"
    file.write_bytes(b"hello")
    for _ in range(2):  # new, and in the place of one that is here
        await parts.content.place(file, HELLO, 5, hold_ns=10**12)
        assert await parts.content.load(HELLO, 5) == b"hello"
    assert parts.blobs() == {HELLO}


async def test_a_second_writer_of_content_that_has_come_meanwhile_leaves_the_first_one_its_file(parts: Parts) -> None:
    async with parts.ingests.open("layer") as ingest:
        await ingest.write(b"he")
        await parts.content.put(b"hello", "text/plain", await parts.leases.begin())
        with pytest.raises(UnavailableError, match="ref layer locked"):
            async with parts.ingests.open("layer", expected=HELLO):
                pass
        await ingest.write(b"llo")
        with pytest.raises(AlreadyExistsError):
            await parts.ingests.commit(ingest, 5, HELLO)
    assert parts.leftovers() == []


async def test_something_odd_among_the_files_keeps_nothing_from_being_served(tmp_path: Path) -> None:
    async with imaged_parts(tmp_path / "imaged") as parts:
        await parts.content.put(b"hello", "text/plain", await parts.leases.begin("registry.example/x"))
    for place in ("ingests/odd", "blobs/sha256/odd", "partials/odd"):
        (tmp_path / "imaged" / place / "deep").mkdir(parents=True)
    async with imaged_parts(tmp_path / "imaged") as parts:
        assert parts.blobs() == {HELLO}
    assert not list((tmp_path / "imaged").rglob("odd"))


async def test_a_file_that_cannot_be_removed_at_the_start_is_set_aside(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.content.path(HELLO).write_bytes(b"hello")

    def fail(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(blobs, "remove_tree", fail)
    set_aside = SetAside()
    await parts.content.recover(set_aside)
    assert [(each.kind, each.id) for each in set_aside] == [("leftover", HELLO.hex)]
