"""The life of pods' containers."""

import asyncio
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crid.containers.containers import Selection, merged
from crid.containers.view import State
from crid.model.config import LinuxContainer, Mount, PodMetadata, Resources
from crid.model.security import NamespaceMode, NamespaceOption
from sampan.errors import (
    AlreadyExistsError,
    ConflictError,
    ImageMountError,
    InvalidArgumentError,
    NotFoundError,
    StartError,
)
from sampan.resource.container import Created, Status
from sampan.resource.container_spec import ContainerSpec
from tests.unit.crid.world import Life, World, container, pod, secured


async def test_a_container_is_made_started_stopped_and_removed(world: World) -> None:
    async with world.life() as crid:
        inside = await crid.run(pod())
        made = await crid.containers.create(inside, container(labels={"a": "1"}), None)
        assert (await crid.containers.view(made))[0].state is State.CREATED
        await crid.containers.start(made)
        view, _ = await crid.containers.view(made[:8])
        assert (view.state, view.started_ns > 0, view.finished_ns) == (State.RUNNING, True, 0)
        await crid.containers.stop(made, 0)
        view, _ = await crid.containers.view(made)
        assert (view.state, view.exit_code, view.reason) == (State.EXITED, 137, "Error")
        await crid.containers.remove(made)
        with pytest.raises(NotFoundError):
            await crid.containers.view(made)
    assert world.machine.containers == {}


async def test_runtimed_s_name_of_a_container_says_whose_it_is(world: World) -> None:
    async with world.life() as crid:
        made = await crid.containers.create(await crid.run(pod()), container("main", 3), None)
        spec = world.machine.containers[made].spec
        assert (spec.name, spec.owner) == ("k8s_main_web_default_uid-web_3", "cri")
        assert spec.health_check is not None
        assert spec.health_check.test == ("NONE",)


async def test_asked_twice_for_the_same_container_it_is_the_same_until_it_has_run(world: World) -> None:
    async with world.life() as crid:
        inside = await crid.run(pod())
        made = await crid.containers.create(inside, container(), None)
        assert await crid.containers.create(inside, container(), None) == made
        for again in (container(args=("other",)), container()):
            with pytest.raises(AlreadyExistsError, match="take another attempt"):
                await crid.containers.create(inside, again, None)
            await crid.containers.start(made)
        assert await crid.containers.create(inside, container(attempt=1), None) != made


async def test_a_mount_of_an_image_says_which_image_was_found(world: World) -> None:
    config = container(mounts=(Mount("/i", readonly=True, image=container().image),))
    async with world.life() as crid:
        inside = await crid.run(pod())
        made = await crid.containers.create(inside, config, None)
        (mount,) = crid.containers.record(made).config.mounts
        assert mount.image is not None
        assert mount.image.image_ref.startswith("sha256:")
        assert await crid.containers.create(inside, config, None) == made


async def test_an_image_volume_that_cannot_be_mounted_is_said_in_kubelet_s_word(world: World) -> None:
    mount = Mount("/i", readonly=True, image=container().image, image_sub_path="no")
    async with world.life() as crid:
        inside = await crid.run(pod())
        world.machine.refuse["runtime.create"] = ImageMountError("there is no such path in it")
        with pytest.raises(ImageMountError, match="ImageVolumeMountFailed: there is no such path in it"):
            await crid.containers.create(inside, container(mounts=(mount,)), None)
        unknown = replace(mount, image=replace(container().image, image="unknown"))
        with pytest.raises(NotFoundError, match="ImageVolumeMountFailed: "):
            await crid.containers.create(inside, container(mounts=(unknown,)), None)
    assert world.machine.containers == {}


async def test_a_container_that_cannot_be_made_leaves_nothing(world: World) -> None:
    async with world.life() as crid:
        inside = await crid.run(pod())
        world.machine.refuse["runtime.create"] = ConflictError("no")
        with pytest.raises(ConflictError, match="no"):
            await crid.containers.create(inside, container(), None)
        world.machine.refuse.clear()
        assert await crid.containers.select(Selection()) == []
        await crid.containers.create(inside, container(), None)


async def test_a_container_whose_caller_leaves_is_taken_back_though_runtimed_has_made_it(world: World) -> None:
    async with world.life() as crid:
        inside = await crid.run(pod())
        asked, goes_on, create = asyncio.Event(), asyncio.Event(), crid.runtime.create

        async def create_late(spec: ContainerSpec) -> Created:
            asked.set()
            await goes_on.wait()
            return await create(spec)

        crid.runtime.create = create_late  # type: ignore[method-assign]
        asking = asyncio.create_task(crid.containers.create(inside, container(), None))
        await asked.wait()
        asking.cancel()
        await asyncio.sleep(0)
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert world.machine.containers == {}
        await crid.containers.create(inside, container(), None)


async def test_a_container_that_runtimed_has_made_after_crid_was_killed_is_in_nobody_s_way(world: World) -> None:
    async with world.life() as crid:
        inside = await crid.run(pod())
        made = await crid.containers.create(inside, container(), None)
        (left,) = world.machine.containers.values()
        await crid.containers.remove(made)
        world.machine.containers[left.id] = left
        assert await crid.containers.create(inside, container(), None) != left.id
        assert left.id not in world.machine.containers


async def test_a_start_is_once(world: World) -> None:
    async with world.life() as crid:
        made = await crid.containers.create(await crid.run(pod()), container(), None)
        await crid.containers.start(made)
        await crid.containers.start(made)  # the answer to the first may have been lost
        await crid.containers.stop(made, 0)
        with pytest.raises(ConflictError, match="has run already"):
            await crid.containers.start(made)


async def test_one_that_another_process_has_made_is_looked_at_before_it_is_started(world: World) -> None:
    async with world.life() as crid:
        sandbox = await crid.run(pod())
        ended, created = [await crid.containers.create(sandbox, container(name), None) for name in ("ended", "created")]
    world.machine.change(ended, status=Status.EXITED, finished_at=datetime.now(UTC))
    async with world.life() as crid:
        with pytest.raises(ConflictError, match="has run already"):
            await crid.containers.start(ended)
        await crid.containers.start(created)
    assert world.machine.containers[created].state.status is Status.RUNNING


async def test_a_container_that_could_not_be_started_has_ended_and_says_why(world: World) -> None:
    async with world.life() as crid:
        made = await crid.containers.create(await crid.run(pod()), container(command=("/nope",)), None)
        with pytest.raises(StartError):
            await crid.containers.start(made)
        view, _ = await crid.containers.view(made)
        assert (view.state, view.reason, view.exit_code) == (State.EXITED, "StartError", 127)
        assert view.finished_ns


async def test_what_is_gone_may_be_stopped_and_removed_but_not_started(world: World) -> None:
    async with world.life() as crid:
        await crid.containers.stop("f" * 64, 0)
        await crid.containers.remove("f" * 64)
        for ask in (crid.containers.start, crid.containers.view, crid.containers.reopen_log):
            with pytest.raises(NotFoundError, match="no container"):
                await ask("f" * 64)


async def test_a_container_that_was_removed_by_others_is_forgotten(world: World) -> None:
    async with world.life() as crid:
        made = await crid.containers.create(await crid.run(pod()), container(), None)
        world.machine.containers.clear()
        assert await crid.containers.select(Selection()) == []
        with pytest.raises(NotFoundError):
            await crid.containers.view(made)


async def test_nothing_is_made_or_started_in_a_sandbox_that_has_stopped(world: World) -> None:
    async with world.life() as crid:
        inside = await crid.run(pod())
        made = await crid.containers.create(inside, container(), None)
        await crid.sandboxes.stop(inside)
        with pytest.raises(ConflictError, match="is not ready"):
            await crid.containers.create(inside, container("other"), None)
        with pytest.raises(ConflictError, match="is not ready"):
            await crid.containers.start(made)


async def test_a_sandbox_config_of_another_pod_is_refused(world: World) -> None:
    async with world.life() as crid:
        inside = await crid.run(pod())
        with pytest.raises(InvalidArgumentError, match="sandbox_config is of 'db'"):
            await crid.containers.create(inside, container(), PodMetadata("db", "uid-web", "default"))


async def test_the_processes_of_another_container_are_seen_if_it_is_of_the_same_pod(world: World) -> None:
    async with world.life() as crid:
        one, other = await crid.run(pod()), await crid.run(pod("other"))
        target = await crid.containers.create(one, container(), None)

        async def look(sandbox: str, at: str) -> str:
            options = NamespaceOption(pid=NamespaceMode.TARGET, target_id=at)
            return await crid.containers.create(sandbox, secured(namespace_options=options), None)

        with pytest.raises(InvalidArgumentError, match="is of another pod"):
            await look(other, target)
        with pytest.raises(InvalidArgumentError, match="target_id: no container"):
            await look(one, "f" * 64)
        await crid.containers.remove(target)
        target = await crid.containers.create(one, container("target"), None)
        assert world.machine.containers[await look(one, target)].spec.namespaces.pid == f"container:{target}"


@pytest.mark.parametrize("path", ["../up.log", "/abs.log", "a/../../b.log", "."])
async def test_a_log_is_below_the_pod_s_directory(world: World, path: str) -> None:
    async with world.life() as crid:
        inside = await crid.run(pod())
        with pytest.raises(InvalidArgumentError, match="log_path is"):
            await crid.containers.create(inside, container(log_path=path), None)


async def logging(crid: Life, directory: Path, attempt: int) -> str:
    inside = await crid.run(replace(pod(), log_directory=str(directory)))
    return await crid.containers.create(inside, container(attempt=attempt, log_path=f"main/{attempt}.log"), None)


async def test_a_log_has_its_directory_made_and_is_no_directory_itself(world: World, tmp_path: Path) -> None:
    async with world.life() as crid:
        made = await logging(crid, tmp_path / "pods", 0)
        log = world.machine.containers[made].spec.log
        assert (log.driver, log.options) == ("cri", {"path": str(tmp_path / "pods/main/0.log")})
        assert (tmp_path / "pods/main").is_dir()
        (tmp_path / "pods/main/1.log").mkdir()
        with pytest.raises(InvalidArgumentError, match="is a directory"):
            await logging(crid, tmp_path / "pods", 1)
        os.mkfifo(tmp_path / "pods/main/2.log")
        with pytest.raises(InvalidArgumentError, match="is a pipe or a socket"):
            await logging(crid, tmp_path / "pods", 2)


async def test_limits_that_are_changed_are_shown_and_the_others_stay(world: World) -> None:
    async with world.life() as crid:
        config = container(linux=LinuxContainer(Resources(cpu_shares=512, memory_limit_in_bytes=1 << 26)))
        made = await crid.containers.create(await crid.run(pod()), config, None)
        await crid.containers.update(made, Resources(memory_limit_in_bytes=1 << 27), {})
        assert world.machine.updates[-1].memory_bytes == 1 << 27
    async with world.life() as crid:  # kept
        (view,) = await crid.containers.select(Selection())
        assert view.record.config.linux.resources == Resources(cpu_shares=512, memory_limit_in_bytes=1 << 27)
        world.machine.change(made, status=Status.EXITED)
        with pytest.raises(ConflictError, match="has ended"):
            await crid.containers.update(made, Resources(cpu_shares=2), {})


def test_a_change_of_limits_leaves_what_it_does_not_name() -> None:
    known = Resources(cpu_shares=2, cpuset_cpus="0", unified={"a": "b"})
    assert merged(known, Resources(cpu_shares=4)) == Resources(cpu_shares=4, cpuset_cpus="0", unified={"a": "b"})


async def test_lists_are_of_those_wanted(world: World) -> None:
    async with world.life() as crid:
        one, other = await crid.run(pod()), await crid.run(pod("other"))
        a = await crid.containers.create(one, container("a", labels={"x": "1"}), None)
        b = await crid.containers.create(other, container("b"), None)
        await crid.containers.start(b)

        async def listed(**which: object) -> set[str]:
            return {each.record.id for each in await crid.containers.select(Selection(**which))}  # type: ignore[arg-type]

        assert await listed() == {a, b}
        assert await listed(sandbox=one) == {a}
        assert await listed(state="RUNNING") == {b}
        assert await listed(labels={"x": "1"}) == {a}
        assert await listed(id=a[:12]) == {a}
        assert await listed(id=a[:12], sandbox=other) == set()
