"""Commands that are waited for."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest

from crid.containers.exec_sync import MOST_BYTES, ExecTimeoutError, Outcome, exec_sync
from sampan.errors import CommandNotFoundError, InvalidArgumentError
from sampan.resource.exec import Exec, ExecSpec
from sampan.resource.streams import Accepted, Attached, ExecStart, Frame, Input, Output, Stream

Writes = Callable[[], AsyncGenerator[list[Frame], None]]


class Execs:
    """One exec that writes what it is told to."""

    def __init__(self, writes: Writes, exit_code: int = 0) -> None:
        self._writes = writes
        self._exit_code = exit_code
        self.spec: ExecSpec | None = None
        self.killed = False
        self.begun = asyncio.Event()

    async def create(self, container: str, spec: ExecSpec) -> str:
        self.spec = spec
        return "e"

    async def get(self, id: str) -> Exec:
        assert self.spec is not None
        return Exec(id, "c", self.spec, started=True, exit_code=self._exit_code)

    async def start(self, id: str, options: ExecStart, input: Input) -> AsyncGenerator[Accepted | Output, None]:
        assert [piece async for piece in input] == []
        yield Accepted(attaches_stdin=False)
        yield Attached()
        self.begun.set()
        async for frames in self._writes():
            yield frames

    async def kill(self, id: str) -> None:
        self.killed = True


def out(data: bytes) -> Frame:
    return Frame(Stream.STDOUT, data)


def err(data: bytes) -> Frame:
    return Frame(Stream.STDERR, data)


async def quick() -> AsyncGenerator[list[Frame], None]:
    yield [out(b"a"), err(b"b")]
    yield [out(b"c")]


async def hang() -> AsyncGenerator[list[Frame], None]:
    yield [out(b"a")]
    await asyncio.Event().wait()


async def test_output_and_exit_code_are_returned_by_stream() -> None:
    execs = Execs(quick, 3)
    assert await exec_sync(execs, "c", ("sh",), 0) == Outcome(3, b"ac", b"b")
    assert execs.spec == ExecSpec(args=("sh",), attach_stdout=True, attach_stderr=True)
    assert not execs.killed


async def test_output_beyond_the_limit_is_dropped_and_the_command_goes_on() -> None:
    async def flood() -> AsyncGenerator[list[Frame], None]:
        for _ in range(20):
            yield [out(b"x" * (1 << 20))]
        yield [err(b"end")]

    outcome = await exec_sync(Execs(flood, 4), "c", ("sh",), 0)
    assert len(outcome.stdout) + len(outcome.stderr) == MOST_BYTES
    assert outcome.exit_code == 4


async def test_a_command_that_takes_too_long_is_killed() -> None:
    execs = Execs(hang)
    with pytest.raises(ExecTimeoutError, match=r"'sh' timed out after 0\.05 seconds"):
        await exec_sync(execs, "c", ("sh",), 0.05)
    assert execs.killed


async def test_a_command_whose_caller_leaves_is_killed() -> None:
    execs = Execs(hang)
    asking = asyncio.create_task(exec_sync(execs, "c", ("sh",), 0))
    await execs.begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert execs.killed


async def test_a_command_that_is_not_there_is_an_error() -> None:
    async def missing() -> AsyncGenerator[list[Frame], None]:
        raise CommandNotFoundError("no such file")
        yield []

    with pytest.raises(CommandNotFoundError):
        await exec_sync(Execs(missing), "c", ("nosuch",), 0)


@pytest.mark.parametrize(
    ("command", "timeout_s", "words"), [((), 0, "cmd is empty"), (("",), 0, "cmd"), (("a",), -1, "timeout")]
)
async def test_nonsense_is_refused(command: tuple[str, ...], timeout_s: float, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        await exec_sync(Execs(quick), "c", command, timeout_s)
