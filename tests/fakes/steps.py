"""Steps without a kernel: ``resource.protocols.Steps`` for builders' tests.

A step's program is a coroutine function, found by the first word of its command. What is not known is no program.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from dataclasses import dataclass, field

from sampan.build.step import (
    NOT_EXECUTED,
    NOT_RUN,
    SnapshotSource,
    StepExit,
    StepInput,
    StepOutput,
    StepSignal,
    StepSpec,
    StepStarted,
    no_input,
)
from sampan.errors import AlreadyExistsError, CommandNotFoundError, InvalidArgumentError, NotFoundError
from sampan.resource.streams import Frame, Stream

_MAX_WAITING = 4  # frames that nobody has read: a program waits then


@dataclass
class RunningStep:
    """What a program has of its step. ``stdin`` gives bytes, and b"" for its end."""

    spec: StepSpec
    output: "asyncio.Queue[Frame | StepExit]" = field(default_factory=lambda: asyncio.Queue(_MAX_WAITING))
    stdin: "asyncio.Queue[bytes]" = field(default_factory=asyncio.Queue)
    program: "asyncio.Future[int] | None" = None
    signal: int = 0  # that ended it

    async def write(self, data: bytes, stream: Stream = Stream.STDOUT) -> None:
        await self.output.put(Frame(stream, data))


Program = Callable[[RunningStep], Awaitable[int]]


async def _echo(step: RunningStep) -> int:
    await step.write(" ".join(step.spec.process.args[1:]).encode() + b"\n")
    return 0


async def _true(step: RunningStep) -> int:
    return 0


async def _false(step: RunningStep) -> int:
    return 1


async def _cat(step: RunningStep) -> int:
    while piece := await step.stdin.get():
        await step.write(piece)
    return 0


async def _sleep(step: RunningStep) -> int:
    await asyncio.Event().wait()
    return 0


class FakeSteps:
    """Runs programs; ``ran`` has every spec in order, ``running`` the IDs of those that have not ended.

    ``idle`` is set while none runs.
    """

    def __init__(self, snapshots: Collection[str], programs: dict[str, Program] | None = None) -> None:
        """``snapshots`` are the keys that are known, a live collection; ``programs`` come before echo and so on."""
        self.snapshots = snapshots
        self.programs: dict[str, Program] = {
            "echo": _echo, "true": _true, "false": _false, "cat": _cat, "sleep": _sleep, **(programs or {})
        }  # fmt: skip
        self.ran: list[StepSpec] = []
        self.running: set[str] = set()
        self.idle = asyncio.Event()

    async def run(self, spec: StepSpec, input: StepInput | None = None) -> AsyncGenerator[StepOutput, None]:
        self._check(spec)
        self.ran.append(spec)
        self.running.add(spec.id)
        self.idle.clear()
        step = RunningStep(spec)
        process = asyncio.create_task(self._process(step))
        feeder = asyncio.create_task(_feed(step, no_input() if input is None else input))
        try:
            yield StepStarted()
            while not isinstance(one := await step.output.get(), StepExit):
                yield one
            yield one
        finally:
            self.running.discard(spec.id)
            if not self.running:
                self.idle.set()
            for task in (process, feeder):
                task.cancel()
            await asyncio.gather(process, feeder, return_exceptions=True)

    def _check(self, spec: StepSpec) -> None:
        if spec.id in self.running:
            raise AlreadyExistsError(f"step {spec.id} runs already")
        if spec.cdi_devices:
            raise InvalidArgumentError(f"device {spec.cdi_devices[0]!r}: steps of builds get no CDI devices")
        for mount in spec.mounts:
            if not mount.target.startswith("/"):
                raise InvalidArgumentError(f"invalid target {mount.target!r} of a step's mount: it is not absolute")
        named = [mount.source.key for mount in spec.mounts if isinstance(mount.source, SnapshotSource)]
        if spec.inside and spec.inside not in self.running:
            raise NotFoundError(f"no such step: {spec.inside}")
        for key in (spec.root, *named) if not spec.inside else ():
            if key not in self.snapshots:
                raise NotFoundError(f"snapshot {key} does not exist")
        if (command := spec.process.args[0]) not in self.programs:
            why = f'unable to start container process: exec: "{command}": executable file not found in $PATH'
            raise CommandNotFoundError(f"{(NOT_EXECUTED if spec.inside else NOT_RUN)[0]} {why}")

    async def _process(self, step: RunningStep) -> None:
        step.program = asyncio.ensure_future(self.programs[step.spec.process.args[0]](step))
        try:
            code = await step.program
        except asyncio.CancelledError:
            if not step.signal:  # the step was left
                raise
            code = 128 + step.signal
        await step.output.put(StepExit(code))


async def _feed(step: RunningStep, input: StepInput) -> None:
    async for item in input:
        if isinstance(item, bytes):
            await step.stdin.put(item)
        elif isinstance(item, StepSignal) and step.program is not None:
            step.signal = item.number
            step.program.cancel()
    await step.stdin.put(b"")
