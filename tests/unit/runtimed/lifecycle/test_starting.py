"""What is asked of a container whose process runs already, while its start is not recorded yet."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from runtimed.containers.memory_store import Entry
from runtimed.lifecycle.runner import Started
from sampan.errors import ConflictError, NotModifiedError, SampanError, StartError
from sampan.resource.container import Status
from sampan.resource.container_spec import RestartPolicy
from sampan.store.database import Store
from tests.fakes.lifecycle import EngineParts, FakeRunner, World, patch_kernel


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with Store(tmp_path / "metadata.db", "runtimed.schema", durable=False) as store:
        made = World(store, tmp_path)
        patch_kernel(monkeypatch, made)
        yield made
        await made.machine.cut()


Ask = Callable[[EngineParts, Entry], Awaitable[None]]
ASKED: dict[str, tuple[Ask, type[SampanError] | None]] = {
    "kill": (lambda engine, entry: engine.lifecycle.kill(entry, ""), ConflictError),
    "stop": (lambda engine, entry: engine.lifecycle.stop(entry, 0, ""), NotModifiedError),
    "kill and wait": (lambda engine, entry: engine.lifecycle.kill_and_wait(entry), None),
}


class SlowStart:
    """A runtime that takes its time to say that the process runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, fails: bool = False) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        start = FakeRunner.start

        async def slow(runner: FakeRunner, entry: Entry) -> Started:
            started = await start(runner, entry)
            self.begun.set()
            await self.go_on.wait()
            if fails:
                raise StartError("no such file")
            return started

        monkeypatch.setattr(FakeRunner, "start", slow)


@pytest.mark.parametrize("asked", ASKED)
async def test_whatever_ends_it_waits_for_the_start(world: World, monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    slow = SlowStart(monkeypatch)
    async with world.engine() as engine:
        entry = await engine.make(RestartPolicy())
        starting = asyncio.create_task(engine.lifecycle.start(entry))
        await slow.begun.wait()
        asking = asyncio.ensure_future(ASKED[asked][0](engine, entry))
        await asyncio.sleep(0)
        slow.go_on.set()
        await starting
        await asking
        assert entry.status is Status.EXITED


@pytest.mark.parametrize("asked", ASKED)
async def test_after_a_start_that_failed_it_does_not_run(
    world: World, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    slow = SlowStart(monkeypatch, fails=True)
    async with world.engine() as engine:
        entry = await engine.make(RestartPolicy())
        starting = asyncio.create_task(engine.lifecycle.start(entry))
        await slow.begun.wait()
        ask, error = ASKED[asked]
        asking = asyncio.ensure_future(ask(engine, entry))
        slow.go_on.set()
        with pytest.raises(StartError):
            await starting
        results = await asyncio.gather(asking, return_exceptions=True)
        assert [type(result) for result in results] == [error or type(None)]
        assert entry.status is Status.CREATED
