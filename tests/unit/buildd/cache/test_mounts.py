"""Directories of cache mounts."""

import asyncio
import itertools
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio

from buildd.cache.model import RecordType
from buildd.cache.mounts import CacheMounts, _make
from buildd.llb.ops import CacheMount, Sharing
from buildd.protocol import Tree
from sampan.errors import NotFoundError
from sampan.oci.digest import Digest
from sampan.store.database import Store
from sampan.sys.trees import remove_tree
from tests.fakes.buildd import FakeFileWorker, FakeWorld, layer
from tests.fakes.crashes import KilledError, Steps
from tests.unit.buildd.cache.mortal import MortalStore

T = TypeVar("T")

BASE = Tree((layer({"a": b""}),))


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[CacheMounts]:
    times = itertools.count(1)
    files = FakeFileWorker(FakeWorld(), root=path / "base")
    async with Store(path / "cache.db", "buildd.schema", durable=False) as store:
        mounts = CacheMounts(path / "mounts", store, files, lambda: next(times))
        await mounts.recover()
        yield mounts


@pytest_asyncio.fixture
async def mounts(tmp_path: Path) -> AsyncIterator[CacheMounts]:
    async with opened(tmp_path) as made:
        yield made


async def directory(
    mounts: CacheMounts,
    name: str = "c",
    sharing: Sharing = Sharing.SHARED,
    base: Tree | None = None,
    selector: str = "",
) -> Path:
    """Where a mount is; it is left at once."""
    key = None if base is None else Digest.of(repr(base).encode())
    async with mounts.mounted(CacheMount(name, sharing), base, key, selector, "a mount") as path:
        return path


async def test_one_name_is_one_directory(mounts: CacheMounts) -> None:
    assert await directory(mounts) == await directory(mounts)
    assert await directory(mounts) != await directory(mounts, "d")


@pytest.mark.parametrize("name", ["../../etc", "/etc", "..", ".", "", "a/b", "\0", "x" * 5000])
async def test_no_name_is_a_part_of_a_path(mounts: CacheMounts, tmp_path: Path, name: str) -> None:
    path = await directory(mounts, name)
    assert path.parent == tmp_path / "mounts"
    assert path.name.isalnum()
    assert path == await directory(mounts, name)


async def test_shared_mounts_are_one_directory_at_the_same_time(mounts: CacheMounts) -> None:
    async with mounts.mounted(CacheMount("c"), None, None, "", "") as one:
        assert await directory(mounts) == one


async def test_private_mounts_are_directories_of_their_own_that_are_used_again(mounts: CacheMounts) -> None:
    async with mounts.mounted(CacheMount("c", Sharing.PRIVATE), None, None, "", "") as one:
        other = await directory(mounts, sharing=Sharing.PRIVATE)
        assert other != one
    assert await directory(mounts, sharing=Sharing.PRIVATE) in (one, other)
    assert len(await mounts.records()) == 2


async def test_a_locked_mount_is_waited_for(mounts: CacheMounts) -> None:
    locked = CacheMount("c", Sharing.LOCKED)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(mounts.mounted(locked, None, None, "", ""))
        waiting = asyncio.create_task(directory(mounts, sharing=Sharing.LOCKED))
        await directory(mounts, "another")
        assert not waiting.done()
    assert await waiting == one


async def test_a_mount_begins_with_what_it_is_told(mounts: CacheMounts, tmp_path: Path) -> None:
    source = tmp_path / "base" / "sub"
    source.mkdir(parents=True)
    (source / "file").write_bytes(b"begins")
    (source / "link").symlink_to("/etc/passwd")
    source.chmod(0o750)
    path = await directory(mounts, base=BASE, selector="sub")
    assert (path / "file").read_bytes() == b"begins"
    assert os.readlink(path / "link") == "/etc/passwd"
    assert path.stat().st_mode & 0o777 == 0o750
    (path / "file").write_bytes(b"changed")
    assert path == await directory(mounts, base=BASE, selector="sub")
    assert (path / "file").read_bytes() == b"changed"
    assert path != await directory(mounts)


async def test_a_link_in_what_it_begins_with_stays_inside(mounts: CacheMounts, tmp_path: Path) -> None:
    (tmp_path / "base" / "etc").mkdir(parents=True)
    (tmp_path / "base" / "etc" / "own").write_bytes(b"")
    (tmp_path / "base" / "out").symlink_to("/../../etc")
    path = await directory(mounts, base=BASE, selector="out")
    assert os.listdir(path) == ["own"]


async def test_what_it_should_begin_with_may_be_missing(mounts: CacheMounts, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    with pytest.raises(NotFoundError, match='"nothing": not found'):
        await directory(mounts, base=BASE, selector="nothing")
    assert os.listdir(tmp_path / "mounts") == []
    assert await mounts.records() == []


async def test_a_mount_is_counted_with_what_is_in_it(mounts: CacheMounts) -> None:
    path = await directory(mounts)
    (path / "file").write_bytes(b"x" * 100_000)
    await directory(mounts)
    (record,) = await mounts.records()
    assert record.type is RecordType.CACHE_MOUNT
    assert record.size_bytes >= 100_000
    assert (record.uses, record.mutable, record.in_use, record.description) == (2, True, False, "a mount")
    (again,) = await mounts.records()
    assert again == record


async def test_a_mount_in_use_stays(mounts: CacheMounts) -> None:
    async with mounts.mounted(CacheMount("c"), None, None, "", "") as path:
        (record,) = await mounts.records()
        assert record.in_use
        assert not await mounts.remove([record.id])
        assert path.exists()
    assert list(await mounts.remove([record.id])) == [record.id]
    assert not path.exists()
    assert await directory(mounts) != path


async def test_a_start_removes_what_has_no_row_and_rows_without_a_directory(tmp_path: Path) -> None:
    async with opened(tmp_path) as mounts:
        kept, lost = await directory(mounts, "kept"), await directory(mounts, "lost")
    lost.rmdir()
    (tmp_path / "mounts" / "new-half" / "deep").mkdir(parents=True)
    (tmp_path / "mounts" / "stray").write_bytes(b"")
    async with opened(tmp_path) as mounts:
        assert os.listdir(tmp_path / "mounts") == [kept.name]
        assert [each.id for each in await mounts.records()] == [kept.name]
        assert await directory(mounts, "kept") == kept


async def test_a_mount_that_goes_while_it_is_looked_up_is_made_anew(mounts: CacheMounts) -> None:
    path = await directory(mounts)
    one, gone = await asyncio.gather(directory(mounts), mounts.remove([path.name]))
    assert (one == path) == (not gone)
    assert one.exists()


async def live(mounts: CacheMounts) -> None:
    """What a builder does with cache mounts in a life."""
    await directory(mounts, "one", base=BASE, selector="sub")
    await directory(mounts, "one", base=BASE, selector="sub")
    other = await directory(mounts, "other")
    (other / "deep" / "er").mkdir(parents=True, exist_ok=True)
    await mounts.records()
    await mounts.remove([other.name])
    await directory(mounts, "other")


async def test_a_kill_between_any_two_steps_leaves_rows_and_directories_that_match(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mortal(name: str, do: Callable[..., None]) -> None:
        def step(*arguments: object) -> None:
            MortalStore.steps.step(f"before {name}")
            do(*arguments)
            MortalStore.steps.step(f"after {name}")

        monkeypatch.setattr(f"buildd.cache.mounts.{name}", step)

    mortal("_make", _make)
    mortal("remove_tree", remove_tree)

    async def one_life(path: Path) -> None:
        files = FakeFileWorker(FakeWorld(), root=path / "base")
        async with MortalStore(path / "cache.db", "buildd.schema", durable=False) as store:
            mounts = CacheMounts(path / "mounts", store, files, itertools.count(1).__next__)
            await mounts.recover()
            await live(mounts)

    def place(name: str) -> Path:
        (tmp_path / name / "base" / "sub" / "below").mkdir(parents=True)
        return tmp_path / name

    MortalStore.steps = Steps()
    await one_life(place("whole"))
    count = len(MortalStore.steps.taken)
    assert count > 20
    for number in range(count):
        MortalStore.steps = Steps()
        MortalStore.steps.arm(number, lambda: None)
        path = place(str(number))
        with pytest.raises(KilledError):
            await one_life(path)
        MortalStore.steps = Steps()
        async with opened(path) as mounts:
            there = set(os.listdir(path / "mounts"))
            assert {each.id for each in await mounts.records()} == there, number
            assert all(each.isalnum() for each in there)
            await live(mounts)
            assert len(await mounts.records()) == 2


class SlowStore(Store):
    """One whose transactions wait when they are to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "buildd.schema", durable=False)
        self.waiting = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def write(self, fn: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        if not self.go_on.is_set():
            self.waiting.set()
            await self.go_on.wait()
        return await super().write(fn, durable=durable)


@asynccontextmanager
async def slow(path: Path) -> AsyncIterator[tuple[CacheMounts, SlowStore]]:
    times = itertools.count(1)
    async with SlowStore(path / "cache.db") as store:
        mounts = CacheMounts(path / "mounts", store, FakeFileWorker(FakeWorld()), lambda: next(times))
        await mounts.recover()
        yield mounts, store


async def cancelled(work: Coroutine[None, None, object], store: SlowStore) -> None:
    """Cancel some work while it waits for a transaction; then let that go on."""
    store.go_on.clear()
    running = asyncio.create_task(work)
    async with asyncio.timeout(60):
        await store.waiting.wait()
    running.cancel()
    await asyncio.sleep(0)
    store.go_on.set()
    await asyncio.wait({running})
    assert running.cancelled()


async def test_a_build_cancelled_while_its_directory_is_made_leaves_none_that_prune_does_not_find(
    tmp_path: Path,
) -> None:
    async with slow(tmp_path) as (mounts, store):
        await cancelled(directory(mounts), store)
        listed = {each.id for each in await mounts.records()}
        assert {path.name for path in (tmp_path / "mounts").iterdir()} == listed
        assert set(await mounts.remove(listed)) == listed
        assert not list((tmp_path / "mounts").iterdir())


async def test_a_build_cancelled_while_it_takes_a_directory_does_not_keep_it_in_use(tmp_path: Path) -> None:
    async with slow(tmp_path) as (mounts, store):
        name = (await directory(mounts)).name
        await cancelled(directory(mounts), store)
        assert [each.in_use for each in await mounts.records()] == [False]
        assert await mounts.remove([name]) == [name]


async def test_a_prune_that_is_cancelled_leaves_no_directory_without_a_row(tmp_path: Path) -> None:
    async with slow(tmp_path) as (mounts, store):
        names = [(await directory(mounts, each)).name for each in "ab"]
        await cancelled(mounts.remove(names), store)
        assert await mounts.records() == []
        assert not list((tmp_path / "mounts").iterdir())
