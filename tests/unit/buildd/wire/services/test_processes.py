"""The conversation of ``ExecProcess``, with processes that only say their command."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from buildd.executor.protocol import ContainerProcess, Program
from buildd.llb.ops import ExecOp, Process
from buildd.wire.services.processes import Processes, container_from_proto
from sampan.api.buildkit.gateway.v1 import gateway_pb2 as pb
from sampan.api.buildkit.solver.v1 import ops_pb2
from sampan.build.step import StepSignal
from sampan.errors import (
    AlreadyExistsError,
    CommandNotFoundError,
    InvalidArgumentError,
    NotFoundError,
    SampanError,
    UnimplementedError,
)
from sampan.resource.container_spec import ConsoleSize
from tests.fakes.build_containers import FakeContainer, FakeContainerProcess


class OneContainer:
    """As much of a gateway as has processes started in its container "c"."""

    def __init__(self, code: int = 0) -> None:
        self.container = FakeContainer(ExecOp(Process(("container",)), ()), code)
        self.started: list[FakeContainerProcess] = []

    async def start_process(self, container: str, program: Program) -> ContainerProcess:
        if container != "c":
            raise NotFoundError(f'container "{container}" previously released or not created')
        if program.args == ("nosuch",):
            raise CommandNotFoundError("nosuch")
        self.started.append(await self.container.start(program))
        return self.started[-1]


def init(process: str = "p", *args: str, container: str = "c", fds: tuple[int, ...] = (0, 1, 2)) -> pb.ExecMessage:
    meta = ops_pb2.Meta(args=args or ("ls",))
    return pb.ExecMessage(ProcessID=process, Init=pb.InitMessage(ContainerID=container, Meta=meta, Fds=fds, Tty=True))


async def converse(gateway: OneContainer, *messages: pb.ExecMessage) -> list[pb.ExecMessage]:
    told: list[pb.ExecMessage] = []

    async def write(message: pb.ExecMessage) -> None:
        told.append(message)

    async def given() -> AsyncIterator[pb.ExecMessage]:
        for message in messages:
            yield message
            await asyncio.sleep(0)

    await Processes(gateway, write).run(given())  # type: ignore[arg-type]
    return told


async def test_a_process_is_told_from_its_start_to_its_end() -> None:
    told = await converse(OneContainer(7), init("p", "ls", "-l"))
    kinds = [message.WhichOneof("Input") for message in told]
    assert kinds == ["Started", "File", "File", "File", "Exit", "Done"]
    assert (told[1].File.Fd, told[1].File.Data) == (1, b"ls -l")
    assert [(each.File.Fd, each.File.EOF) for each in told[2:4]] == [(1, True), (2, True)]
    assert (told[4].Exit.Code, told[4].Exit.Error.message) == (7, "exit code: 7")
    assert {message.ProcessID for message in told} == {"p"}


async def test_what_a_client_does_not_ask_for_is_not_sent() -> None:
    told = await converse(OneContainer(), init(fds=()))
    assert [message.WhichOneof("Input") for message in told] == ["Started", "Exit", "Done"]


async def test_a_process_is_given_input_sizes_and_signals() -> None:
    gateway = OneContainer()
    await converse(
        gateway,
        init(),
        pb.ExecMessage(ProcessID="p", File=pb.FdMessage(Fd=0, Data=b"typed", EOF=True)),
        pb.ExecMessage(ProcessID="p", Resize=pb.ResizeMessage(Rows=24, Cols=80)),
        pb.ExecMessage(ProcessID="p", Signal=pb.SignalMessage(Name="TERM")),
    )
    assert gateway.started[0].given[:4] == [b"typed", b"", ConsoleSize(24, 80), StepSignal(15)]


@pytest.mark.parametrize(
    ("messages", "error", "words"),
    [
        ([init("")], InvalidArgumentError, "ProcessID required"),
        ([init(), init()], AlreadyExistsError, "Process p already exists"),
        ([init(container="other")], NotFoundError, 'container "other" previously released or not created'),
        ([init(fds=(0, 1, 5))], InvalidArgumentError, "descriptor 5 of a process is not supported"),
        ([pb.ExecMessage(ProcessID="p", Init=pb.InitMessage())], InvalidArgumentError, "process meta is required"),
        ([pb.ExecMessage(ProcessID="q", Resize=pb.ResizeMessage())], NotFoundError, 'IO for process "q" not found'),
        (
            [init(), pb.ExecMessage(ProcessID="p", Signal=pb.SignalMessage(Name="NO"))],
            InvalidArgumentError,
            "Unknown signal NO",
        ),
        (
            [init(), pb.ExecMessage(ProcessID="p", File=pb.FdMessage(Fd=1, Data=b"x"))],
            InvalidArgumentError,
            "descriptor 1 of the process is not written to",
        ),
    ],
)
async def test_what_cannot_be_ends_the_call(
    messages: list[pb.ExecMessage], error: type[SampanError], words: str
) -> None:
    with pytest.raises(error, match=words):
        await converse(OneContainer(), *messages)


def test_a_container_is_made_of_results() -> None:
    request = pb.NewContainerRequest(
        ContainerID="c",
        Mounts=[
            ops_pb2.Mount(dest="/", resultID="one"),
            ops_pb2.Mount(dest="/tmp", mountType=ops_pb2.TMPFS),
            ops_pb2.Mount(dest="/mnt", resultID="two", readonly=True),
        ],
        hostname="probe",
    )
    wanted = container_from_proto(request)
    assert wanted.refs == ("one", "two")
    assert [(mount.dest, mount.input, mount.output) for mount in wanted.mounts] == [
        ("/", 0, -1), ("/tmp", -1, -1), ("/mnt", 1, -1)
    ]  # fmt: skip
    request.constraints.filter.append("x==y")
    with pytest.raises(UnimplementedError, match="worker constraint 'x==y'"):
        container_from_proto(request)
