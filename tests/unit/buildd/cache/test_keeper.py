"""Leases of the build cache: kept, and released for certain, whatever becomes of imaged or of whoever asks."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from buildd.cache.keeper import OWNER, LeaseKeeper
from buildd.cache.results import Results
from sampan.errors import NotFoundError, UnavailableError
from sampan.oci.chain import chain_ids
from sampan.resource.content import LastingLease, RemovedLeases
from sampan.resource.storage.snapshots import Layers
from sampan.store.database import Store
from tests.fakes.build_storage import FakeBuildStorage, FakeLeases
from tests.fakes.buildd import layer

A, B = (layer({name: b""}) for name in "ab")


class Unstacking:
    """The snapshotter's layers, as far as stacks are taken down."""

    def __init__(self) -> None:
        self.unstacked: list[Sequence[str]] = []

    async def unstack(self, stacks: Sequence[Sequence[str]]) -> None:
        self.unstacked += stacks


class Imaged(FakeLeases):
    """Its leases, which take as long as a test wants, while it may be away."""

    def __init__(self, storage: FakeBuildStorage) -> None:
        super().__init__(storage)
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.released = asyncio.Event()
        self.here = asyncio.Event()
        self.may_answer.set()
        self.here.set()

    async def reach(self) -> None:
        await self.here.wait()

    async def put(self, lease: LastingLease) -> None:
        self.asked.set()
        await self.may_answer.wait()
        await super().put(lease)

    async def remove(self, owner: str, ids: Iterable[str]) -> RemovedLeases:
        self.asked.set()
        await self.may_answer.wait()
        if not self.here.is_set():
            raise UnavailableError("imaged is away")
        removed = await super().remove(owner, ids)
        self.released.set()
        return removed


@asynccontextmanager
async def kept_in(storage: FakeBuildStorage) -> AsyncIterator[tuple[LeaseKeeper, Imaged]]:
    imaged = Imaged(storage)
    async with LeaseKeeper(imaged, cast("Layers", Unstacking()), imaged.reach, again_s=0.001) as keeper:
        yield keeper, imaged


def storage() -> FakeBuildStorage:
    blobs = {A.descriptor.digest, B.descriptor.digest}
    return FakeBuildStorage(blobs=set(blobs), unleased=blobs)


async def test_what_cannot_be_released_is_released_when_imaged_is_back() -> None:
    async with kept_in(storage()) as (keeper, imaged):
        await keeper.keep("one", (A,))
        await keeper.keep("other", (B,))
        imaged.here.clear()
        await keeper.release(["one"])
        assert await keeper.kept() == {"one", "other"}
        imaged.here.set()
        async with asyncio.timeout(10):
            await imaged.released.wait()
        assert await keeper.kept() == {"other"}


async def test_a_release_whose_caller_is_cancelled_is_one() -> None:
    async with kept_in(storage()) as (keeper, imaged):
        await keeper.keep("one", (A,))
        imaged.asked.clear()
        imaged.may_answer.clear()
        releasing = asyncio.create_task(keeper.release(["one"]))
        await imaged.asked.wait()
        releasing.cancel()
        imaged.may_answer.set()
        await asyncio.wait([releasing])
        assert await keeper.kept() == set()


async def test_a_cancelled_keep_is_over_when_its_caller_goes_on() -> None:
    async with kept_in(storage()) as (keeper, imaged):
        imaged.may_answer.clear()
        keeping = asyncio.create_task(keeper.keep("one", (A,)))
        await imaged.asked.wait()
        keeping.cancel()
        imaged.may_answer.set()
        with pytest.raises(asyncio.CancelledError):
            await keeping
        await keeper.release(["one"])
        assert await keeper.kept() == set()


async def test_layers_that_are_nowhere_are_not_kept() -> None:
    async with kept_in(FakeBuildStorage()) as (keeper, _):
        with pytest.raises(NotFoundError):
            await keeper.keep("one", (A,))
        assert await keeper.kept() == set()


async def test_it_can_be_left_while_imaged_is_away() -> None:
    kept = storage()
    async with kept_in(kept) as (keeper, imaged):
        await keeper.keep("one", (A,))
        imaged.here.clear()
        await keeper.release(["one"])
    assert set(kept.here) == {"build-cache-one"}


async def test_leases_of_the_builder_that_are_not_the_caches_stay(tmp_path: Path) -> None:
    blobs = {A.descriptor.digest, B.descriptor.digest}
    storage, layers = FakeBuildStorage(blobs=set(blobs), unleased=blobs), Unstacking()
    leases = storage.leases
    await leases.put(LastingLease("history-1", OWNER))
    await leases.put(LastingLease("build-cache-x", "somebody"))
    keeper = LeaseKeeper(leases, cast("Layers", layers), Imaged(storage).reach)
    await keeper.keep("stray", (A, B))
    assert storage.here["build-cache-stray"] == LastingLease(
        "build-cache-stray", "buildd", (A.descriptor.digest, B.descriptor.digest), (A.diff_id, B.diff_id)
    )
    async with Store(tmp_path / "cache.db", "buildd.schema", durable=False) as store:
        await Results(store, keeper, lambda: 1).recover()
    assert set(storage.here) == {"history-1", "build-cache-x"}
    assert layers.unstacked == [tuple(chain_ids([A.diff_id, B.diff_id]))]
