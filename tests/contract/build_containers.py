"""What containers beside builds owe those who have processes run in one."""

import signal
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from buildd.executor.protocol import Container, ContainerProcess, Program
from buildd.llb.ops import SecretEnv
from sampan.build.step import StepExit, StepOutput, StepSignal, StepStarted
from sampan.errors import ConflictError, NotFoundError
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.streams import Frame


async def all_of(process: ContainerProcess) -> Sequence[StepOutput]:
    async with aclosing(process.outputs()) as outputs:
        return [output async for output in outputs]


def said(outputs: Sequence[StepOutput]) -> bytes:
    return b"".join(output.data for output in outputs if isinstance(output, Frame))


class ContainerContract:
    """Subclass with ``container``: nothing has run in it; it has ``echo``, ``cat``, ``sleep``, and no secret."""

    promises: tuple[type, ...] = (Container, ContainerProcess)

    async def test_a_process_is_told_from_its_start_to_its_end(self, container: Container) -> None:
        outputs = await all_of(await container.start(Program(("echo", "hello"))))
        assert (outputs[0], outputs[-1]) == (StepStarted(), StepExit(0))
        assert said(outputs) == b"hello\n"

    async def test_what_it_is_given_arrives_in_order_and_ends(self, container: Container) -> None:
        process = await container.start(Program(("cat",), stdin=True))
        await process.give(b"typed ")
        await process.give(ConsoleSize(80, 24))
        await process.give(b"in order")
        await process.give(b"")
        outputs = await all_of(process)
        assert (said(outputs), outputs[-1]) == (b"typed in order", StepExit(0))

    async def test_a_signal_ends_it(self, container: Container) -> None:
        process = await container.start(Program(("sleep", "60")))
        async with aclosing(process.outputs()) as outputs:
            assert await anext(outputs) == StepStarted()
            await process.give(StepSignal(signal.SIGTERM))
            assert await anext(outputs) == StepExit(128 + signal.SIGTERM)

    async def test_others_run_beside_the_first_and_not_after_it(self, container: Container) -> None:
        first = await container.start(Program(("sleep", "60")))
        async with aclosing(first.outputs()) as outputs:
            await anext(outputs)
            for word in ("one", "two"):
                assert said(await all_of(await container.start(Program(("echo", word))))) == f"{word}\n".encode()
        # It was left, and so it was killed.
        with pytest.raises(ConflictError, match="first process has ended"):
            await container.start(Program(("echo", "three")))

    async def test_of_a_command_that_is_not_there_the_runtime_says_so(self, container: Container) -> None:
        first = await container.start(Program(("sleep", "60")))
        async with aclosing(first.outputs()) as outputs:
            await anext(outputs)
            told = await all_of(await container.start(Program(("nosuch",))))
        assert (told[0], told[-1]) == (StepStarted(), StepExit(255))
        assert said(told).startswith(b'exec failed: unable to start container process: exec: "nosuch": ')

    async def test_so_it_does_of_the_first(self, container: Container) -> None:
        told = await all_of(await container.start(Program(("nosuch",))))
        assert (told[0], told[-1]) == (StepStarted(), StepExit(1))
        assert said(told).startswith(b'runc run failed: unable to start container process: exec: "nosuch": ')

    async def test_a_secret_that_nobody_has_is_not_found(self, container: Container) -> None:
        with pytest.raises(NotFoundError, match="token"):
            await container.start(Program(("echo",), secret_env=(SecretEnv("token", "TOKEN"),)))
        assert said(await all_of(await container.start(Program(("echo", "still"))))) == b"still\n"
