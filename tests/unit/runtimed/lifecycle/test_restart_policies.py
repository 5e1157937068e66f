"""Which containers run after the engine's start, by their policy and what was done to them before.

The table is what dockerd 20.10 does on the same steps: behind a start of the engine alone, and behind a power cut.
"""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from runtimed.containers.memory_store import Entry
from sampan.resource.container import Status
from sampan.resource.container_spec import RestartPolicy
from tests.fakes.runtimed_engine import Engine, World, check_consistent

Step = Callable[[Engine, World, Entry], Awaitable[None]]


async def start(engine: Engine, world: World, entry: Entry) -> None:
    await engine.lifecycle.start(entry)


async def stop(engine: Engine, world: World, entry: Entry) -> None:
    await engine.lifecycle.stop(entry, 5, "")


async def restart(engine: Engine, world: World, entry: Entry) -> None:
    await engine.lifecycle.restart(entry, 5, "")


async def kill(engine: Engine, world: World, entry: Entry) -> None:
    await engine.lifecycle.kill(entry, "")


async def harmless_signal(engine: Engine, world: World, entry: Entry) -> None:
    await engine.lifecycle.kill(entry, "WINCH")


async def succeeds(engine: Engine, world: World, entry: Entry) -> None:
    entry.stop_requested = True  # no restart: the next engine decides
    world.host.first(entry.id).end(0)
    await engine.until(lambda: entry.status is Status.EXITED)


async def fails(engine: Engine, world: World, entry: Entry) -> None:
    entry.stop_requested = True
    world.host.first(entry.id).end(1)
    await engine.until(lambda: entry.status is Status.EXITED)


RUNS: tuple[tuple[tuple[Step, ...], str], ...] = (
    # steps, and the policies with which it runs after the next start of the engine, the power having gone
    ((), ""),
    ((start,), "always unless-stopped on-failure"),
    ((start, stop), "always on-failure"),  # its process does not take SIGTERM for a success
    ((start, kill), "always on-failure"),
    ((start, stop, start), "always unless-stopped on-failure"),
    ((start, restart), "always unless-stopped on-failure"),
    ((start, stop, restart), "always unless-stopped on-failure"),
    ((start, harmless_signal), "always on-failure"),
    ((start, succeeds), "always unless-stopped"),
    ((start, fails), "always unless-stopped on-failure"),
)


@pytest.mark.parametrize("policy", ["no", "always", "unless-stopped", "on-failure"])
@pytest.mark.parametrize(("steps", "runs"), RUNS)
async def test_what_runs_after_a_power_cut(world: World, policy: str, steps: tuple[Step, ...], runs: str) -> None:
    async with world.engine() as engine:
        entry = await engine.make(RestartPolicy(policy))
        for step in steps:
            await step(engine, world, entry)
    world.host.cut()
    async with world.engine() as engine:
        found = engine.memory.find(entry.id)
        await engine.settle()
        wanted = Status.RUNNING if policy in runs.split() else (Status.EXITED if steps else Status.CREATED)
        assert (found.status, found.container.restart_count) == (wanted, 0)
        check_consistent(engine)


@pytest.mark.parametrize("policy", ["always", "unless-stopped", "on-failure"])
async def test_an_engines_start_ends_what_was_asked_of_the_run_before(world: World, policy: str) -> None:
    """Stopped, started by the engine, and the power goes: it runs again, as if nobody had ever stopped it."""
    async with world.engine() as engine:
        entry = await engine.make(RestartPolicy(policy))
        await engine.lifecycle.start(entry)
        await engine.lifecycle.stop(entry, 5, "")
    async with world.engine() as engine:
        found = engine.memory.find(entry.id)
        if policy == "unless-stopped":
            assert found.status is Status.EXITED
            await engine.lifecycle.start(found)
        await engine.until(lambda: found.status is Status.RUNNING)
        assert not found.stopped_by_request
    world.host.cut()
    async with world.engine() as engine:
        found = engine.memory.find(entry.id)
        await engine.settle()
        assert found.status is Status.RUNNING


@pytest.mark.parametrize("policy", ["always", "unless-stopped", "on-failure"])
async def test_a_container_that_runs_through_the_engines_end_is_restarted_when_it_fails(
    world: World, policy: str
) -> None:
    async with world.engine() as engine:
        entry = await engine.make(RestartPolicy(policy))
        await engine.lifecycle.start(entry)
    async with world.engine() as engine:
        found = engine.memory.find(entry.id)
        assert found.status is Status.RUNNING
        world.host.first(entry.id).end(1)
        await engine.until(lambda: found.status is Status.RUNNING and found.container.restart_count == 1)


@pytest.mark.parametrize(
    ("stop_signal", "sent", "again"),
    [
        ("", "HUP", False),  # no signal is named for stopping: any may be meant so
        ("", "USR1", False),
        ("SIGTERM", "HUP", True),
        ("SIGHUP", "HUP", False),
        ("SIGTERM", "KILL", False),
    ],
)
async def test_whether_a_signal_that_ends_it_is_taken_for_a_wish(
    world: World, stop_signal: str, sent: str, again: bool
) -> None:
    async with world.engine() as engine:
        entry = await engine.make(RestartPolicy("always"), stop_signal=stop_signal)
        await engine.lifecycle.start(entry)
        await engine.lifecycle.kill(entry, sent)
        if again:
            await engine.until(lambda: entry.container.restart_count == 1 and entry.status is Status.RUNNING)
        else:
            await engine.until(lambda: entry.status is Status.EXITED)


async def test_two_restarts_at_once_of_a_container_with_auto_remove_leave_it(world: World) -> None:
    async with world.engine() as engine:
        entry = await engine.make(RestartPolicy(), auto_remove=True)
        await engine.lifecycle.start(entry)
        await asyncio.gather(*(engine.lifecycle.restart(entry, 5, "") for _ in range(3)))
        assert engine.memory.find(entry.id).status is Status.RUNNING


@pytest.mark.parametrize("left", ["bundle", "exit file", "socket", "nothing"])
async def test_what_a_run_left_whose_clearing_was_cut_short_is_cleared_at_the_next_start(
    world: World, left: str
) -> None:
    async with world.engine() as engine:
        entry = await engine.make()
        await engine.lifecycle.start(entry)
        await engine.lifecycle.kill(entry, "")
    paths = engine.paths.container(entry.id)
    if left == "bundle":
        paths.bundle.mkdir(parents=True)
    elif left == "exit file":
        paths.exit_file.write_text("137")
    elif left == "socket":
        (engine.paths.sockets / paths.token).symlink_to("/nowhere")
    async with world.engine() as engine:
        assert ("detach network" in engine.steps.taken) is (left != "nothing")
        check_consistent(engine)
