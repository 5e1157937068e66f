"""Passes: one at a time, at the start, every so often, and when asked; what they count."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence

import pytest
from prometheus_client import CollectorRegistry

from sampan.disk import HOLD, IMAGE, LEASE, ORPHAN, Freed, Holder, StoredObject
from sampan.errors import UnavailableError
from sampan.service.passes import Passes


class Things:
    """Satisfies ``Collector``: things that go one after another."""

    kinds = ("thing",)

    def __init__(self) -> None:
        self.there = 3
        self.fail: Exception | None = None
        self.running = 0
        self.most = 0
        self.leftovers: list[bool] = []
        self.passed = asyncio.Event()

    async def collect(self, *, leftovers: bool) -> Mapping[str, Freed]:
        self.running += 1
        self.most = max(self.most, self.running)
        self.leftovers.append(leftovers)
        try:
            await asyncio.sleep(0)
            if self.fail is not None:
                raise self.fail
            gone, self.there = self.there, 0
            return {"thing": Freed(gone, 10 * gone)}
        finally:
            self.running -= 1
            self.passed.set()

    async def objects(self, *, measure: bool) -> AsyncGenerator[Sequence[StoredObject], None]:
        assert not measure
        yield [StoredObject("thing", str(number), 10) for number in range(self.there)]
        yield [StoredObject("kept", "a", 5, (Holder(IMAGE, "i"),))]


def counted(registry: CollectorRegistry, trigger: str, outcome: str) -> float:
    return registry.get_sample_value("sampan_gc_runs_total", {"trigger": trigger, "outcome": outcome}) or 0


async def test_passes_that_are_asked_for_at_once_run_one_after_another() -> None:
    things, registry = Things(), CollectorRegistry()
    passes = Passes(things, registry, 0)
    done = await asyncio.gather(*(passes.run(leftovers=number == 1) for number in range(4)))
    assert things.most == 1
    assert sorted(one.reclaimed_bytes for one in done) == [0, 0, 0, 30]
    assert sum(things.leftovers) == 1
    assert counted(registry, "request", "done") == 4
    assert registry.get_sample_value("sampan_gc_freed_objects_total", {"kind": "thing"}) == 3
    assert registry.get_sample_value("sampan_gc_freed_bytes_total", {"kind": "thing"}) == 30
    assert registry.get_sample_value("sampan_gc_seconds_count") == 4
    assert registry.get_sample_value("sampan_store_bytes", {"kind": "kept", "owner": IMAGE}) == 5


async def test_the_first_pass_comes_by_itself_and_further_ones_after_the_interval() -> None:
    things, registry = Things(), CollectorRegistry()
    async with Passes(things, registry, 0.001, first_s=0):
        for _ in range(3):
            await asyncio.wait_for(things.passed.wait(), 60)
            things.passed.clear()
    assert counted(registry, "start", "done") == 1
    assert counted(registry, "timer", "done") >= 1


@pytest.mark.parametrize("failure", [UnavailableError("imaged does not answer"), ValueError("a bug")])
async def test_a_pass_that_fails_by_itself_does_not_end_those_to_come(failure: Exception) -> None:
    things, registry = Things(), CollectorRegistry()
    things.fail = failure
    async with Passes(things, registry, 0.001, first_s=0):
        await asyncio.wait_for(things.passed.wait(), 60)
        things.fail = None
        while not registry.get_sample_value("sampan_gc_last_run_timestamp_seconds"):
            things.passed.clear()
            await asyncio.wait_for(things.passed.wait(), 60)
            await asyncio.sleep(0)
    assert counted(registry, "start", "failed") == 1
    assert things.there == 0


async def test_who_asks_for_a_pass_learns_why_it_failed() -> None:
    things, registry = Things(), CollectorRegistry()
    things.fail = UnavailableError("imaged does not answer")
    with pytest.raises(UnavailableError, match="does not answer"):
        await Passes(things, registry, 0).run()
    assert counted(registry, "request", "failed") == 1


def test_the_owner_is_the_one_who_needs_it_longest() -> None:
    holders = Holder(HOLD, expires_ns=1), Holder(LEASE, "l"), Holder(IMAGE, "i")
    assert StoredObject("blob", "x", 1, holders).owner == IMAGE
    assert StoredObject("blob", "x", 1, holders[:2]).owner == LEASE
    assert StoredObject("blob", "x", 1).owner == ORPHAN
