"""Leases that are bound to a client end with it."""

import asyncio
from pathlib import Path

import pytest

from sampan.errors import NotFoundError, UnavailableError
from sampan.oci.digest import Digest
from tests.unit.imaged.parts import Parts, imaged_parts

HELLO = Digest.of(b"hello")


async def test_a_new_lease_keeps_content_for_as_long_as_its_client_is_there(parts: Parts) -> None:
    async with parts.leases.bound((), asyncio.Event()) as (lease,):
        async with parts.ingests.open("layer") as ingest:
            await ingest.write(b"hello")
            await parts.ingests.commit(ingest, 5, HELLO, lease=lease)
        assert (await parts.content.info(HELLO)).size == 5
    with pytest.raises(NotFoundError):
        await parts.content.info(HELLO)
    assert parts.blobs() == set()


async def test_a_client_that_is_gone_releases_what_was_brought_and_abandons_what_was_fetched(parts: Parts) -> None:
    brought, fetched = await parts.leases.begin(), await parts.leases.begin("registry.example/web")
    await parts.content.put(b"hello", "text/plain", brought)
    await parts.content.put(b"world", "text/plain", fetched)
    await parts.leases.complete(brought, fetched)
    async with parts.leases.bound((brought, fetched), asyncio.Event()):
        assert await parts.leases.end_expired() == (0, {})
    with pytest.raises(NotFoundError):
        await parts.content.info(HELLO)
    assert (await parts.content.info(Digest.of(b"world"))).size == 5
    assert (await parts.leases.end_abandoned())[0] == 1
    assert parts.blobs() == set()


@pytest.mark.parametrize("pauses", range(6))
async def test_a_lease_ends_also_if_whoever_lets_go_of_it_is_cancelled(tmp_path: Path, pauses: int) -> None:
    async with imaged_parts(tmp_path / "imaged") as parts:
        lease = await parts.leases.begin()
        await parts.content.put(b"hello", "text/plain", lease)
        ending = asyncio.create_task(parts.leases.let_go(lease))
        for _ in range(pauses + 1):  # a task that was not begun does nothing
            await asyncio.sleep(0)
        ending.cancel()
        await asyncio.wait([ending])
    assert parts.blobs() == set()


async def test_a_lease_that_is_bound_does_not_expire_and_one_completed_meanwhile_neither(tmp_path: Path) -> None:
    async with imaged_parts(tmp_path / "imaged", lease_s=60) as parts:
        complete, fetching = await parts.leases.begin(), await parts.leases.begin()
        await parts.leases.complete(complete)
        async with parts.leases.bound((complete, fetching), asyncio.Event()):
            await parts.leases.complete(fetching)
            parts.clock.advance(3600)
            assert await parts.leases.end_expired() == (0, {})


async def test_two_clients_of_one_lease_end_it_with_the_last(parts: Parts) -> None:
    lease = await parts.leases.begin()
    await parts.content.put(b"hello", "text/plain", lease)
    async with parts.leases.bound((lease,), asyncio.Event()):
        async with parts.leases.bound((lease,), asyncio.Event()):
            pass
        assert (await parts.content.info(HELLO)).size == 5
    assert parts.blobs() == set()


async def test_after_a_restart_a_client_has_the_time_of_a_lease_to_come_back(tmp_path: Path) -> None:
    stopping = asyncio.Event()
    async with imaged_parts(tmp_path / "imaged", lease_s=60) as parts:
        lease = await parts.leases.begin()
        await parts.content.put(b"hello", "text/plain", lease)
        await parts.leases.complete(lease)
        async with parts.leases.bound((lease,), stopping):
            stopping.set()
    async with imaged_parts(tmp_path / "imaged", lease_s=60) as parts:
        parts.clock.advance(59)
        assert await parts.leases.end_expired() == (0, {})
        parts.clock.advance(2)
        assert (await parts.leases.end_expired())[0] == 1
        with pytest.raises(UnavailableError, match="is over"):
            async with parts.leases.bound((lease,), asyncio.Event()):
                pass


async def test_content_under_a_lease_that_is_over_is_refused(parts: Parts) -> None:
    async with parts.ingests.open("layer") as ingest:
        await ingest.write(b"hello")
        with pytest.raises(UnavailableError, match="lease 'gone' is over"):
            await parts.ingests.commit(ingest, 5, HELLO, lease="gone")


async def test_a_write_whose_owner_is_gone_goes_with_its_last_writer(parts: Parts) -> None:
    async with parts.ingests.open("layer") as ingest:
        await ingest.write(b"hel")
        parts.ingests.abandon(ingest)
        await ingest.write(b"lo")
        assert parts.leftovers() != []
    assert parts.leftovers() == []
