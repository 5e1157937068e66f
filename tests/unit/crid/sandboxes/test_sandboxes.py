"""The life of pod sandboxes."""

import asyncio
from dataclasses import replace

import pytest

from crid.model.security import NamespaceMode, NamespaceOption
from crid.sandboxes.sandboxes import Selection
from sampan.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, UnavailableError
from sampan.resource.container import Status
from tests.unit.crid.world import World, container, pod

SHARED = NamespaceOption(pid=NamespaceMode.POD)
HOST = NamespaceOption(NamespaceMode.NODE, NamespaceMode.NODE)


async def test_a_sandbox_that_runs_is_ready_and_has_the_address_that_plugins_gave(world: World) -> None:
    async with world.life() as crid:
        made = await crid.run(pod(labels={"app": "web"}))
        one = crid.sandboxes.get(made)
        assert one.ready
        assert one.addresses == ("10.0.0.2",)
        (request,) = crid.networks.requests
        assert (request.name, request.namespace, request.uid, request.dns) == ("web", "default", "uid-web", None)
        assert str(request.netns) == f"/run/test/{made}/ns/net"
        assert crid.sandboxes.get(made[:5]) == one


async def test_a_pod_of_the_host_s_network_asks_no_plugin(world: World) -> None:
    async with world.life() as crid:
        made = await crid.run(pod(options=HOST))
        assert crid.sandboxes.get(made).addresses == ()
        await crid.sandboxes.remove(made)
    assert world.machine.networks == {}


async def test_asked_twice_for_the_same_sandbox_it_is_the_same_and_another_one_is_refused(world: World) -> None:
    async with world.life() as crid:
        made = await crid.run(pod())
        assert await crid.run(pod()) == made
        with pytest.raises(AlreadyExistsError, match=f"{made} has the name web_default_uid-web_0"):
            await crid.run(pod(labels={"other": "1"}))
        assert await crid.run(pod(attempt=1)) != made


async def test_two_that_ask_at_once_get_one_sandbox(world: World) -> None:
    async with world.life() as crid:
        first, second = await asyncio.gather(crid.run(pod()), crid.run(pod()))
        assert first == second
    assert len(world.machine.made) == 1


@pytest.mark.parametrize("what", ["host.make", "networks.add", "host.name"])
async def test_a_sandbox_that_cannot_be_made_leaves_nothing_and_may_be_asked_for_again(world: World, what: str) -> None:
    async with world.life() as crid:
        world.machine.refuse[what] = OSError(28, "No space left on device", "/x")
        with pytest.raises(UnavailableError, match="No space left on device"):
            await crid.run(pod())
        assert crid.sandboxes.everything() == []
        assert (world.machine.made, world.machine.networks) == ({}, {})
        world.machine.refuse.clear()
        assert crid.sandboxes.get(await crid.run(pod())).ready


async def test_a_sandbox_whose_caller_leaves_is_taken_back(world: World) -> None:
    async with world.life() as crid:
        waiting = asyncio.Event()

        async def hang(pod: object, prepare: object) -> None:
            waiting.set()
            await asyncio.Event().wait()

        crid.networks.add = hang  # type: ignore[assignment, method-assign]
        asking = asyncio.create_task(crid.run(pod()))
        await waiting.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert crid.sandboxes.everything() == []
    assert world.machine.made == {}


async def test_a_stop_kills_containers_takes_the_network_back_and_may_be_asked_for_again(world: World) -> None:
    async with world.life() as crid:
        made = await crid.run(pod())
        inner = await crid.containers.create(made, container(), None)
        await crid.containers.start(inner)
        await crid.sandboxes.stop(made)
        assert world.machine.containers[inner].state.status is Status.EXITED
        assert world.machine.networks == {}
        assert not crid.sandboxes.get(made).ready
        await crid.sandboxes.stop(made)
        assert [each.id for each in crid.sandboxes.select(Selection(ready=False))] == [made]


async def test_a_removal_takes_containers_along_and_what_is_gone_may_be_stopped_and_removed(world: World) -> None:
    async with world.life() as crid:
        made = await crid.run(pod())
        await crid.containers.create(made, container(), None)
        await crid.sandboxes.remove(made)
        await crid.sandboxes.remove(made)
        await crid.sandboxes.stop(made)
        with pytest.raises(NotFoundError, match="no pod sandbox"):
            crid.sandboxes.get(made)
    assert (world.machine.made, world.machine.networks, world.machine.containers) == ({}, {}, {})


async def test_a_sandbox_whose_network_is_not_taken_back_stays_until_it_is(world: World) -> None:
    async with world.life() as crid:
        made = await crid.run(pod())
        world.machine.refuse["networks.remove"] = UnavailableError("plugins hang")
        for ask in (crid.sandboxes.stop, crid.sandboxes.remove):
            with pytest.raises(UnavailableError, match="plugins hang"):
                await ask(made)
        assert not crid.sandboxes.get(made).ready
        world.machine.refuse.clear()
        await crid.sandboxes.remove(made)
    assert (world.machine.made, world.machine.networks) == ({}, {})


async def test_plugins_that_hang_hold_up_neither_a_refusal_nor_a_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crid.sandboxes.sandboxes._PATIENCE_S", 0.01)
    asked = []

    async def hang(sandbox: str) -> None:
        asked.append(sandbox)
        await asyncio.Event().wait()

    async with world.life() as crid, asyncio.timeout(60):
        crid.networks.remove = hang  # type: ignore[method-assign]
        world.machine.refuse["networks.add"] = UnavailableError("no network")
        with pytest.raises(UnavailableError, match="no network"):
            await crid.run(pod())
        assert len(asked) == 1
        assert crid.sandboxes.everything() == []
    assert world.machine.made == {}


async def test_a_sandbox_that_cannot_be_made_good_at_once_is_told_and_holds_up_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crid.sandboxes.sandboxes._RECOVERY_S", 0.05)
    async with world.life() as crid:
        made = [await crid.run(pod(name)) for name in ("a", "b")]
        stop = crid.networks.remove

        async def hang(sandbox: str) -> None:
            if sandbox == made[0]:
                await asyncio.Event().wait()
            await stop(sandbox)

        world.machine.made.clear()  # a reboot
        crid.networks.remove = hang  # type: ignore[method-assign]
        failed = await crid.sandboxes.recover()
        assert list(failed) == made[:1]
        assert "took more than" in failed[made[0]]
        assert [crid.sandboxes.get(each).ready for each in made] == [False, False]
        crid.networks.remove = stop  # type: ignore[method-assign]
        await crid.sandboxes.stop(made[0])
        assert world.machine.networks == {}


async def test_a_shared_pid_namespace_is_held_by_a_container_that_nobody_is_shown(world: World) -> None:
    async with world.life() as crid:
        made = await crid.run(pod(options=SHARED))
        infra = world.machine.containers[crid.sandboxes.get(made).infra]
        assert (infra.state.status, infra.spec.init, infra.spec.namespaces.pid) == (Status.RUNNING, True, "")
        assert infra.spec.security.cap_drop == ("ALL",)
        inner = await crid.containers.create(made, container(), None)
        assert world.machine.containers[inner].spec.namespaces.pid == f"container:{infra.id}"
        await crid.sandboxes.remove(made)
    assert world.machine.containers == {}


async def test_what_belongs_to_a_record_that_cannot_be_read_is_spared(world: World) -> None:
    async with world.life() as crid:
        made = await crid.run(pod())
        inner = await crid.containers.create(made, container(), None)
        await crid.containers.start(inner)
        world.machine.made["f" * 64] = True
        left = replace(world.machine.containers[inner], id="e" * 64)
        world.machine.containers[left.id] = left
        assert await crid.sandboxes.recover(["f" * 64]) == {}
        await crid.containers.recover(thorough=False)
        assert world.machine.made == {made: True, "f" * 64: True}
        assert world.machine.containers.keys() == {inner, left.id}
        await crid.sandboxes.recover()
        await crid.containers.recover()
        assert world.machine.made == {made: True}
        assert world.machine.containers.keys() == {inner}


async def test_an_unknown_handler_is_refused(world: World) -> None:
    async with world.life() as crid:
        with pytest.raises(InvalidArgumentError, match="runtime_handler is 'slow'"):
            await crid.run(pod(), "slow")


async def test_lists_are_of_those_wanted_newest_first(world: World) -> None:
    async with world.life() as crid:
        one, two = await crid.run(pod("one", labels={"a": "1"})), await crid.run(pod("two", labels={"a": "2"}))
        await crid.sandboxes.stop(one)

        def listed(**which: object) -> list[str]:
            return [each.id for each in crid.sandboxes.select(Selection(**which))]  # type: ignore[arg-type]

        assert listed() == [two, one]
        assert listed(ready=True) == [two]
        assert listed(labels={"a": "1"}) == [one]
        assert listed(labels={"a": "1"}, ready=True) == []
        assert listed(id=two[:10]) == [two]
