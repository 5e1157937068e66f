"""Behaviours that whoever keeps lasting leases owes: run on imaged's parts, and through servicer and client."""

import asyncio
from dataclasses import dataclass, replace

import pytest

from sampan.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, UnavailableError
from sampan.oci.chain import chain_ids
from sampan.oci.digest import Digest
from sampan.resource.content import LastingLease, RemovedLeases
from sampan.resource.storage.images import Leases
from tests.unit.imaged.parts import Parts

OWNER = "buildd"
A, B, C, D = (Digest.of(name.encode()) for name in "abcd")


@dataclass(frozen=True, slots=True)
class Kept:
    """imaged's parts, and the lasting leases in them."""

    parts: Parts
    leases: Leases

    async def blob(self, data: bytes) -> Digest:
        """Write content that a call's lease holds, for a while."""
        lease = await self.parts.leases.begin()
        digest = (await self.parts.content.put(data, "text/plain", lease)).digest
        await self.parts.leases.complete(lease)
        return digest

    async def time_passes(self) -> None:
        self.parts.clock.advance(10 * 365 * 24 * 3600)
        await self.parts.leases.end_expired()
        await self.parts.leases.end_abandoned()


class LeaseNamesContract:
    """Of leases that hold no blobs; subclasses give ``leases``, of which there are none yet."""

    promises: tuple[type, ...] = (Leases,)

    async def test_one_is_whoever_s_made_it(self, leases: Leases) -> None:
        await leases.put(LastingLease("record", OWNER))
        assert [one.id for one in await leases.list(OWNER)] == ["record"]
        assert await leases.list("somebody") == ()
        with pytest.raises(AlreadyExistsError):
            await leases.put(LastingLease("record", "somebody"))
        assert await leases.remove("somebody", ["record"]) == RemovedLeases()
        assert [one.id for one in await leases.list(OWNER)] == ["record"]

    async def test_a_name_and_an_owner_are_needed(self, leases: Leases) -> None:
        for wrong in (LastingLease("", OWNER), LastingLease("record", "")):
            with pytest.raises(InvalidArgumentError):
                await leases.put(wrong)

    async def test_put_again_holds_this_and_nothing_else(self, leases: Leases) -> None:
        await leases.put(LastingLease("record", OWNER, (), (A, B)))
        await leases.put(LastingLease("record", OWNER, (), (C,)))
        (found,) = await leases.list(OWNER)
        assert found.diff_ids == (C,)

    async def test_removal_names_the_stacks_that_nothing_stands_on_any_more(self, leases: Leases) -> None:
        for name, stack in (("one", (A, B)), ("two", (A, B, C)), ("kept", (A,))):
            await leases.put(LastingLease(name, OWNER, (), stack))
        ab, abc = chain_ids([A, B]), chain_ids([A, B, C])
        assert (await leases.remove(OWNER, ["two", "one"])).stacks == (abc[2:], ab[1:])
        assert [one.id for one in await leases.list(OWNER)] == ["kept"]
        assert (await leases.remove(OWNER, ["kept", "nosuch"])).stacks == (chain_ids([A]),)


class LastingLeasesContract:
    """Of leases and the content that they hold; subclasses give ``kept``."""

    promises: tuple[type, ...] = (Leases,)

    @pytest.fixture
    def leases(self, kept: Kept) -> Leases:
        return kept.leases

    async def test_what_a_lasting_lease_holds_stays_until_it_is_removed(self, kept: Kept) -> None:
        blob = await kept.blob(b"layer")
        await kept.leases.put(LastingLease("record", OWNER, (blob,), (A, B)))
        await kept.time_passes()
        assert (await kept.parts.content.info(blob)).size == 5
        (found,) = await kept.leases.list(OWNER)
        assert replace(found, created_ns=0) == LastingLease("record", OWNER, (blob,), (A, B))
        assert found.created_ns > 0
        assert await kept.leases.list("somebody") == await kept.leases.list("") == ()
        assert await kept.leases.remove(OWNER, ["record"]) == RemovedLeases((chain_ids([A, B]),), 5)
        with pytest.raises(NotFoundError):
            await kept.parts.content.info(blob)
        assert await kept.leases.remove(OWNER, ["record"]) == RemovedLeases()
        assert await kept.leases.list(OWNER) == ()

    async def test_what_was_written_for_nobody_goes_with_the_lease_that_took_it_over(self, kept: Kept) -> None:
        ingests, blob = kept.parts.ingests, Digest.of(b"layer")
        async with ingests.open("layer") as ingest:
            await ingest.write(b"layer")
            await ingests.commit(ingest, 5, blob)
        await kept.leases.put(LastingLease("record", OWNER, (blob,), (A,)))
        assert (await kept.leases.remove(OWNER, ["record"])).reclaimed_bytes == 5
        assert kept.parts.blobs() == set()

    async def test_put_again_is_as_good_and_changes_what_is_held(self, kept: Kept) -> None:
        one, two = await kept.blob(b"one"), await kept.blob(b"two")
        lease = LastingLease("record", OWNER, (one, two), (A, B))
        await kept.leases.put(lease)
        await kept.leases.put(lease)
        await kept.time_passes()
        await kept.leases.put(replace(lease, digests=(two,), diff_ids=(C,)))
        with pytest.raises(NotFoundError):
            await kept.parts.content.info(one)
        (found,) = await kept.leases.list(OWNER)
        assert (found.digests, found.diff_ids) == ((two,), (C,))

    async def test_what_cannot_be_held_is_refused_and_changes_nothing(self, kept: Kept) -> None:
        one = await kept.blob(b"one")
        lease = LastingLease("record", OWNER, (one,), (A,))
        await kept.leases.put(lease)
        with pytest.raises(NotFoundError, match="cannot hold it"):
            await kept.leases.put(replace(lease, digests=(Digest.of(b"missing"),)))
        with pytest.raises(AlreadyExistsError):
            await kept.leases.put(replace(lease, owner="somebody"))
        for wrong in (replace(lease, id=""), replace(lease, owner="")):
            with pytest.raises(InvalidArgumentError):
                await kept.leases.put(wrong)
        assert await kept.leases.remove("somebody", ["record"]) == RemovedLeases()
        assert await kept.leases.remove("", ["record"]) == RemovedLeases()
        await kept.time_passes()
        (found,) = await kept.leases.list(OWNER)
        assert found.digests == (one,)
        assert (await kept.parts.content.info(one)).size == 3

    async def test_what_is_written_with_it_is_kept_by_it_alone(self, kept: Kept) -> None:
        ingests, blob = kept.parts.ingests, Digest.of(b"layer")
        await kept.leases.put(LastingLease("freeze", OWNER))
        async with ingests.open("layer") as ingest:
            await ingest.write(b"layer")
            await ingests.commit(ingest, 5, blob, lease="freeze")
        async with ingests.open("layer again") as ingest:
            await ingest.write(b"layer")
            with pytest.raises(AlreadyExistsError):
                await ingests.commit(ingest, 5, blob, lease="freeze")
        await kept.time_passes()
        (found,) = await kept.leases.list(OWNER)
        assert found.digests == (blob,)
        assert (await kept.leases.remove(OWNER, ["freeze"])).reclaimed_bytes == 5
        assert kept.parts.blobs() == set()
        async with ingests.open("late") as ingest:
            await ingest.write(b"layer")
            with pytest.raises(UnavailableError):
                await ingests.commit(ingest, 5, blob, lease="freeze")
            kept.parts.ingests.discard(ingest)

    async def test_calls_about_operations_leases_do_not_know_it(self, kept: Kept) -> None:
        blob = await kept.blob(b"layer")
        await kept.leases.put(LastingLease("record", OWNER, (blob,)))
        with pytest.raises(NotFoundError):
            await kept.parts.leases.release("record")
        await kept.parts.leases.abandon("record")
        await kept.parts.leases.complete("record")
        await kept.parts.leases.expect("record", [A])
        with pytest.raises(UnavailableError):
            async with kept.parts.leases.bound(("record",), asyncio.Event()):
                pass
        await kept.time_passes()
        (found,) = await kept.leases.list(OWNER)
        assert (found.digests, found.diff_ids) == ((blob,), ())
        operation = await kept.parts.leases.begin()
        with pytest.raises(AlreadyExistsError):
            await kept.leases.put(LastingLease(operation, OWNER))

    async def test_stacks_of_many_leases_are_taken_apart_from_the_top(self, kept: Kept) -> None:
        for name, stack in (("one", (A, B)), ("two", (A, B, C)), ("three", (A, D)), ("kept", (A,))):
            await kept.leases.put(LastingLease(name, OWNER, (), stack))
        ab, abc = chain_ids([A, B]), chain_ids([A, B, C])
        removed = await kept.leases.remove(OWNER, ["two", "one"])
        assert removed.stacks == (abc[2:], ab[1:])
        assert (await kept.leases.remove(OWNER, ["kept"])).stacks == ()
        assert (await kept.leases.remove(OWNER, ["three"])).stacks == (chain_ids([A, D]),)

    async def test_many_are_listed_and_removed(self, kept: Kept) -> None:
        names = [f"record-{number:05}" for number in range(3000)]
        for name in names[:20]:
            await kept.leases.put(LastingLease(name, OWNER, (), (A, B)))
        assert [one.id for one in await kept.leases.list(OWNER)] == names[:20]
        assert len((await kept.leases.remove(OWNER, names)).stacks) == 1
        assert await kept.leases.list(OWNER) == ()
