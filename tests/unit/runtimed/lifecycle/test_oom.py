"""Kills for want of memory are told while a container runs, each once, whatever becomes of the engine meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtimed.containers.memory_store import Entry
from sampan.resource.container import Status
from sampan.resource.container_spec import RestartPolicy
from sampan.store.database import Store
from tests.fakes.lifecycle import EngineParts, World, patch_kernel, until


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


def adopted(engine: EngineParts) -> Entry:
    (entry,) = engine.memory
    return entry


async def test_a_kill_is_told_at_once_and_each_kill_once(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        assert engine.happened() == ["start"]
        for count in (1, 2):
            world.machine.kill_for_memory(entry.container, 1)
            await until(lambda: engine.happened().count("oom") == count)  # noqa: B023  # awaited in the same turn
        assert (entry.status, entry.container.state.oom_killed) == (Status.RUNNING, False)
        await world.machine.end(entry.id, 7)
        await entry.down.wait()
        assert engine.happened() == ["start", "oom", "oom", "die"]
        assert (entry.container.state.exit_code, entry.container.state.oom_killed) == (7, True)


async def test_a_run_without_a_kill_says_nothing_of_the_one_before(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        world.machine.kill_for_memory(entry.container, 1)
        await world.machine.end(entry.id, 137)
        await entry.down.wait()
        assert engine.happened() == ["start", "oom", "die"]
        await engine.lifecycle.start(entry)
        await world.machine.end(entry.id, 0)
        await entry.down.wait()
        assert engine.happened()[3:] == ["start", "die"]
        assert not entry.container.state.oom_killed


async def test_the_next_engine_tells_what_happened_meanwhile_and_nothing_twice(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        world.machine.kill_for_memory(entry.container, 2)
        await until(lambda: "oom" in engine.happened())
        assert engine.happened() == ["start", "oom", "oom"]
    world.machine.kill_for_memory(entry.container, 3)
    async with world.engine() as engine:
        assert engine.happened() == ["oom", "oom", "oom"]
    async with world.engine() as engine:
        assert engine.happened() == []
        world.machine.kill_for_memory(entry.container, 1)
        await until(lambda: engine.happened() == ["oom"])


async def test_one_that_ended_for_want_of_memory_while_no_engine_ran_is_known_for_it(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
    world.machine.kill_for_memory(entry.container, 1)
    await world.machine.end(entry.id, 137)
    async with world.engine() as engine:
        entry = adopted(engine)
        await until(lambda: entry.status is Status.EXITED)
        assert engine.happened() == ["oom", "die"]
        assert entry.container.state.oom_killed


async def test_what_cannot_be_recorded_as_told_is_told_once_as_long_as_the_engine_lives(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        (engine.paths.container(entry.id).bundle / "oom-told").mkdir()
        for count in (1, 2, 3):
            world.machine.kill_for_memory(entry.container, 1)
            await until(lambda: engine.happened().count("oom") == count)  # noqa: B023  # awaited in the same turn
        await world.machine.end(entry.id, 0)
        await entry.down.wait()
        assert engine.happened() == ["start", "oom", "oom", "oom", "die"]


async def test_a_container_that_is_killed_in_without_end_floods_nobody(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        world.machine.kill_for_memory(entry.container, 100_000)
        await until(lambda: "oom" in engine.happened())
        await asyncio.sleep(0)
        assert engine.happened().count("oom") == 64
        world.machine.kill_for_memory(entry.container, 1)
        await until(lambda: engine.happened().count("oom") == 65)
