"""Containers that clients have beside their builds: ``NewContainer``, and the conversation of ``ExecProcess``.

Of each process a client is told that it has started, what it writes, that it writes no more, its exit, and that this
was all, in this order.

Reference: moby/buildkit, frontend/gateway/pb/gateway.proto and frontend/gateway/grpcclient.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import grpc

from buildd.build.protocol import ContainerRequest, Gateway
from buildd.executor.protocol import ContainerProcess, Program
from buildd.llb.ops import NO_INPUT, NO_OUTPUT, HostAddress, NetMode, SecretEnv
from buildd.wire.llb.decode import mount_from_proto
from buildd.wire.services.errors import error_status
from sampan.api.buildkit.gateway.v1 import gateway_pb2 as pb
from sampan.api.buildkit.solver.v1 import ops_pb2
from sampan.api.rpc.status_pb2 import Status
from sampan.build.step import StepExit, StepOutput, StepSecurity, StepSignal, StepStarted
from sampan.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, SampanError, UnimplementedError
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.streams import Frame

_STDIN: Final = 0
_OUTPUTS: Final = (1, 2)
_UNKNOWN_EXIT: Final = 255  # of a process that could not be started, or of which nobody knows how it ended
_MAX_PROCESSES: Final = 100  # of one call

Write = Callable[[pb.ExecMessage], Awaitable[None]]


def container_from_proto(request: pb.NewContainerRequest) -> ContainerRequest:
    """Return which container is wanted.

    Raises:
        InvalidArgumentError: a mount, a network or a host that cannot be.
        UnimplementedError: a constraint on workers: there is one.
    """
    if request.constraints.filter:
        raise UnimplementedError(f"worker constraint {request.constraints.filter[0]!r} is not supported")
    refs: list[str] = []
    mounts = []
    for each in request.Mounts:
        mount = ops_pb2.Mount()
        mount.CopyFrom(each)
        mount.input, mount.output = NO_INPUT, NO_OUTPUT
        if each.resultID:
            mount.input = len(refs)
            refs.append(each.resultID)
        mounts.append(mount_from_proto(mount, len(refs)))
    try:
        network = NetMode(request.Network)
    except ValueError as error:
        raise InvalidArgumentError(f"invalid network mode {request.Network} of a container") from error
    return ContainerRequest(
        request.ContainerID,
        tuple(mounts),
        tuple(refs),
        network,
        request.hostname,
        tuple(HostAddress(each.Host, each.IP) for each in request.extraHosts),
    )


@dataclass(slots=True)
class _Running:
    process: ContainerProcess
    fds: frozenset[int]
    tty: bool
    task: "asyncio.Task[None]"


class Processes:
    """The processes of one call."""

    def __init__(self, gateway: Gateway, write: Write) -> None:
        self._gateway = gateway
        self._write = write
        self._writing = asyncio.Lock()
        self._running: dict[str, _Running] = {}

    async def run(self, messages: AsyncIterator[pb.ExecMessage]) -> None:
        """Do what a client says, and return when it says no more and all its processes have ended.

        Raises:
            SampanError: a message that cannot be; all processes are ended.
        """
        taking = asyncio.create_task(self._take_all(messages), name="messages to processes")
        try:
            await taking
            while waiting := [each.task for each in self._running.values() if not each.task.done()]:
                await asyncio.wait(waiting)
        finally:
            for task in (taking, *(each.task for each in self._running.values())):
                task.cancel()
            ended = await asyncio.gather(*(each.task for each in self._running.values()), return_exceptions=True)
        for result in ended:
            if isinstance(result, SampanError):
                raise result

    async def _take_all(self, messages: AsyncIterator[pb.ExecMessage]) -> None:
        async for message in messages:
            await self._take(message)
        for each in self._running.values():
            if _STDIN in each.fds and not each.task.done():
                await each.process.give(b"")

    async def _take(self, message: pb.ExecMessage) -> None:
        process_id = message.ProcessID
        if not process_id:
            raise InvalidArgumentError("ProcessID required")
        kind = message.WhichOneof("Input")
        if kind == "Init":
            await self._begin(process_id, message.Init)
            return
        running = self._running.get(process_id)
        if running is None:
            raise NotFoundError(f'IO for process "{process_id}" not found')
        match kind:
            case "File":
                await self._give(running, message.File)
            case "Resize":
                if running.tty:
                    await running.process.give(ConsoleSize(message.Resize.Rows, message.Resize.Cols))
            case "Signal":
                await running.process.give(StepSignal(_signal(message.Signal.Name)))
            case _:
                raise InvalidArgumentError(f"a process is not given {kind or 'a message without anything in it'}")

    async def _give(self, running: _Running, file: pb.FdMessage) -> None:
        if file.Fd != _STDIN or _STDIN not in running.fds:
            raise InvalidArgumentError(f"descriptor {file.Fd} of the process is not written to by its client")
        if file.Data:
            await running.process.give(file.Data)
        if file.EOF:
            await running.process.give(b"")

    async def _begin(self, id: str, init: pb.InitMessage) -> None:
        if id in self._running:
            raise AlreadyExistsError(f"Process {id} already exists")
        if len(self._running) >= _MAX_PROCESSES:
            raise InvalidArgumentError(f"one call has {_MAX_PROCESSES} processes at most")
        if not init.HasField("Meta") or not init.Meta.args:
            raise InvalidArgumentError("process meta is required")
        fds = frozenset(init.Fds)
        for fd in fds - {_STDIN, *_OUTPUTS}:
            raise InvalidArgumentError(f"descriptor {fd} of a process is not supported: it has 0, 1 and 2")
        if init.Security not in (ops_pb2.SANDBOX, ops_pb2.INSECURE):
            raise InvalidArgumentError(f"invalid security mode {init.Security} of a process")
        program = Program(
            tuple(init.Meta.args),
            tuple(init.Meta.env),
            init.Meta.cwd,
            init.Meta.user,
            tty=init.Tty,
            stdin=_STDIN in fds,
            security=StepSecurity.INSECURE if init.Security == ops_pb2.INSECURE else StepSecurity.CONFINED,
            secret_env=tuple(SecretEnv(each.ID, each.name, each.optional) for each in init.secretenv),
        )
        process = await self._gateway.start_process(init.ContainerID, program)
        begun = asyncio.Event()
        task = asyncio.create_task(self._tell(id, process, fds, begun), name=f"process {id}")
        self._running[id] = _Running(process, fds, init.Tty, task)
        # Who has been told that one has started may start the next one, which runs inside of it.
        waiting = asyncio.create_task(begun.wait())
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    async def _tell(self, id: str, process: ContainerProcess, fds: frozenset[int], begun: asyncio.Event) -> None:
        told_started, ended = False, pb.ExitMessage(Code=_UNKNOWN_EXIT)
        try:
            async with aclosing(process.outputs()) as outputs:
                async for output in outputs:
                    if isinstance(output, StepStarted):
                        told_started = True
                        await self._send(pb.ExecMessage(ProcessID=id, Started=pb.StartedMessage()))
                        begun.set()
                    elif isinstance(output, Frame) and output.stream.value in fds:
                        file = pb.FdMessage(Fd=output.stream.value, Data=output.data)
                        await self._send(pb.ExecMessage(ProcessID=id, File=file))
                    elif isinstance(output, StepExit):
                        ended = _exit(output)
        except SampanError as error:
            ended = pb.ExitMessage(Code=_UNKNOWN_EXIT, Error=Status.FromString(error_status(error)))
        if not told_started:
            await self._send(pb.ExecMessage(ProcessID=id, Started=pb.StartedMessage()))
        for fd in sorted(fds & set(_OUTPUTS)):
            await self._send(pb.ExecMessage(ProcessID=id, File=pb.FdMessage(Fd=fd, EOF=True)))
        await self._send(pb.ExecMessage(ProcessID=id, Exit=ended))
        await self._send(pb.ExecMessage(ProcessID=id, Done=pb.DoneMessage()))

    async def _send(self, message: pb.ExecMessage) -> None:
        async with self._writing:
            await self._write(message)


def _exit(output: StepOutput) -> pb.ExitMessage:
    assert isinstance(output, StepExit)
    if not output.code:
        return pb.ExitMessage()
    words = "cannot allocate memory" if output.oom_killed else f"exit code: {output.code}"
    code: int = grpc.StatusCode.UNKNOWN.value[0]
    return pb.ExitMessage(Code=output.code, Error=Status(code=code, message=words))


def _signal(name: str) -> int:
    try:
        return signal.Signals[f"SIG{name.upper().removeprefix('SIG')}"].value
    except KeyError as error:
        raise InvalidArgumentError(f"Unknown signal {name}") from error
