"""Containers beside builds without a kernel: each process says its command and ends as it is told."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Sequence

from buildd.executor.protocol import ContainerInput, Program
from buildd.llb.ops import ExecOp, MountType
from buildd.protocol import Output, Readable
from sampan.build.step import NOT_EXECUTED, NOT_RUN, StepExit, StepOutput, StepSignal, StepStarted
from sampan.errors import ConflictError, NotFoundError
from sampan.resource.streams import Frame, Stream


class FakeContainer:
    """Satisfies ``executor.protocol.Container``.

    There is no program ``nosuch``. ``echo`` and ``cat`` do as they are known to, ``sleep`` runs until something ends
    it, and everything else says its command and ends with ``code``.
    """

    def __init__(self, op: ExecOp, code: int = 0, inputs: Sequence[Output] = ()) -> None:
        self.op = op
        self.inputs = inputs
        self.code = code
        self.left = False
        self.programs: list[Program] = []
        self.processes: list[FakeContainerProcess] = []

    async def start(self, program: Program) -> "FakeContainerProcess":
        for each in program.secret_env:
            raise NotFoundError(f"secret {each.id}: not found")
        if self.left:
            raise ConflictError("the container was released")
        if self.processes and self.processes[0].ended:
            raise ConflictError("the container's first process has ended")
        self.programs.append(program)
        self.processes.append(FakeContainerProcess(self, program))
        return self.processes[-1]

    def files(self, mount: int) -> Readable:
        if not 0 <= mount < len(self.op.mounts):
            raise NotFoundError(f"mount index {mount} is out of bounds ({len(self.op.mounts)} available)")
        if self.op.mounts[mount].type is not MountType.BIND:
            raise NotFoundError(f"mountable {mount} not found")
        return self.inputs[self.op.mounts[mount].input]

    def leave(self) -> None:
        """Release it: whatever runs is killed."""
        self.left = True
        for each in self.processes:
            each.items.put_nowait(StepSignal(signal.SIGKILL))


class FakeContainerProcess:
    """Satisfies ``executor.protocol.ContainerProcess``."""

    def __init__(self, container: FakeContainer, program: Program) -> None:
        self._container = container
        self._program = program
        self.given: list[ContainerInput] = []
        self.items: asyncio.Queue[ContainerInput] = asyncio.Queue()
        self.ended = False

    async def give(self, item: ContainerInput) -> None:
        self.given.append(item)
        self.items.put_nowait(item)

    async def outputs(self) -> AsyncGenerator[StepOutput, None]:
        name, *rest = self._program.args
        if name == "nosuch":
            self.ended = True
            first = self is self._container.processes[0]
            why = f'unable to start container process: exec: "{name}": executable file not found in $PATH'
            yield StepStarted()
            yield Frame(Stream.STDERR, f"{(NOT_RUN if first else NOT_EXECUTED)[0]} {why}\n".encode())
            yield StepExit(1 if first else 255)
            return
        code = 0
        try:
            yield StepStarted()
            if name == "echo":
                yield Frame(Stream.STDOUT, " ".join(rest).encode() + b"\n")
            elif name in ("cat", "sleep"):
                while item := await self.items.get():
                    if isinstance(item, StepSignal):
                        code = 128 + item.number
                        break
                    if isinstance(item, bytes) and name == "cat":
                        yield Frame(Stream.STDOUT, item)
            else:
                code = self._container.code
                yield Frame(Stream.STDOUT, " ".join(self._program.args).encode())
        finally:
            self.ended = True
        yield StepExit(code)
