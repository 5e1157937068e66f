"""Kills for want of memory are told while a container runs, each once, whatever becomes of the engine meanwhile."""

import asyncio

from runtimed.containers.memory_store import Entry
from sampan.resource.container import Status
from tests.fakes.runtimed_engine import Engine, World


async def running(engine: Engine) -> Entry:
    entry = await engine.make()
    await engine.lifecycle.start(entry)
    return entry


def adopted(engine: Engine) -> Entry:
    (entry,) = engine.memory
    return entry


async def test_a_kill_is_told_at_once_and_each_kill_once(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        assert engine.happened() == ["create", "start"]
        for count in (1, 2):
            world.host.kill_for_memory(entry.container, 1)
            await engine.until(lambda: engine.happened().count("oom") == count)  # noqa: B023  # awaited in the same turn
        assert (entry.status, entry.container.state.oom_killed) == (Status.RUNNING, False)
        world.host.first(entry.id).end(7)
        await entry.down.wait()
        assert engine.happened() == ["create", "start", "oom", "oom", "die"]
        assert (entry.container.state.exit_code, entry.container.state.oom_killed) == (7, True)


async def test_a_run_without_a_kill_says_nothing_of_the_one_before(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        world.host.kill_for_memory(entry.container, 1)
        world.host.first(entry.id).end(137)
        await entry.down.wait()
        assert engine.happened() == ["create", "start", "oom", "die"]
        await engine.lifecycle.start(entry)
        world.host.first(entry.id).end(0)
        await entry.down.wait()
        assert engine.happened()[4:] == ["start", "die"]
        assert not entry.container.state.oom_killed


async def test_the_next_engine_tells_what_happened_meanwhile_and_nothing_twice(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        world.host.kill_for_memory(entry.container, 2)
        await engine.until(lambda: "oom" in engine.happened())
        assert engine.happened() == ["create", "start", "oom", "oom"]
    world.host.kill_for_memory(entry.container, 3)
    async with world.engine() as engine:
        assert engine.happened() == ["oom", "oom", "oom"]
    async with world.engine() as engine:
        assert engine.happened() == []
        world.host.kill_for_memory(entry.container, 1)
        await engine.until(lambda: engine.happened() == ["oom"])


async def test_one_that_ended_for_want_of_memory_while_no_engine_ran_is_known_for_it(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
    world.host.kill_for_memory(entry.container, 1)
    world.host.first(entry.id).end(137)
    async with world.engine() as engine:
        entry = adopted(engine)
        await engine.until(lambda: entry.status is Status.EXITED)
        assert engine.happened() == ["oom", "die"]
        assert entry.container.state.oom_killed


async def test_what_cannot_be_recorded_as_told_is_told_once_as_long_as_the_engine_lives(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        (engine.paths.container(entry.id).bundle / "oom-told").mkdir()
        for count in (1, 2, 3):
            world.host.kill_for_memory(entry.container, 1)
            await engine.until(lambda: engine.happened().count("oom") == count)  # noqa: B023  # awaited in the same turn
        world.host.first(entry.id).end(0)
        await entry.down.wait()
        assert engine.happened() == ["create", "start", "oom", "oom", "oom", "die"]


async def test_a_container_that_is_killed_in_without_end_floods_nobody(world: World) -> None:
    async with world.engine() as engine:
        entry = await running(engine)
        world.host.kill_for_memory(entry.container, 100_000)
        await engine.until(lambda: "oom" in engine.happened())
        await asyncio.sleep(0)
        assert engine.happened().count("oom") == 64
        world.host.kill_for_memory(entry.container, 1)
        await engine.until(lambda: engine.happened().count("oom") == 65)
