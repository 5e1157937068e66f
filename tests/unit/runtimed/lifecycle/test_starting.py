"""What is asked of a container whose process runs already, while its start is not recorded yet."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from runtimed.containers.memory_store import Entry
from sampan.errors import ConflictError, NotModifiedError, SampanError, StartError
from sampan.resource.container import Status
from tests.fakes.runtimed_engine import Engine, World

Ask = Callable[[Engine, Entry], Awaitable[None]]
ASKED: dict[str, tuple[Ask, type[SampanError] | None]] = {
    "kill": (lambda engine, entry: engine.lifecycle.kill(entry, ""), ConflictError),
    "stop": (lambda engine, entry: engine.lifecycle.stop(entry, 0, ""), NotModifiedError),
    "kill and wait": (lambda engine, entry: engine.lifecycle.kill_and_wait(entry), None),
}


@pytest.mark.parametrize("asked", ASKED)
async def test_whatever_ends_it_waits_for_the_start(world: World, asked: str) -> None:
    async with world.engine() as engine:
        entry = await engine.make()
        starting = await begin(engine, entry)
        asking = asyncio.ensure_future(ASKED[asked][0](engine, entry))
        await asyncio.sleep(0)
        engine.host.gates.pop("start in runtime").set()
        await starting
        await asking
        assert entry.status is Status.EXITED


@pytest.mark.parametrize("asked", ASKED)
async def test_after_a_start_that_failed_it_does_not_run(world: World, asked: str) -> None:
    async with world.engine() as engine:
        entry = await engine.make()
        starting = await begin(engine, entry)
        ask, error = ASKED[asked]
        asking = asyncio.ensure_future(ask(engine, entry))
        engine.host.fails["start in runtime"] = StartError("no such file")
        engine.host.gates.pop("start in runtime").set()
        with pytest.raises(StartError):
            await starting
        results = await asyncio.gather(asking, return_exceptions=True)
        assert [type(result) for result in results] == [error or type(None)]
        assert entry.status is Status.CREATED
        assert engine.host.alive() == []


async def begin(engine: Engine, entry: Entry) -> "asyncio.Task[None]":
    """Start it, with a runtime that takes its time to say that the process runs; return once it does run."""
    engine.host.gates["start in runtime"] = asyncio.Event()
    starting = asyncio.create_task(engine.lifecycle.start(entry))
    await engine.until(lambda: "start in runtime" in engine.host.waiting)
    return starting
