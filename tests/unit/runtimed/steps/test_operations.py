"""Steps whose OCI runtime is a script keep the contract, and leave nothing whichever way they end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from sampan.build.step import DirectorySource, StepExit, StepMount
from sampan.errors import CommandNotFoundError, InvalidArgumentError, StartError, UnavailableError
from sampan.resource.protocols import Steps
from tests.contract.steps import StepsContract, outcome, step
from tests.fakes.steps_runtime import StepsMachine


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[StepsMachine]:
    made = StepsMachine(tmp_path, "root")
    yield made
    assert made.left() == []
    made.watches.close()


class TestSteps(StepsContract):
    @pytest.fixture
    def steps(self, machine: StepsMachine) -> Steps:
        return machine.steps

    @pytest.fixture
    def root(self) -> str:
        return "root"


async def test_a_bundle_is_there_while_the_step_runs(machine: StepsMachine) -> None:
    spec = step("root", "sleep", "60")
    async with aclosing(machine.steps.run(spec)) as output:
        await anext(output)
        assert machine.bundle(spec.id) == {"args": ["sleep", "60"], "hosts": "127.0.0.1\tlocalhost\n"}
        assert machine.networking.attached == {spec.id}
        assert (machine.paths.steps / spec.id / "cgroup").read_text() == f"/sampan/steps/{spec.id}"
    assert machine.left() == []
    assert machine.counted("cancelled") == 1


async def test_outcomes_are_counted(machine: StepsMachine) -> None:
    await outcome(machine.steps, step("root", "true"))
    await outcome(machine.steps, step("root", "false"))
    with pytest.raises(CommandNotFoundError):
        await outcome(machine.steps, step("root", "nosuch"))
    assert [machine.counted(name) for name in ("success", "error", "start", "cancelled")] == [1, 1, 1, 0]
    assert machine.registry.get_sample_value("sampan_steps_running") == 0


async def test_a_root_that_cannot_be_mounted_is_told_and_undone(machine: StepsMachine) -> None:
    machine.mounts.broken.add("/root")
    with pytest.raises(StartError, match="cannot mount the snapshot root: Invalid argument"):
        await outcome(machine.steps, step("root", "true"))
    assert machine.left() == []


async def test_a_stopping_engine_ends_steps_and_takes_no_more(machine: StepsMachine) -> None:
    async with aclosing(machine.steps.run(step("root", "sleep", "60"))) as output:
        await anext(output)
        machine.stopping.set()
        with pytest.raises(UnavailableError, match="the engine stops"):
            await anext(output)
    with pytest.raises(UnavailableError, match="the engine stops"):
        await outcome(machine.steps, step("root", "true"))


async def test_a_caller_that_is_cancelled_leaves_nothing(machine: StepsMachine) -> None:
    for pause_s in (0, 0.001, 0.01, 0.05, 0.2):
        running = asyncio.create_task(outcome(machine.steps, step("root", "sleep", "60")))
        await asyncio.sleep(pause_s)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert machine.left() == []


async def test_stdin_for_a_process_without_one_is_refused(machine: StepsMachine) -> None:
    async def given() -> AsyncIterator[bytes]:
        yield b"x"

    with pytest.raises(InvalidArgumentError, match="has no stdin"):
        await outcome(machine.steps, step("root", "sleep", "60"), given())


async def test_more_output_than_a_pipe_holds_comes_whole(machine: StepsMachine) -> None:
    end, out, _ = await outcome(machine.steps, step("root", "head", "-c", "3000000", "/dev/zero"))
    assert (end, len(out)) == (StepExit(0), 3_000_000)


async def test_steps_of_one_root_mount_it_once(machine: StepsMachine) -> None:
    ends = await asyncio.gather(*(outcome(machine.steps, step("root", "true")) for _ in range(5)))
    assert [end for end, _, _ in ends] == [StepExit(0)] * 5
    assert machine.mounts.count < 5


async def test_a_directory_that_is_not_granted_is_refused_and_undone(machine: StepsMachine, tmp_path: Path) -> None:
    for path in ("/etc", f"{tmp_path}/granted/../data", f"{tmp_path}/granted", "granted"):
        mount = StepMount("/mnt", DirectorySource(path))
        with pytest.raises(InvalidArgumentError, match="is not below a directory of the builder's"):
            await outcome(machine.steps, replace(step("root", "true"), mounts=(mount,)))


@pytest.mark.parametrize("command", [("never",), ("sh", "-c", "kill -KILL $PPID")], ids=["before", "after"])
async def test_a_runtime_that_is_killed_is_named(machine: StepsMachine, command: tuple[str, ...]) -> None:
    with pytest.raises(StartError, match=r"^the OCI runtime .* was killed by signal 9$"):
        await outcome(machine.steps, step("root", *command))
    assert machine.left() == []
