"""Who holds a container still lets it go, however that ends."""

import asyncio
import errno
from pathlib import Path

import pytest

from runtimed.containers.memory_store import Entry
from sampan.errors import ConflictError
from sampan.resource.container import Status
from tests.fakes.runtimed_engine import Engine, World


async def running(engine: Engine) -> Entry:
    entry = await engine.make()
    await engine.lifecycle.start(entry)
    return entry


async def hold(engine: Engine, entry: Entry, holding: asyncio.Event) -> None:
    async with engine.lifecycle.pauses.held(entry):
        holding.set()
        await asyncio.Event().wait()


async def test_a_container_is_frozen_while_it_is_held_and_goes_on_afterwards(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        async with engine.lifecycle.pauses.held(entry):
            assert (entry.status, world.host.frozen) == (Status.PAUSED, {entry.id})
        assert (entry.status, world.host.frozen) == (Status.RUNNING, set())
        assert engine.happened()[-2:] == ["pause", "unpause"]


async def test_a_holder_that_is_cancelled_lets_it_go_also_while_it_is_being_frozen(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        holding, gate = asyncio.Event(), asyncio.Event()
        world.host.gates["freeze"] = gate
        holder = asyncio.create_task(hold(engine, entry, holding))
        await engine.until(lambda: "freeze" in world.host.waiting)
        holder.cancel()
        await asyncio.sleep(0)
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await holder
        assert not holding.is_set()
        assert (entry.status, world.host.frozen) == (Status.RUNNING, set())


async def test_two_holders_at_once_share_and_the_last_one_lets_it_go(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        async with engine.lifecycle.pauses.held(entry):
            async with engine.lifecycle.pauses.held(entry):
                pass
            assert world.host.frozen == {entry.id}
        assert (entry.status, world.host.frozen) == (Status.RUNNING, set())


async def test_a_container_that_somebody_paused_stays_paused_when_it_was_held(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        await engine.lifecycle.pauses.pause(entry)
        async with engine.lifecycle.pauses.held(entry):
            pass
        assert (entry.status, world.host.frozen) == (Status.PAUSED, {entry.id})


async def test_who_lets_a_held_container_go_on_is_not_undone(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        async with engine.lifecycle.pauses.held(entry):
            await engine.lifecycle.pauses.unpause(entry)
            await engine.lifecycle.pauses.pause(entry)
        assert (entry.status, world.host.frozen) == (Status.PAUSED, {entry.id})


async def test_a_held_container_can_be_stopped(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        async with engine.lifecycle.pauses.held(entry):
            await engine.lifecycle.stop(entry, 5, "")
            assert entry.status is Status.EXITED
        assert entry.status is Status.EXITED


async def test_an_engine_that_is_killed_holds_nothing_and_keeps_what_was_paused(world: World) -> None:
    async with world.engine() as engine:
        held, paused = await running(engine), await engine.make(name="other")
        await engine.lifecycle.start(paused)
        await engine.lifecycle.pauses.pause(paused)
        world.host.frozen.discard(paused.id)  # killed between its record and the freezer
        holding = asyncio.Event()
        engine.background.watch(hold(engine, held, holding), "holder")
        await holding.wait()
    assert world.host.frozen == {held.id}
    async with world.engine() as engine:
        await engine.until(lambda: engine.memory.find(held.id).status is Status.RUNNING)
        assert engine.memory.find(paused.id).status is Status.PAUSED
        assert world.host.frozen == {paused.id}


async def test_a_container_that_cannot_be_frozen_is_as_before(world: World) -> None:
    world.host.fails["freeze"] = ConflictError("no freezer")
    async with world.engine() as engine:
        entry = await running(engine)
        with pytest.raises(ConflictError, match="no freezer"):
            async with engine.lifecycle.pauses.held(entry):
                pass
        with pytest.raises(ConflictError, match="no freezer"):
            await engine.lifecycle.pauses.pause(entry)
        assert entry.status is Status.RUNNING
        assert "pause" not in engine.happened()


async def test_a_container_whose_files_somebody_mounted_over_is_dead_and_goes_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy", str(path))

    async with world.engine() as engine:
        entry = await engine.make()
        with monkeypatch.context() as patched:
            patched.setattr("runtimed.lifecycle.removal.remove_tree", refuse)
            with pytest.raises(ConflictError, match=f"unable to remove filesystem for {entry.id}.*resource busy"):
                await engine.containers.remove(entry, force=False, volumes=False)
        assert entry.status is Status.DEAD
        await engine.containers.remove(entry, force=False, volumes=False)
        assert engine.one() is None
