"""Containers beside builds: processes of which the first is the init of the others."""

import asyncio
from contextlib import aclosing

import pytest

from buildd.executor.containers import ContainerProcess
from buildd.executor.protocol import Program
from buildd.llb.ops import CacheMount, Mount, MountType, SecretEnv, SecretMount
from buildd.protocol import Directory, Tree
from sampan.build.step import StepExit, StepOutput, StepStarted
from sampan.errors import ConflictError, NotFoundError
from sampan.resource.streams import Frame
from tests.unit.buildd.executor.executing import Yard, op


async def all_of(process: ContainerProcess) -> list[StepOutput]:
    async with aclosing(process.outputs()) as outputs:
        return [output async for output in outputs]


async def test_processes_run_in_the_first_one_s_container_and_nothing_is_kept(executing: Yard) -> None:
    wanted = op(Mount("/scratch"), hostname="probe")
    async with executing.executor.container(wanted, [executing.base], executing.context()) as container:
        first = await container.start(Program(("sleep", "60"), stdin=True))
        async with aclosing(first.outputs()) as outputs:
            assert await anext(outputs) == StepStarted()
            assert executing.spec.hostname == "probe"
            assert [mount.target for mount in executing.spec.mounts] == ["/scratch"]
            second = await container.start(Program(("echo", "hello"), env=("A=b",), cwd="/srv"))
            started, said, ended = await all_of(second)
            assert started == StepStarted()
            assert isinstance(said, Frame)
            assert (said.data, ended) == (b"hello\n", StepExit(0))
            assert executing.spec.inside == first.spec.id
            assert executing.spec.process.env[0] == "A=b"
            assert (executing.spec.process.working_dir, executing.spec.root) == ("/srv", "")
    assert not executing.steps.running
    with pytest.raises(ConflictError, match="the container was released"):
        await container.start(Program(("true",)))


async def test_files_of_its_mounts_are_found_by_their_numbers(executing: Yard) -> None:
    mounts = Mount("/in", input=0, read_only=True), Mount("/cache", type=MountType.CACHE, cache=CacheMount("c"))
    async with executing.executor.container(op(*mounts), [executing.base], executing.context()) as container:
        root = container.files(0)
        assert not isinstance(root, Tree | Directory)
        assert root.key in executing.trees.snapshots
        assert container.files(1) == executing.base
        assert isinstance(container.files(2), Directory)
        for number in (3, -1):
            with pytest.raises(NotFoundError, match="out of bounds"):
                container.files(number)
    secret = Mount("/run/token", type=MountType.SECRET, secret=SecretMount("token", optional=True))
    async with executing.executor.container(op(secret), [executing.base], executing.context()) as container:
        with pytest.raises(NotFoundError, match="mountable 1 not found"):
            container.files(1)


async def test_what_is_given_reaches_the_process_and_ends(executing: Yard) -> None:
    async with executing.executor.container(op(), [executing.base], executing.context()) as container:
        process = await container.start(Program(("cat",), stdin=True))
        await process.give(b"typed")
        await process.give(b"")
        outputs = await all_of(process)
    assert [output.data for output in outputs if isinstance(output, Frame)] == [b"typed"]


async def test_a_process_that_is_left_is_killed_and_awaited(executing: Yard) -> None:
    async with executing.executor.container(op(), [executing.base], executing.context()) as container:
        process = await container.start(Program(("sleep", "60")))
        async with aclosing(process.outputs()) as outputs:
            await anext(outputs)
        assert process.ended.is_set()
        with pytest.raises(ConflictError, match="first process has ended"):
            await container.start(Program(("true",)))


async def test_the_end_of_a_container_ends_its_processes(executing: Yard) -> None:
    async with executing.executor.container(op(), [executing.base], executing.context()) as container:
        process = await container.start(Program(("sleep", "60")))
        reading = asyncio.create_task(all_of(process))
        await process.started.wait()
    assert (await reading)[-1] == StepExit(137)


async def test_a_process_that_cannot_be_says_why(executing: Yard) -> None:
    async with executing.executor.container(op(), [executing.base], executing.context()) as container:
        with pytest.raises(NotFoundError, match="secret token: not found"):
            await container.start(Program(("true",), secret_env=(SecretEnv("token", "TOKEN"),)))
        assert (await all_of(await container.start(Program(("nosuch",)))))[-1] == StepExit(1)
