"""Which records go."""

import asyncio
import random
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildd.cache.bounds import Bounds, PruneRule
from buildd.cache.collector import BuildCache, policy
from buildd.cache.model import Record, RecordType
from buildd.cache.prune import DiskSpace, choose, record_filter
from sampan.build.filters import PruneLimits, prune_options
from sampan.build.request import PruneOptions
from sampan.disk import Holder, Root
from sampan.errors import InvalidArgumentError
from sampan.oci.chain import chain_ids
from sampan.resource.snapshot import SnapshotUsage
from sampan.sys.measuring import Usage
from tests.fakes.buildd import layer

DISK = DiskSpace(1000, 500)
HOUR_NS = 3600 * 10**9
NOW_NS = 1000 * HOUR_NS

BASE = Record("base", RecordType.REGULAR, "FROM base", 1, NOW_NS - 9 * HOUR_NS, size_bytes=100)
STEP = Record("step", RecordType.REGULAR, "RUN make", 2, NOW_NS - 5 * HOUR_NS, parents=("base",), size_bytes=50)
AFTER = Record("after", RecordType.REGULAR, "RUN test", 3, NOW_NS - 1 * HOUR_NS, parents=("step",), size_bytes=20)
CACHE = Record("cache", RecordType.CACHE_MOUNT, "cached mount", 4, NOW_NS - 7 * HOUR_NS, size_bytes=30, mutable=True)
ALL = [BASE, STEP, AFTER, CACHE]


def chosen(records: Sequence[Record] = ALL, disk: DiskSpace = DISK, **options: object) -> list[str]:
    return [each.id for each in choose(records, PruneOptions(**options), disk, NOW_NS)]  # type: ignore[arg-type]


def test_everything_goes_and_nothing_before_what_was_made_of_it() -> None:
    assert chosen() == ["cache", "after", "step", "base"]


def test_what_is_in_use_stays_with_all_that_it_was_made_of() -> None:
    assert chosen([BASE, STEP, replace(AFTER, in_use=True), CACHE]) == ["cache"]
    assert chosen([BASE, replace(STEP, in_use=True), AFTER, CACHE], all=True) == ["cache", "after"]


def test_what_was_used_lately_stays() -> None:
    assert chosen(keep_duration_ns=6 * HOUR_NS) == ["cache"]  # the base is old, and what was made of it is not
    assert chosen(filters=("until==6h",)) == ["cache"]


def test_shared_and_internal_records_go_only_with_all() -> None:
    records = [replace(BASE, shared=True), replace(CACHE, type=RecordType.INTERNAL)]
    assert chosen(records) == []
    assert chosen(records, all=True) == ["base", "cache"]


@pytest.mark.parametrize(
    ("filters", "accepted"),
    [
        (("id==step",), ["step"]),
        (("id~=^st",), ["step"]),
        (("type==exec.cachemount",), ["cache"]),
        (("type!=exec.cachemount",), ["base", "step", "after"]),
        (("parents==step",), ["after"]),
        (("parents",), ["step", "after"]),
        (("description~=make|test",), ["step", "after"]),
        (("mutable",), ["cache"]),
        (("immutable",), ["base", "step", "after"]),
        (("private",), ["base", "step", "cache"]),
        (("shared",), ["after"]),
        (("inuse",), ["base"]),
        (("inuse==true",), ["base"]),
        (("private,immutable", "id==cache"), ["base", "step", "cache"]),
        (("until==6h",), ["base", "cache"]),
        (("until==6h", "type==regular"), ["base"]),
        (("nothing==there",), []),
    ],
)
def test_filters_are_buildkits(filters: tuple[str, ...], accepted: list[str]) -> None:
    accept = record_filter(filters, NOW_NS)
    records = [replace(BASE, in_use=True), STEP, replace(AFTER, shared=True), CACHE]
    assert [each.id for each in records if accept(each)] == accepted


@pytest.mark.parametrize(
    ("filters", "accepted"),
    [
        ({"inuse": ["1"]}, ["base"]),
        ({"inuse": ["0"]}, ["step", "after", "cache"]),
        ({"shared": ["false"], "mutable": ["0"]}, ["base", "step"]),
        ({"private": ["0"]}, ["after"]),
        ({"type": ["regular"], "description": ["make|test"]}, ["step", "after"]),
        ({"id": ['a"b']}, []),
    ],
)
def test_docker_s_filters_are_understood(filters: dict[str, list[str]], accepted: list[str]) -> None:
    accept = record_filter(prune_options(filters, PruneLimits()).filters, NOW_NS)
    records = [replace(BASE, in_use=True), STEP, replace(AFTER, shared=True), CACHE]
    assert [each.id for each in records if accept(each)] == accepted


@pytest.mark.parametrize("text", ["type=regular", "until==soon", "id~=("])
def test_a_filter_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        record_filter((text,), NOW_NS)


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({"max_used_bytes": 200}, []),
        ({"max_used_bytes": 180}, ["cache"]),
        ({"max_used_bytes": 150}, ["cache", "after"]),
        ({"max_used_bytes": 10, "reserved_bytes": 155}, ["cache", "after"]),
        ({"reserved_bytes": 170}, ["cache"]),
        ({"min_free_bytes": 400}, []),
        ({"min_free_bytes": 510}, ["cache"]),
        ({"min_free_bytes": 10_000, "reserved_bytes": 120}, ["cache", "after", "step"]),
        ({"max_used_bytes": 1}, ["cache", "after", "step", "base"]),
    ],
)
def test_limits_take_the_least_recently_used_first(options: dict[str, int], ids: list[str]) -> None:
    assert chosen(**options) == ids  # type: ignore[arg-type]


@st.composite
def caches(draw: st.DrawFn) -> list[Record]:
    count = draw(st.integers(0, 12))
    return [
        Record(
            str(n),
            draw(st.sampled_from(list(RecordType))),
            "",
            n,
            draw(st.integers(0, 5)),
            parents=tuple(map(str, draw(st.sets(st.integers(0, n - 1), max_size=2)))) if n else (),
            size_bytes=draw(st.integers(0, 10)),
            in_use=draw(st.booleans()),
            shared=draw(st.booleans()),
        )
        for n in range(count)
    ]


@given(caches(), st.integers(0, 40), st.booleans(), st.randoms(use_true_random=False))
def test_no_record_goes_before_its_children(
    records: list[Record], most: int, everything: bool, order: random.Random
) -> None:
    shuffled = records.copy()
    order.shuffle(shuffled)
    options = PruneOptions(max_used_bytes=most, all=everything)
    gone: set[str] = set()
    for each in choose(shuffled, options, DISK, 100):
        assert not each.in_use
        assert all(child.id in gone for child in records if each.id in child.parents)
        gone.add(each.id)
    assert [each.id for each in choose(records, options, DISK, 100)] == [
        each.id for each in choose(shuffled, options, DISK, 100)
    ]


@given(caches(), st.data())
def test_whatever_was_made_from_whatever_all_of_it_can_go(records: list[Record], data: st.DataObject) -> None:
    """A copy may lead to the very record that it was copied from: keys are of content."""
    anew = st.sets(st.sampled_from([each.id for each in records]), max_size=3) if records else st.just(set[str]())
    circles = [replace(each, parents=tuple(sorted(data.draw(anew))), in_use=False) for each in records]
    gone = [each.id for each in choose(circles, PruneOptions(all=True), DISK, 100)]
    assert sorted(gone) == sorted(each.id for each in records)


class FakeShelf:
    def __init__(self, records: Sequence[Record]) -> None:
        self.held = {each.id: each for each in records}

    async def records(self) -> Sequence[Record]:
        return list(self.held.values())

    async def remove(self, ids: Collection[str]) -> Collection[str]:
        return [each for each in ids if self.held.pop(each, None)]


class CountedStorage:
    """Layers a, b, c of 10, 20 and 40 bytes; an image has a and b."""

    stack = tuple(layer({name: b""}) for name in "abc")

    async def usages(self, *, committed: bool = False) -> Sequence[SnapshotUsage]:
        chain = chain_ids(each.diff_id for each in self.stack)
        return [
            SnapshotUsage(chain[n], chain[n - 1] if n else None, Usage(10 << n, 1), each.diff_id, 1)
            for n, each in enumerate(self.stack)
        ]

    async def roots(self) -> Sequence[Root]:
        return [
            Root(Holder("image"), tuple(each.diff_id for each in self.stack[:2])),
            Root(Holder("lease"), tuple(each.diff_id for each in self.stack)),
        ]


def cache(path: Path, *shelves: FakeShelf, bounds: Bounds | None = None) -> BuildCache:
    storage = CountedStorage()
    return BuildCache(shelves, storage, storage, path, lambda: NOW_NS, bounds)


A, B, C = CountedStorage.stack


async def test_a_layer_counts_once_and_what_an_image_has_is_shared(tmp_path: Path) -> None:
    records = [replace(STEP, layers=(A, B)), replace(BASE, layers=(A,)), replace(AFTER, layers=(A, B, C)), CACHE]
    used = {each.id: each for each in await cache(tmp_path, FakeShelf(records[:3]), FakeShelf([CACHE])).usage()}
    assert {name: (each.size_bytes, each.shared) for name, each in used.items()} == {
        "base": (10, True),
        "step": (20, True),
        "after": (40, False),
        "cache": (30, False),
    }
    assert used["after"].parents == ("step",)
    assert used["cache"].mutable


async def test_a_prune_tells_what_is_gone(tmp_path: Path) -> None:
    trees, caches = FakeShelf([BASE, STEP, AFTER]), FakeShelf([CACHE])
    built = cache(tmp_path, trees, caches)
    gone = [each.id async for each in built.prune(PruneOptions(filters=("type==exec.cachemount", "id==after")))]
    assert gone == ["cache", "after"]
    assert set(trees.held) == {"base", "step"}
    assert [each.id async for each in built.prune(PruneOptions())] == ["step", "base"]


async def test_a_service_that_is_being_restarted_is_waited_for(tmp_path: Path) -> None:
    class Away(CountedStorage):
        here = False

        async def usages(self, *, committed: bool = False) -> Sequence[SnapshotUsage]:
            assert self.here
            return await super().usages(committed=committed)

    async def reach() -> None:
        storage.here = True

    storage = Away()
    built = BuildCache([FakeShelf([BASE])], storage, storage, tmp_path, lambda: NOW_NS, reach=reach)
    assert [each.id async for each in built.prune(PruneOptions())] == ["base"]


async def test_the_policy_takes_what_is_cheap_and_old_first_and_more_than_the_bounds_last(tmp_path: Path) -> None:
    old = replace(CACHE, used_ns=NOW_NS - 72 * HOUR_NS, size_bytes=600_000_000)
    shelf = FakeShelf([BASE, old])
    bounds = Bounds(reserved_bytes=1, max_used_bytes=1 << 60, min_free_bytes=1)
    assert await cache(tmp_path, shelf, bounds=bounds).keep_within_bounds() == 600_000_000
    assert set(shelf.held) == {"base"}
    assert await cache(tmp_path, shelf, bounds=replace(bounds, max_used_bytes=99)).keep_within_bounds() == 100
    assert await cache(tmp_path, shelf).keep_within_bounds() == 0


def test_the_bounds_follow_the_disk() -> None:
    gigabyte = 10**9
    limits = policy(Bounds(), 50 * gigabyte)[2]
    assert (limits.reserved_bytes, limits.max_used_bytes, limits.min_free_bytes) == (
        5 * gigabyte,
        30 * gigabyte,
        10 * gigabyte,
    )
    assert policy(Bounds(), 5000 * gigabyte)[2].max_used_bytes == 100 * gigabyte


async def test_the_cache_prunes_by_itself_when_it_may_have_grown(tmp_path: Path) -> None:
    class Telling(FakeShelf):
        async def remove(self, ids: Collection[str]) -> Collection[str]:
            removed = await super().remove(ids)
            if not self.held:
                done.set()
            return removed

    done = asyncio.Event()
    shelf = Telling([BASE, STEP])
    storage = CountedStorage()
    async with BuildCache([shelf], storage, storage, tmp_path, lambda: NOW_NS, Bounds(1, 1, 1), pause_s=0) as built:
        built.poke()
        await done.wait()
    assert shelf.held == {}


async def test_what_was_used_lately_can_be_left_out(tmp_path: Path) -> None:
    records = FakeShelf([replace(BASE, used_ns=NOW_NS - 10), replace(STEP, used_ns=NOW_NS - 100)])
    assert [each.id for each in await cache(tmp_path, records).usage((), 50)] == ["step"]
    assert len(await cache(tmp_path, records).usage((), 0)) == 2


def test_rules_of_the_configuration_are_the_policy() -> None:
    rule = PruneRule(filters=("type==source.local", "private"), unused_for_s=60, max_used_bytes=7).options
    assert rule == PruneOptions(("type==source.local,private",), keep_duration_ns=60 * 10**9, max_used_bytes=7)
    assert policy(Bounds(rules=(rule,)), 1 << 40) == (rule,)
    for bad in (PruneRule(filters=("type==",)), PruneRule(filters=('a=="',)), PruneRule(reserved_bytes=-1)):
        with pytest.raises(InvalidArgumentError, match=r"^cache_policy: "):
            _ = bad.options
