"""Results of steps: found, replaced, removed; and a kill between any two steps."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from buildd.cache.keeper import Keeper
from buildd.cache.model import About
from buildd.cache.results import Results
from buildd.protocol import Tree
from sampan.errors import NotFoundError, UnavailableError
from sampan.oci.digest import Digest
from sampan.resource.image import Layer
from sampan.store.database import Store
from tests.fakes.buildd import FakeKeeper, layer
from tests.fakes.crashes import KilledError, Steps
from tests.unit.buildd.cache.mortal import MortalStore

A, B, C = (layer({name: b""}) for name in "abc")
ONE, OTHER = Digest.of(b"one"), Digest.of(b"other")


@asynccontextmanager
async def opened(path: Path, keeper: Keeper) -> AsyncIterator[Results]:
    times = itertools.count(1)
    async with Store(path / "cache.db", "buildd.schema", durable=False) as store:
        yield Results(store, keeper, lambda: next(times))


@pytest_asyncio.fixture
async def keeper() -> FakeKeeper:
    return FakeKeeper()


@pytest_asyncio.fixture
async def results(tmp_path: Path, keeper: FakeKeeper) -> AsyncIterator[Results]:
    async with opened(tmp_path, keeper) as made:
        yield made


async def test_a_result_is_found_by_its_key_with_all_outputs(results: Results) -> None:
    added = await results.add(ONE, [Tree((A, B)), Tree()], About("RUN"))
    assert await results.find(ONE) == added
    assert added.outputs == (Tree((A, B)), Tree())
    assert await results.find(OTHER) is None


async def test_a_result_without_one_of_its_outputs_is_none(results: Results) -> None:
    added = await results.add(ONE, [Tree((A,)), Tree((B,))], About("RUN"))
    await results.let_go(added.ids)
    await results.remove(added.ids[:1])
    assert await results.find(ONE) is None


async def test_a_new_result_takes_the_place_of_one_that_is_in_use(results: Results, keeper: FakeKeeper) -> None:
    old = await results.add(ONE, [Tree((A,))], About("RUN"))
    new = await results.add(ONE, [Tree((B,))], About("RUN"))
    found = await results.find(ONE)
    assert found == new
    assert set(keeper.leases) == {*old.ids, *new.ids}
    await results.let_go(old.ids)
    assert set(keeper.leases) == set(new.ids)


async def test_a_quick_key_leads_to_the_key_until_its_result_goes(results: Results) -> None:
    quick = Digest.of(b"quick")
    added = await results.add(ONE, [Tree((A,))], About("COPY"), quick)
    assert await results.key_of(quick) == ONE
    await results.let_go(added.ids)
    await results.remove(added.ids)
    assert await results.key_of(quick) is None


async def test_few_quick_keys_of_one_key_outlive_the_process(tmp_path: Path, keeper: FakeKeeper) -> None:
    keys = [Digest.of(b"quick %d" % number) for number in range(40)]
    async with opened(tmp_path, keeper) as results:
        for each in keys:
            await results.remember_quick(each, ONE)
    async with opened(tmp_path, keeper) as results:
        assert [await results.key_of(each) for each in keys] == [None] * 24 + [ONE] * 16


async def test_what_is_forgotten_is_found_no_more(results: Results) -> None:
    added = await results.add(ONE, [Tree((A,))], About("RUN"))
    assert await results.find(ONE) == added
    await results.forget(added.ids)
    assert await results.find(ONE) is None
    await results.let_go(added.ids * 2)
    assert await results.records() == []


async def test_layers_that_are_nowhere_make_no_result(results: Results, keeper: FakeKeeper) -> None:
    async def refuse(id: str, layers: Sequence[Layer]) -> None:
        raise NotFoundError("no such blob")

    keep = keeper.keep
    keeper.keep = refuse  # type: ignore[method-assign]
    with pytest.raises(NotFoundError):
        await results.add(ONE, [Tree((A,))], About("RUN"))
    keeper.keep = keep  # type: ignore[method-assign]
    assert await results.records() == []
    assert await results.find(ONE) is None


async def test_a_cancelled_addition_leaves_no_lease(results: Results, keeper: FakeKeeper) -> None:
    at, go = asyncio.Event(), asyncio.Event()
    keep = keeper.keep

    async def slow(id: str, layers: Sequence[Layer]) -> None:
        await keep(id, layers)
        at.set()
        await go.wait()

    keeper.keep = slow  # type: ignore[method-assign]
    adding = asyncio.create_task(results.add(ONE, [Tree((A,))], About("RUN")))
    await at.wait()
    adding.cancel()
    await asyncio.wait([adding])
    assert keeper.leases == {}


@pytest.mark.parametrize("pauses", range(12))
async def test_a_removal_that_is_cancelled_anywhere_leaves_no_lease_without_a_row(
    results: Results, keeper: FakeKeeper, pauses: int
) -> None:
    added = [await results.add(Digest.of(b"%d" % each), [Tree((A, B))], About("RUN")) for each in range(3)]
    ids = [name for each in added for name in each.ids]
    await results.let_go(ids)
    removing = asyncio.create_task(results.remove(ids))
    for _ in range(pauses):
        await asyncio.sleep(0)
    removing.cancel()
    await asyncio.wait([removing])
    assert set(keeper.leases) == {each.id for each in await results.records()}


async def test_a_lease_that_cannot_be_released_is_released_later(results: Results, keeper: FakeKeeper) -> None:
    added = await results.add(ONE, [Tree((A,))], About("RUN"))
    await results.let_go(added.ids)
    release = keeper.release

    async def refuse(ids: Sequence[str]) -> None:
        raise UnavailableError("imaged is away")

    keeper.release = refuse  # type: ignore[method-assign]
    with pytest.raises(UnavailableError):
        await results.remove(added.ids)
    keeper.release = release  # type: ignore[method-assign]
    assert keeper.leases
    await results.remove([])
    assert keeper.leases == {}


# Kills -------------------------------------------------------


class MortalKeeper:
    """A keeper that outlives whoever asks it."""

    def __init__(self, inner: FakeKeeper, steps: Steps) -> None:
        self._inner = inner
        self._steps = steps

    async def keep(self, id: str, layers: Sequence[Layer]) -> None:
        self._steps.step("keep")
        await self._inner.keep(id, layers)
        self._steps.step("kept")

    async def release(self, ids: Sequence[str]) -> None:
        for each in ids:
            self._steps.step("release")
            await self._inner.release([each])

    async def kept(self) -> Collection[str]:
        return await self._inner.kept()


async def live(results: Results) -> None:
    """What a builder does with its results in a life."""
    one = await results.add(ONE, [Tree((A, B)), Tree()], About("RUN"), Digest.of(b"quick"))
    other = await results.add(OTHER, [Tree((A, C))], About("RUN"))
    await results.let_go(one.ids)
    again = await results.add(ONE, [Tree((A, B)), Tree((C,))], About("RUN"))  # takes the place of the first
    await results.let_go((*other.ids, *again.ids))
    await results.remove(other.ids)


async def count_steps(path: Path) -> int:
    steps = Steps()
    MortalStore.steps = steps
    async with MortalStore(path / "cache.db", "buildd.schema", durable=False) as store:
        await live(Results(store, MortalKeeper(FakeKeeper(), steps), lambda: 1))
    return len(steps.taken)


async def test_a_kill_between_any_two_steps_leaves_rows_and_leases_that_match(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    count = await count_steps(tmp_path / "whole")
    assert count > 20
    for number in range(count):
        path = tmp_path / str(number)
        path.mkdir()
        keeper, steps = FakeKeeper(), Steps()
        MortalStore.steps = steps
        steps.arm(number, lambda: None)
        async with MortalStore(path / "cache.db", "buildd.schema", durable=False) as store:
            with pytest.raises(KilledError):
                await live(Results(store, MortalKeeper(keeper, steps), lambda: 1))
        async with opened(path, keeper) as results:
            await results.recover()
            records = await results.records()
            assert {each.id: each.layers for each in records if each.layers} == keeper.leases, number
            for key in (ONE, OTHER):
                found = await results.find(key)
                if found is not None:
                    assert set(found.ids) <= {each.id for each in records}
                    await results.let_go(found.ids)
            # It goes on as if nothing had been.
            await live(results)
            assert len(keeper.leases) == 2


async def test_a_lost_lease_takes_its_row_along(tmp_path: Path) -> None:
    keeper = FakeKeeper()
    async with opened(tmp_path, keeper) as results:
        await results.add(ONE, [Tree((A,))], About("RUN"))
        await results.add(OTHER, [Tree()], About("RUN"))
    keeper.leases.clear()
    keeper.leases["stray"] = (B,)
    async with opened(tmp_path, keeper) as results:
        await results.recover()
        assert await results.find(ONE) is None
        assert await results.find(OTHER) is not None  # an empty tree needs no lease
        assert keeper.leases == {}
