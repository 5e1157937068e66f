"""Who holds a container still lets it go, however that ends."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtimed.containers.memory_store import Entry
from runtimed.lifecycle.pauses import Pauses
from sampan.errors import ConflictError
from sampan.resource.container import Status
from sampan.resource.container_spec import RestartPolicy
from sampan.store.database import Store
from tests.fakes.lifecycle import EngineParts, FakeRuntime, World, patch_kernel, until


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with Store(tmp_path / "metadata.db", "runtimed.schema", durable=False) as store:
        made = World(store, tmp_path)
        patch_kernel(monkeypatch, made)
        yield made
        await made.machine.cut()


async def running(engine: EngineParts) -> Entry:
    entry = await engine.make(RestartPolicy())
    await engine.lifecycle.start(entry)
    return entry


async def hold(engine: EngineParts, entry: Entry, holding: asyncio.Event) -> None:
    async with engine.lifecycle.pauses.held(entry):
        holding.set()
        await asyncio.Event().wait()


async def test_a_container_is_frozen_while_it_is_held_and_goes_on_afterwards(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        async with engine.lifecycle.pauses.held(entry):
            assert (entry.status, world.machine.paused) == (Status.PAUSED, {entry.id})
        assert (entry.status, world.machine.paused) == (Status.RUNNING, set())
        assert engine.happened()[-2:] == ["pause", "unpause"]


async def test_a_holder_that_is_cancelled_lets_it_go_also_while_it_is_being_frozen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        holding, gate, freezing = asyncio.Event(), asyncio.Event(), asyncio.Event()
        freeze = FakeRuntime.pause

        async def slow(self: FakeRuntime, id: str, bundle: Path) -> None:
            freezing.set()
            await gate.wait()
            await freeze(self, id, bundle)

        monkeypatch.setattr(FakeRuntime, "pause", slow)
        holder = asyncio.create_task(hold(engine, entry, holding))
        await freezing.wait()
        holder.cancel()
        await asyncio.sleep(0)
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await holder
        assert not holding.is_set()
        assert (entry.status, world.machine.paused) == (Status.RUNNING, set())


async def test_two_holders_at_once_share_and_the_last_one_lets_it_go(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        async with engine.lifecycle.pauses.held(entry):
            async with engine.lifecycle.pauses.held(entry):
                pass
            assert world.machine.paused == {entry.id}
        assert (entry.status, world.machine.paused) == (Status.RUNNING, set())


async def test_a_container_that_somebody_paused_stays_paused_when_it_was_held(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        await engine.lifecycle.pauses.pause(entry)
        async with engine.lifecycle.pauses.held(entry):
            pass
        assert (entry.status, world.machine.paused) == (Status.PAUSED, {entry.id})


async def test_who_lets_a_held_container_go_on_is_not_undone(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        async with engine.lifecycle.pauses.held(entry):
            await engine.lifecycle.pauses.unpause(entry)
            await engine.lifecycle.pauses.pause(entry)
        assert (entry.status, world.machine.paused) == (Status.PAUSED, {entry.id})


async def test_a_held_container_can_be_stopped(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        async with engine.lifecycle.pauses.held(entry):
            await engine.lifecycle.stop(entry, 5, "")
            assert entry.status is Status.EXITED
        assert entry.status is Status.EXITED


async def test_an_engine_that_is_killed_holds_nothing_and_keeps_what_was_paused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(self: Pauses, entry: Entry, holder: object) -> None:
        raise ConflictError("a process that is killed does nothing at last")

    async with world.engine() as engine:
        held, paused = await running(engine), await engine.make(RestartPolicy(), "b")
        await engine.lifecycle.start(paused)
        await engine.lifecycle.pauses.pause(paused)
        world.machine.paused.discard(paused.id)  # killed between its record and the freezer
        holding = asyncio.Event()
        holder = engine.background.watch(hold(engine, held, holding), "holder")
        await holding.wait()
        with monkeypatch.context() as patched:
            patched.setattr(Pauses, "_let_go", killed)
            holder.cancel()
            await asyncio.wait({holder})
    assert world.machine.paused == {held.id}
    async with world.engine() as engine:
        await until(lambda: engine.memory.find(held.id).status is Status.RUNNING)
        assert engine.memory.find(paused.id).status is Status.PAUSED
        assert world.machine.paused == {paused.id}


async def test_a_container_that_cannot_be_frozen_is_as_before(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(self: FakeRuntime, id: str, bundle: Path) -> None:
        raise ConflictError("no freezer")

    monkeypatch.setattr(FakeRuntime, "pause", refuse)
    async with world.engine() as engine:
        entry = await running(engine)
        with pytest.raises(ConflictError, match="no freezer"):
            async with engine.lifecycle.pauses.held(entry):
                pass
        with pytest.raises(ConflictError, match="no freezer"):
            await engine.lifecycle.pauses.pause(entry)
        assert entry.status is Status.RUNNING
        assert "pause" not in engine.happened()
