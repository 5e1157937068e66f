"""Sessions with the processes of runtimed's containers, and connections into sandboxes' networks."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final, Protocol

from crid.streaming.requests import AttachRequest, Ended, ExecRequest, Session
from sampan.errors import ConflictError, UnavailableError
from sampan.resource.container import ContainerDetails, Status
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.exec import Exec, ExecSpec
from sampan.resource.streams import (
    NO_DETACH_KEYS,
    Accepted,
    Attached,
    AttachOptions,
    Detached,
    ExecStart,
    Frame,
    Input,
    Output,
    Stream,
)
from sampan.sys import netns
from sampan.sys.netns import in_own_thread

_CONNECT_S: Final = 30.0


class Containers(Protocol):
    """What this room asks of runtimed's containers; see ``sampan.resource.protocols``."""

    async def get(self, container: str) -> ContainerDetails:
        """Return one."""

    def attach(self, container: str, options: AttachOptions, input: Input) -> AsyncGenerator[Output, None]:
        """Connect a client with its streams."""

    async def resize(self, container: str, size: ConsoleSize) -> None:
        """Set its terminal's size."""


class Execs(Protocol):
    """What it asks of further processes."""

    async def create(self, container: str, spec: ExecSpec) -> str:
        """Record one to run; return its ID."""

    async def get(self, id: str) -> Exec:
        """Return one."""

    def start(self, id: str, options: ExecStart, input: Input) -> AsyncGenerator[Accepted | Output, None]:
        """Run it."""

    async def resize(self, id: str, size: ConsoleSize) -> None:
        """Set its terminal's size."""


class EngineProcesses:
    """``Processes`` of an engine. A terminal's keys are all the process's own: CRI knows none that detach."""

    def __init__(self, containers: Containers, execs: Execs) -> None:
        self._containers = containers
        self._execs = execs

    async def exec(self, request: ExecRequest) -> Session:
        """Prepare a further process."""
        streams = request.streams
        spec = ExecSpec(
            request.command,
            tty=streams.tty,
            attach_stdin=streams.stdin,
            attach_stdout=streams.stdout,
            attach_stderr=streams.stderr,
            detach_keys=NO_DETACH_KEYS,
        )
        return _ExecSession(self._execs, await self._execs.create(request.container, spec))

    async def attach(self, request: AttachRequest) -> Session:
        """Prepare a connection with the first one."""
        details = await self._containers.get(request.container)
        if details.state.status is not Status.RUNNING:  # it would be waited for
            raise ConflictError(f"container {request.container} is not running: it cannot be attached to")
        wanted = {Stream.STDOUT: request.streams.stdout, Stream.STDERR: request.streams.stderr}
        options = AttachOptions(
            stdin=request.streams.stdin,
            streams=frozenset(stream for stream, is_wanted in wanted.items() if is_wanted),
            detach_keys=NO_DETACH_KEYS,
        )
        return _Attachment(self._containers, request.container, options)


class _ExecSession:
    def __init__(self, execs: Execs, id: str) -> None:
        self._execs = execs
        self._id = id

    async def run(self, stdin: AsyncIterator[bytes]) -> AsyncGenerator[Sequence[Frame] | Ended, None]:
        async with aclosing(self._execs.start(self._id, ExecStart(), stdin)) as output:
            async for item in output:
                if not isinstance(item, (Accepted, Attached, Detached)):
                    yield item
        code = (await self._execs.get(self._id)).exit_code
        yield Ended(0 if code is None else code)

    async def resize(self, size: ConsoleSize) -> None:
        await self._execs.resize(self._id, size)


class _Attachment:
    def __init__(self, containers: Containers, container: str, options: AttachOptions) -> None:
        self._containers = containers
        self._container = container
        self._options = options

    async def run(self, stdin: AsyncIterator[bytes]) -> AsyncGenerator[Sequence[Frame] | Ended, None]:
        async with aclosing(self._containers.attach(self._container, self._options, stdin)) as output:
            async for item in output:
                if not isinstance(item, (Attached, Detached)):
                    yield item

    async def resize(self, size: ConsoleSize) -> None:
        await self._containers.resize(self._container, size)


class SandboxPorts:
    """``Ports`` of pods in network namespaces, by both families' loopback."""

    def __init__(self, namespace: Callable[[str], Awaitable[Path | None]]) -> None:
        """``namespace`` returns the file of a ready sandbox's network, None if that is the host's.

        It raises NotFoundError, and ConflictError for a sandbox that is not ready.
        """
        self._namespace = namespace

    async def connect(self, sandbox: str, port: int) -> socket.socket:
        """Return a connection with what listens at the port."""
        path = await self._namespace(sandbox)
        problem: OSError | None = None
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            try:
                return await _connect(path, family, host, port)
            except OSError as error:
                problem = problem or error
        raise UnavailableError(f"nothing accepts connections at port {port} of the pod: {problem}") from problem


async def _connect(path: Path | None, family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    def make() -> socket.socket:
        if path is not None:
            netns.enter(path)
        return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)

    # A socket stays in the namespace that it was made in.
    sock = await in_own_thread(make, f"port {port}")
    with contextlib.ExitStack() as stack:
        stack.callback(sock.close)
        async with asyncio.timeout(_CONNECT_S):  # TimeoutError is an OSError
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
        stack.pop_all()
    return sock
