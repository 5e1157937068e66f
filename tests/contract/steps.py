"""What ``resource.protocols.Steps`` promises, whoever keeps it."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from sampan.build.step import (
    FileSource,
    SnapshotSource,
    StepExit,
    StepInput,
    StepMount,
    StepNetwork,
    StepOutput,
    StepProcess,
    StepSignal,
    StepSpec,
    StepStarted,
    TmpfsSource,
)
from sampan.errors import AlreadyExistsError, CommandNotFoundError, InvalidArgumentError, NotFoundError
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.protocols import Steps
from sampan.resource.streams import Frame, Stream


def step(root: str, *args: str, open_stdin: bool = False) -> StepSpec:
    """Return a step that runs ``args``, with no network."""
    process = StepProcess(args, ("PATH=/bin",), open_stdin=open_stdin)
    return StepSpec(secrets.token_hex(16), process, root, network=StepNetwork.NONE)


async def outcome(steps: Steps, spec: StepSpec, input: StepInput | None = None) -> tuple[StepExit, bytes, bytes]:
    """Run a step; return how it ended, and what it wrote to stdout and stderr."""
    written = {Stream.STDOUT: b"", Stream.STDERR: b""}
    ends: list[StepOutput] = []
    async with aclosing(steps.run(spec, input)) as output:
        assert await anext(output) == StepStarted()
        async for one in output:
            if isinstance(one, Frame):
                written[one.stream] += one.data
            else:
                ends.append(one)
    (end,) = ends
    assert isinstance(end, StepExit)
    return end, written[Stream.STDOUT], written[Stream.STDERR]


class StepsContract:
    """Subclass with fixtures ``steps`` and ``root``, an active snapshot with echo, true, false, cat and sleep."""

    promises: tuple[type, ...] = (Steps,)

    async def test_output_and_then_the_exit(self, steps: Steps, root: str) -> None:
        assert await outcome(steps, step(root, "echo", "hello", "there")) == (StepExit(0), b"hello there\n", b"")

    async def test_an_exit_code_is_told_and_is_no_error(self, steps: Steps, root: str) -> None:
        assert (await outcome(steps, step(root, "false")))[0] == StepExit(1)

    async def test_without_input_stdin_is_empty(self, steps: Steps, root: str) -> None:
        assert await outcome(steps, step(root, "cat")) == (StepExit(0), b"", b"")

    async def test_stdin_reaches_the_process_and_ends(self, steps: Steps, root: str) -> None:
        async def given() -> AsyncIterator[bytes | ConsoleSize | StepSignal]:
            yield b"one "
            yield b"two"

        assert await outcome(steps, step(root, "cat", open_stdin=True), given()) == (StepExit(0), b"one two", b"")

    async def test_a_signal_ends_the_process_and_is_in_its_code(self, steps: Steps, root: str) -> None:
        never = asyncio.Event()

        async def given() -> AsyncIterator[bytes | ConsoleSize | StepSignal]:
            yield StepSignal(9)
            await never.wait()

        assert (await outcome(steps, step(root, "sleep", "60"), given()))[0] == StepExit(137)

    async def test_an_id_is_taken_while_its_step_runs_and_free_when_it_was_left(self, steps: Steps, root: str) -> None:
        spec = step(root, "sleep", "60")
        async with aclosing(steps.run(spec)) as running:
            await anext(running)
            with pytest.raises(AlreadyExistsError, match=spec.id):
                await anext(steps.run(spec))
        async with asyncio.timeout(60):  # over gRPC the other side hears of it a moment later
            while True:
                try:
                    again = await outcome(steps, replace(spec, process=replace(spec.process, args=("true",))))
                except AlreadyExistsError:
                    await asyncio.sleep(0.02)
                    continue
                assert again[0] == StepExit(0)
                break

    async def test_signals_come_after_the_end_of_stdin(self, steps: Steps, root: str) -> None:
        never = asyncio.Event()

        async def given() -> AsyncIterator[bytes | ConsoleSize | StepSignal]:
            yield b"read"
            yield b""
            yield StepSignal(9)
            await never.wait()

        spec = step(root, "sleep", "60", open_stdin=True)
        assert (await outcome(steps, spec, given()))[0] == StepExit(137)

    async def test_a_further_process_runs_in_a_step_and_ends_without_it(self, steps: Steps, root: str) -> None:
        async with aclosing(steps.run(step(root, "sleep", "60"))) as running:
            assert await anext(running) == StepStarted()
            host = step(root, "true").id
        with pytest.raises(NotFoundError, match=host):
            await anext(steps.run(replace(step("", "true"), inside=host)))
        first = step(root, "sleep", "60")
        async with aclosing(steps.run(first)) as running:
            assert await anext(running) == StepStarted()
            inner = replace(step("", "echo", "inside"), inside=first.id)
            assert await outcome(steps, inner) == (StepExit(0), b"inside\n", b"")

    async def test_a_snapshot_that_is_not_there_is_not_found(self, steps: Steps, root: str) -> None:
        with pytest.raises(NotFoundError, match="nosuch"):
            await anext(steps.run(step("nosuch", "true")))
        mounted = replace(step(root, "true"), mounts=(StepMount("/mnt", SnapshotSource("nosuch")),))
        with pytest.raises(NotFoundError, match="nosuch"):
            await anext(steps.run(mounted))

    async def test_a_command_that_is_not_there_is_told_by_name(self, steps: Steps, root: str) -> None:
        with pytest.raises(CommandNotFoundError, match='"nosuch": executable file not found'):
            await outcome(steps, step(root, "nosuch"))

    async def test_a_target_is_absolute(self, steps: Steps, root: str) -> None:
        with pytest.raises(InvalidArgumentError, match="'mnt'"):
            await anext(steps.run(replace(step(root, "true"), mounts=(StepMount("mnt", TmpfsSource()),))))

    async def test_devices_are_refused(self, steps: Steps, root: str) -> None:
        with pytest.raises(InvalidArgumentError, match=r"vendor\.com/gpu"):
            await anext(steps.run(replace(step(root, "true"), cdi_devices=("vendor.com/gpu=all",))))

    def test_an_id_that_would_be_a_path_is_refused(self) -> None:
        for bad in ("", "short", "../../../../etc", "A" * 12, "a" * 65, "abcdefghijkl\n"):
            with pytest.raises(InvalidArgumentError, match="of a step"):
                StepSpec(bad, StepProcess(("true",)), "root")

    def test_a_file_is_bounded_and_not_shown(self) -> None:
        with pytest.raises(InvalidArgumentError, match="the most is 1048576"):
            FileSource(bytes((1 << 20) + 1))
        with pytest.raises(InvalidArgumentError, match="invalid mode 4755"):
            FileSource(b"", 0o4755)
        assert "hunter2" not in repr(FileSource(b"hunter2"))
