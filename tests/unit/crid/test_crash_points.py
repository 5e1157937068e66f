"""crid is killed between any two of its steps; the next one finds what was to be, or nothing of it."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from crid.containers.containers import Selection as Wanted
from crid.model.security import NamespaceMode, NamespaceOption
from crid.sandboxes.sandboxes import Selection
from sampan.resource.container import Status
from tests.fakes.crashes import KilledError, Steps
from tests.unit.crid.world import Life, World, container, pod

SHARED = NamespaceOption(pid=NamespaceMode.POD)


async def only(life: Life) -> str:
    (one,) = life.sandboxes.everything()
    return one.id


async def run(life: Life) -> None:
    await life.run(pod(options=SHARED))


async def fill(life: Life) -> None:
    await run(life)
    await life.containers.start(await life.containers.create(await only(life), container(), None))


async def create(life: Life) -> None:
    await life.containers.create(await only(life), container(), None)


async def remove_container(life: Life) -> None:
    for view in await life.containers.select(Wanted()):
        await life.containers.remove(view.record.id)


async def stop(life: Life) -> None:
    await life.sandboxes.stop(await only(life))


async def remove(life: Life) -> None:
    await life.sandboxes.remove(await only(life))


Act = Callable[[Life], Awaitable[None]]


async def nothing(life: Life) -> None:
    """Begin without anything."""


@pytest.mark.parametrize(
    ("before", "act"),
    [(nothing, run), (run, create), (fill, remove_container), (fill, stop), (fill, remove)],
    ids=["run", "create", "remove container", "stop", "remove"],
)
async def test_whatever_a_kill_leaves_is_made_good_and_the_same_call_works_again(
    before: Act, act: Act, tmp_path: Path
) -> None:
    step = 0
    while await killed_at(tmp_path / str(step), before, act, step):
        step += 1
    assert step > 1


async def killed_at(root: Path, before: Act, act: Act, step: int) -> bool:
    """Kill ``act`` at a step; return whether it came to that."""
    root.mkdir()
    world = World(root)
    killed = False
    steps = Steps()
    async with world.life(steps) as life:
        await before(life)
        steps.arm(step, lambda: None)
        try:
            await act(life)
        except KilledError:
            killed = True
    # A recovery may be killed as well, at each of its steps.
    for again in range(12 if killed else 0):
        steps = Steps()
        steps.arm(again, lambda: None)
        try:
            async with world.life(steps):
                break
        except KilledError:
            pass
    async with world.life() as life:
        await consistent(world, life)
        if not life.sandboxes.everything() and act is not remove:
            await before(life)
        if life.sandboxes.everything() or act is run:
            await act(life)
        await consistent(world, life)
        for one in life.sandboxes.everything():
            await life.sandboxes.remove(one.id)
    machine = world.machine
    assert (machine.made, machine.networks, machine.containers) == ({}, {}, {})
    return killed


async def consistent(world: World, life: Life) -> None:
    """See that everything on the machine is some sandbox's, and that what is ready is whole."""
    machine, known = world.machine, {each.id: each for each in life.sandboxes.everything()}
    assert machine.made.keys() <= known.keys()
    assert machine.networks.keys() <= known.keys()
    views = await life.containers.select(Wanted())
    shown = {view.record.id for view in views} | {one.infra for one in known.values()} - {""}
    assert machine.containers.keys() == shown
    for one in life.sandboxes.select(Selection(ready=True)):
        assert machine.made[one.id]
        assert machine.networks[one.id] == one.addresses[0]
        assert machine.containers[one.infra].state.status is Status.RUNNING
