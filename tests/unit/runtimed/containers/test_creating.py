"""Creations whose snapshotter goes away, and who asks for their names meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from runtimed.containers.store import Intent
from sampan.errors import ConflictError, ImageMountError, UnavailableError
from sampan.resource.container import Status
from sampan.resource.container_spec import ContainerSpec, Mount, MountType, Process
from sampan.store.database import Store
from tests.fakes.runtimed_engine import Engine, World, check_consistent, patch_kernel

SPEC = ContainerSpec(name="web", chain_id="base", process=Process(cmd=("serve",)), anonymous_volumes=("/data",))
GONE = UnavailableError("a service of the engine went away")


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with Store(tmp_path / "metadata.db", "runtimed.schema", durable=False) as store:
        made = World(store, tmp_path)
        patch_kernel(monkeypatch, lambda: made.host)
        yield made


async def begun(engine: Engine, spec: ContainerSpec = SPEC) -> "asyncio.Task[object]":
    """Begin a creation that waits for the snapshotter; return it as soon as its name is taken."""
    engine.host.gates["prepare snapshot"] = asyncio.Event()
    creation: asyncio.Task[object] = asyncio.create_task(engine.containers.create(spec))
    await engine.until(lambda: len(engine.memory) > 0)
    return creation


async def asked(engine: Engine) -> "asyncio.Task[object]":
    """Ask for the same name, and let that come as far as it can."""
    again: asyncio.Task[object] = asyncio.create_task(engine.containers.create(SPEC))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not again.done()
    return again


async def test_a_name_in_use_by_a_creation_that_fails_is_given_to_who_asked_for_it_meanwhile(world: World) -> None:
    async with world.engine() as engine:
        first = await begun(engine)
        again = await asked(engine)
        engine.host.fails["prepare snapshot"] = GONE
        engine.host.gates.pop("prepare snapshot").set()
        with pytest.raises(UnavailableError):
            await first
        del engine.host.fails["prepare snapshot"]
        await again
        assert engine.memory.find("web").status is Status.CREATED
        check_consistent(engine)


async def test_a_name_is_said_to_be_in_use_by_a_container_that_is_there(world: World) -> None:
    async with world.engine() as engine:
        first = await begun(engine)
        again = await asked(engine)
        engine.host.gates.pop("prepare snapshot").set()
        with pytest.raises(ConflictError) as refused:
            await again
        assert engine.memory.find("web").id in str(refused.value)
        await first
        check_consistent(engine)


async def test_of_many_creations_of_one_name_one_succeeds(world: World) -> None:
    async with world.engine() as engine:
        outcomes = await asyncio.gather(
            *(engine.containers.create(SPEC) for _ in range(8)), return_exceptions=True
        )  # fmt: skip
        assert sum(isinstance(outcome, ConflictError) for outcome in outcomes) == 7
        check_consistent(engine)


async def test_a_container_cannot_take_the_name_of_one_that_is_being_created(world: World) -> None:
    async with world.engine() as engine:
        await engine.containers.create(replace(SPEC, name="other"))
        creation = await begun(engine)
        await engine.until(lambda: len(engine.memory) == 2)
        renaming = asyncio.create_task(engine.containers.rename(engine.memory.find("other"), "web"))
        engine.host.gates.pop("prepare snapshot").set()
        with pytest.raises(ConflictError, match="already in use"):
            await renaming
        await creation


async def test_the_name_of_a_creation_that_a_kill_broke_off_is_free_when_it_is_undone(world: World) -> None:
    async with world.engine() as engine:
        creation = await begun(engine)
        await engine.die()
        await asyncio.gather(creation, return_exceptions=True)
    world.host.gates["remove snapshot"] = asyncio.Event()
    async with world.engine() as engine:
        world.host.gates.pop("prepare snapshot")
        again = await asked(engine)
        world.host.gates.pop("remove snapshot").set()
        await again
        await engine.settle()
        assert engine.memory.find("web").status is Status.CREATED
        check_consistent(engine)


async def test_a_creation_that_cannot_be_undone_leaves_what_can_be_removed(world: World) -> None:
    async with world.engine() as engine:
        engine.host.fails |= {"prepare snapshot": GONE, "remove snapshot": GONE}
        with pytest.raises(UnavailableError):
            await engine.containers.create(SPEC)
        left = engine.memory.find("web")
        assert left.status is Status.DEAD
        with pytest.raises(ConflictError, match="already in use"):
            await engine.containers.create(SPEC)
        engine.host.fails.clear()
        await engine.containers.remove(left, force=True, volumes=True)
        assert (engine.one(), engine.host.volumes) == (None, {})
        check_consistent(engine)


async def test_a_creation_that_cannot_be_undone_is_undone_at_the_next_start(world: World) -> None:
    async with world.engine() as engine:
        engine.host.fails |= {"prepare snapshot": GONE, "remove snapshot": GONE}
        with pytest.raises(UnavailableError):
            await engine.containers.create(SPEC)
        left = engine.one()
        assert left is not None
        assert left.intent is Intent.REMOVING
        engine.host.fails.clear()
    async with world.engine() as engine:
        await engine.settle()
        assert (engine.one(), engine.host.volumes) == (None, {})
        check_consistent(engine)


async def test_a_part_that_an_image_does_not_have_is_refused_when_a_pod_s_container_is_made(world: World) -> None:
    mount = Mount(MountType.IMAGE, "/data", "busybox", read_only=True, subpath="no/such", chain_id="base")
    async with world.engine() as engine:
        with pytest.raises(ImageMountError, match="'no/such' of image busybox: there is no such path in it"):
            await engine.containers.create(replace(SPEC, owner="cri", mounts=(mount,)))
        assert not len(engine.memory)
        assert not engine.host.mounts
        check_consistent(engine)
        await engine.containers.create(replace(SPEC, mounts=(mount,)))  # Docker says so at the start
