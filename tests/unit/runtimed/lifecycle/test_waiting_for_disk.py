"""What of a container's life waits for the disk, and what a power cut leaves of what does not."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from runtimed.containers.memory_store import Entry
from sampan.resource.container import Status
from sampan.store.database import Store
from tests.fakes.runtimed_engine import Engine, World, patch_kernel

T = TypeVar("T")


class WatchedStore(Store):
    """Counts the transactions that wait for the disk."""

    waited = 0

    async def write(self, fn: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        self.waited += durable
        return await super().write(fn, durable=durable)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[WatchedStore]:
    async with WatchedStore(tmp_path / "metadata.db", "runtimed.schema", durable=False) as store:
        yield store


@pytest.fixture
def world(store: WatchedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(store, tmp_path)
    patch_kernel(monkeypatch, lambda: made.host)
    return made


async def end(engine: Engine, entry: Entry) -> None:
    engine.host.first(entry.id).end(0)
    await engine.until(lambda: entry.status is Status.EXITED or engine.memory.by_id(entry.id) is None)
    await engine.settle()


async def test_what_goes_with_its_process_waits_for_no_disk(store: WatchedStore, world: World) -> None:
    async with world.engine() as engine:
        before = store.waited
        entry = await engine.make(auto_remove=True)
        await engine.lifecycle.start(entry)
        await end(engine, entry)
        assert engine.one() is None
        assert store.waited == before


@pytest.mark.parametrize(("how", "passes"), [({"auto_remove": True}, True), ({"owner": "cri"}, False), ({}, False)])
async def test_only_the_root_of_what_goes_with_its_process_is_left_to_the_power_cut(
    world: World, how: dict[str, object], passes: bool
) -> None:
    async with world.engine() as engine:
        entry = await engine.make(**how)  # type: ignore[arg-type]  # of a spec, by name
        await engine.lifecycle.start(entry)
        (root,) = (mount for mount in engine.host.mounts.values() if mount.source != "shm")
        assert ("volatile" in root.options) is passes


async def test_what_stays_waits_once_for_each_state_that_a_client_is_told(store: WatchedStore, world: World) -> None:
    async with world.engine() as engine:
        waits = []
        for act in (engine.make, lambda: engine.lifecycle.start(engine.memory.find("web"))):
            before = store.waited
            await act()
            waits.append(store.waited - before)
        before = store.waited
        await end(engine, engine.memory.find("web"))
        assert [*waits, store.waited - before] == [1, 1, 1]


async def test_a_pod_s_container_waits_for_its_end_alone(store: WatchedStore, world: World) -> None:
    async with world.engine() as engine:
        before = store.waited
        entry = await engine.make(owner="cri")
        await engine.lifecycle.start(entry)
        assert store.waited == before
        await end(engine, entry)
        assert store.waited == before + 1
        await engine.containers.remove(entry, force=False, volumes=True)
        assert store.waited == before + 1


@pytest.mark.parametrize("how", [{"auto_remove": True}, {"owner": "cri"}, {}])
async def test_what_waits_for_no_disk_and_was_left_without_its_snapshot_is_removed(
    world: World, how: dict[str, object]
) -> None:
    async with world.engine() as engine:
        await engine.make(**how)  # type: ignore[arg-type]  # of a spec, by name
    world.host.snapshots.clear()  # a power cut took it: the snapshotter's database is another one
    async with world.engine() as engine:
        await engine.settle()
        assert (engine.one() is None) == bool(how)


async def test_what_passes_and_was_made_stays_to_be_started(world: World) -> None:
    async with world.engine() as engine:
        await engine.make(auto_remove=True)
    async with world.engine() as engine:
        await engine.settle()
        await engine.lifecycle.start(engine.memory.find("web"))
        assert engine.memory.find("web").status is Status.RUNNING
