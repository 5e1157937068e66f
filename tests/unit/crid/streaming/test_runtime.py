import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crid.streaming import runtime
from crid.streaming.requests import AttachRequest, Ended, ExecRequest, StandardStreams
from crid.streaming.runtime import EngineProcesses, SandboxPorts
from sampan.errors import ConflictError, StartError, UnavailableError
from sampan.resource.container import ContainerDetails, ContainerState, Status
from sampan.resource.container_spec import ConsoleSize, ContainerSpec
from sampan.resource.exec import Exec, ExecSpec
from sampan.resource.streams import (
    NO_DETACH_KEYS,
    Accepted,
    Attached,
    AttachOptions,
    ExecStart,
    Frame,
    Input,
    Output,
    Stream,
)

TERMINAL = StandardStreams(stdin=True, stdout=True, tty=True)


class Engine:
    """Execs and containers of an engine with one container; what is typed comes back."""

    def __init__(self, status: Status = Status.RUNNING, exit_code: int | None = 0) -> None:
        self.exec = Exec("e", "c", ExecSpec(("x",)), exit_code=exit_code)
        self.details = ContainerDetails("c", ContainerSpec(), datetime.now(UTC), state=ContainerState(status))
        self.asked: list[object] = []

    async def create(self, container: str, spec: ExecSpec) -> str:
        self.exec = replace(self.exec, container_id=container, spec=spec)
        return self.exec.id

    async def get(self, id: str) -> Exec:
        return self.exec

    async def start(self, id: str, options: ExecStart, input: Input) -> AsyncGenerator[Accepted | Output, None]:
        if self.exec.spec.args == ("fail",):
            raise StartError("no such file")
        yield Accepted(attaches_stdin=True)
        async for item in self._echo(input):
            yield item

    async def resize(self, id: str, size: ConsoleSize) -> None:
        self.asked.append((id, size))

    async def _echo(self, input: Input) -> AsyncGenerator[Output, None]:
        yield Attached()
        async for data in input:
            assert isinstance(data, bytes)
            yield [Frame(Stream.STDOUT, data)]


class Containers:
    """The same engine's containers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def get(self, container: str) -> ContainerDetails:
        return self._engine.details

    async def attach(self, container: str, options: AttachOptions, input: Input) -> AsyncGenerator[Output, None]:
        self._engine.asked.append((container, options))
        async for item in self._engine._echo(input):
            yield item

    async def resize(self, container: str, size: ConsoleSize) -> None:
        self._engine.asked.append((container, size))


async def typed(*texts: bytes) -> AsyncIterator[bytes]:
    for text in texts:
        yield text


async def test_exec_is_run_with_every_key_the_processs_own_and_ends_with_its_code() -> None:
    engine = Engine(exit_code=7)
    session = await EngineProcesses(Containers(engine), engine).exec(ExecRequest("c", ("sh", "-i"), TERMINAL))
    await session.resize(ConsoleSize(24, 80))
    told = [item async for item in session.run(typed(b"a", b"b"))]
    assert told == [[Frame(Stream.STDOUT, b"a")], [Frame(Stream.STDOUT, b"b")], Ended(7)]
    spec = ExecSpec(("sh", "-i"), tty=True, attach_stdin=True, attach_stdout=True, detach_keys=NO_DETACH_KEYS)
    assert (engine.exec.container_id, engine.exec.spec, engine.asked) == ("c", spec, [("e", ConsoleSize(24, 80))])


async def test_exec_that_cannot_be_started_says_why() -> None:
    engine = Engine()
    session = await EngineProcesses(Containers(engine), engine).exec(ExecRequest("c", ("fail",), TERMINAL))
    with pytest.raises(StartError, match="no such file"):
        _ = [item async for item in session.run(typed())]


async def test_attachment_asks_for_the_streams_that_are_wanted_and_tells_no_code() -> None:
    engine = Engine()
    wanted = StandardStreams(stdin=True, stderr=True)
    session = await EngineProcesses(Containers(engine), engine).attach(AttachRequest("c", wanted))
    await session.resize(ConsoleSize(1, 2))
    assert [item async for item in session.run(typed(b"x"))] == [[Frame(Stream.STDOUT, b"x")]]
    options = AttachOptions(stdin=True, streams=frozenset((Stream.STDERR,)), detach_keys=NO_DETACH_KEYS)
    assert engine.asked == [("c", ConsoleSize(1, 2)), ("c", options)]


@pytest.mark.parametrize("status", [Status.CREATED, Status.EXITED, Status.PAUSED])
async def test_container_that_does_not_run_is_not_waited_for(status: Status) -> None:
    engine = Engine(status)
    with pytest.raises(ConflictError, match="is not running"):
        await EngineProcesses(Containers(engine), engine).attach(AttachRequest("c", TERMINAL))


@pytest.fixture(params=[(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family, host = request.param
    with socket.socket(family, socket.SOCK_STREAM) as made:
        made.bind((host, 0))
        made.listen()
        yield made


async def host_network(sandbox: str) -> Path | None:
    if sandbox != "s":
        raise ConflictError(f"pod sandbox {sandbox} is not ready")
    return None


async def test_port_is_reached_on_either_familys_loopback(listener: socket.socket) -> None:
    connection = await SandboxPorts(host_network).connect("s", listener.getsockname()[1])
    with connection, listener.accept()[0] as accepted:
        assert not connection.getblocking()
        accepted.sendall(b"hello")
        assert await asyncio.get_running_loop().sock_recv(connection, 9) == b"hello"


async def test_port_at_which_nothing_listens_is_told() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(UnavailableError, match=r"nothing accepts connections at port \d+ of the pod"):
            await SandboxPorts(host_network).connect("s", probe.getsockname()[1])


async def fill(port: int, connections: list[socket.socket]) -> None:
    """Connect until a connection is not answered: the listener has room for one or two that it has not accepted."""
    for _ in range(4):
        connections.append(await SandboxPorts(host_network).connect("s", port))  # noqa: PERF401


async def test_port_that_does_not_answer_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_CONNECT_S", 0.02)
    connections: list[socket.socket] = []
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with pytest.raises(UnavailableError, match="nothing accepts"):
            await fill(full.getsockname()[1], connections)
        for connection in connections:
            connection.close()


async def test_sandbox_that_is_not_ready_is_not_connected_to() -> None:
    with pytest.raises(ConflictError, match="not ready"):
        await SandboxPorts(host_network).connect("x", 80)
