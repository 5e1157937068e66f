"""What ``resource.protocols.Containers`` promises of records and of their life, whoever keeps it."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError, NotModifiedError
from sampan.resource.container import Condition, Exit, Status
from sampan.resource.container_spec import ConsoleSize, ContainerSpec, Process
from sampan.resource.listing import ALL, ALL_OF_EVERYONE, EVERYONE, Selection
from sampan.resource.protocols import Containers
from sampan.resource.streams import Attached, AttachOptions, Detached, LogQuery


async def given(*pieces: bytes) -> AsyncIterator[bytes | ConsoleSize]:
    for piece in pieces:
        yield piece


class ContainersContract:
    """Subclass with a fixture ``containers`` that has none yet, and knows ``true``, ``sleep``, ``cat`` and ``echo``."""

    promises: tuple[type, ...] = (Containers,)

    def spec(self, name: str, *cmd: str, **process: bool) -> ContainerSpec:
        return ContainerSpec(name, process=Process(cmd=cmd, **process))  # type: ignore[arg-type]  # flags

    async def test_a_container_is_made_found_and_listed(self, containers: Containers) -> None:
        made = await containers.create(self.spec("web", "sleep", "60"))
        found = await containers.get("web")
        assert (found.id, found.name, found.state.status) == (made.id, "web", Status.CREATED)
        assert found.spec.process.cmd == ("sleep", "60")
        assert (await containers.get(made.id[:12])).id == made.id
        assert await containers.list() == ()
        assert [one.id for one in await containers.list(ALL)] == [made.id]
        assert [one.id async for page in containers.pages(ALL) for one in page] == [made.id]

    async def test_what_is_not_there_is_not_found(self, containers: Containers) -> None:
        with pytest.raises(NotFoundError, match="No such container: nosuch"):
            await containers.get("nosuch")
        with pytest.raises(NotFoundError, match="No such container: nosuch"):
            await containers.start("nosuch")
        with pytest.raises(NotFoundError, match="Cannot kill container: nosuch: No such container: nosuch"):
            await containers.kill("nosuch")

    async def test_a_new_name_is_one(self, containers: Containers) -> None:
        made = await containers.create(self.spec("web", "true"))
        await containers.rename("web", "db")
        assert (await containers.get("db")).id == made.id
        with pytest.raises(InvalidArgumentError, match="Neither old nor new names may be empty"):
            await containers.rename("db", "")

    async def test_a_name_is_taken_once(self, containers: Containers) -> None:
        await containers.create(self.spec("web", "true"))
        with pytest.raises(ConflictError, match='The container name "/web" is already in use'):
            await containers.create(self.spec("web", "true"))

    async def test_a_start_and_a_stop_are_told_apart_from_those_that_change_nothing(
        self, containers: Containers
    ) -> None:
        await containers.create(self.spec("web", "sleep", "60"))
        with pytest.raises(NotModifiedError):
            await containers.stop("web", 0)
        await containers.start("web")
        with pytest.raises(NotModifiedError):
            await containers.start("web")
        assert (await containers.get("web")).state.status is Status.RUNNING
        assert [one.name for one in await containers.list()] == ["web"]
        await containers.stop("web", 0)
        assert (await containers.get("web")).state.status is Status.EXITED
        with pytest.raises(ConflictError, match=r"Cannot kill container: web: Container [0-9a-f]{64} is not running"):
            await containers.kill("web")

    async def test_a_container_that_runs_is_removed_by_force_alone(self, containers: Containers) -> None:
        await containers.create(self.spec("web", "sleep", "60"))
        await containers.start("web")
        with pytest.raises(ConflictError):
            await containers.remove("web")
        await containers.remove("web", force=True)
        assert await containers.list(ALL) == ()

    async def test_a_wait_says_that_it_is_in_place_and_then_how_it_ended(self, containers: Containers) -> None:
        await containers.create(self.spec("job", "true"))
        async with aclosing(containers.wait("job", Condition.NEXT_EXIT)) as answers:
            assert await anext(answers) is None
            await containers.start("job")
            assert await anext(answers) == Exit(0)
            assert await anext(answers, "the end") == "the end"

    async def test_what_goes_in_comes_out_to_who_attached_before_the_start(self, containers: Containers) -> None:
        await containers.create(self.spec("cat", "cat", open_stdin=True, stdin_once=True, attach_stdin=True))
        output = b""
        attachment = containers.attach("cat", AttachOptions(stdin=True), given(b"typed\n", b"more\n"))
        async with aclosing(attachment) as items:
            assert await anext(items) == Attached(tty=False)
            await containers.start("cat")
            async for item in items:
                assert not isinstance(item, Attached | Detached)
                output += b"".join(frame.data for frame in item)
        assert output == b"typed\nmore\n"

    async def test_the_first_batch_of_a_log_says_whether_there_is_a_terminal(self, containers: Containers) -> None:
        await containers.create(self.spec("plain", "true"))
        await containers.start("plain")
        async with aclosing(containers.logs("plain", LogQuery())) as batches:
            assert (await anext(batches)).tty is False

    async def test_pause_and_unpause_need_the_right_state(self, containers: Containers) -> None:
        await containers.create(self.spec("web", "sleep", "60"))
        with pytest.raises(ConflictError):
            await containers.pause("web")
        await containers.start("web")
        await containers.pause("web")
        assert (await containers.get("web")).state.status is Status.PAUSED
        await containers.unpause("web")
        with pytest.raises(ConflictError):
            await containers.unpause("web")
        async with containers.held("web"):
            assert (await containers.get("web")).state.status is Status.PAUSED
        assert (await containers.get("web")).state.status is Status.RUNNING
        await containers.remove("web", force=True)

    async def test_a_prune_takes_what_does_not_run(self, containers: Containers) -> None:
        gone = await containers.create(self.spec("gone", "true"))
        await containers.create(self.spec("web", "sleep", "60"))
        await containers.start("web")
        assert (await containers.prune()).removed == (gone.id,)
        assert [one.name for one in await containers.list(ALL)] == ["web"]
        await containers.remove("web", force=True)

    async def test_an_owner_s_containers_are_its_own(self, containers: Containers) -> None:
        docker_s = await containers.create(self.spec("web", "sleep", "60"))
        pod_s = await containers.create(replace(self.spec("web", "sleep", "60"), owner="cri"))
        assert (await containers.get("web")).id == docker_s.id
        assert [one.id for one in await containers.list(ALL)] == [docker_s.id]
        assert [one.id for one in await containers.list(Selection(all=True, owner="cri"))] == [pod_s.id]
        assert {one.id for one in await containers.list(ALL_OF_EVERYONE)} == {docker_s.id, pod_s.id}
        for shown in (pod_s.id, pod_s.id[:12]):
            assert (await containers.get(shown)).spec.owner == "cri"
        assert (await containers.prune()).removed == (docker_s.id,)
        with pytest.raises(NotFoundError):
            await containers.get("web")
        assert (await containers.prune(owner="cri")).removed == (pod_s.id,)

    async def test_all_that_run_are_sampled_at_once(self, containers: Containers) -> None:
        for name in ("runs", "rests", "pod-s"):
            await containers.create(replace(self.spec(name, "sleep", "60"), owner="cri" if name == "pod-s" else ""))
        ids = {one.spec.name: one.id for one in await containers.list(ALL_OF_EVERYONE)}
        await containers.start(ids["runs"])
        await containers.start(ids["pod-s"])
        assert [one.id for one in await containers.samples()] == [ids["runs"]]
        assert [one.id for one in await containers.samples("cri")] == [ids["pod-s"]]
        assert {one.id for one in await containers.samples(EVERYONE)} == {ids["runs"], ids["pod-s"]}
        assert [one.id for one in await containers.samples(EVERYONE, [ids["rests"], ids["pod-s"]])] == [ids["pod-s"]]
        assert [one.details for one in await containers.samples()] == [None]
        (detailed,) = await containers.samples(detailed=True)
        assert detailed.details is not None
        assert detailed.details.cgroup_path.endswith(ids["runs"])
        for name in ("runs", "pod-s"):
            await containers.remove(ids[name], force=True)

    async def test_a_log_that_is_the_engine_s_is_not_opened_anew(self, containers: Containers) -> None:
        await containers.create(self.spec("web", "sleep", "60"))
        with pytest.raises(InvalidArgumentError, match="is not opened anew"):
            await containers.reopen_log("web")

    async def test_a_terminal_s_size_is_one_that_the_kernel_holds(self) -> None:
        with pytest.raises(InvalidArgumentError, match="invalid console size"):
            ConsoleSize(70_000, 1)
