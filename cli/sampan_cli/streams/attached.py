"""Stand for a container in the foreground: its streams, its signals and, at the end, its exit code."""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import grpc

from sampan.api.runtime.v1 import containers_pb2 as pb
from sampan.engine.engine import Engine
from sampan.errors import InvalidArgumentError, UnavailableError
from sampan.wire.channel import rpc_errors
from sampan_cli.streams.console import Console
from sampan_cli.streams.pump import Pump
from sampan_cli.streams.signals import passing_signals


@dataclass(frozen=True, slots=True)
class Foreground:
    """How to attach to one container."""

    container: str
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool
    sig_proxy: bool
    detach_keys: str = ""
    removed: bool = False  # wait until the container is removed, which happens by itself

    def of(self, container: str) -> "Foreground":
        """Return the same for ``container``, which now has an ID."""
        return replace(self, container=container)

    def check(self, console: Console) -> None:
        """Raise InvalidArgumentError if this needs a terminal that is not there."""
        if self.tty and self.stdin and not console.stdin_is_terminal:
            raise InvalidArgumentError("the input device is not a TTY")


async def in_foreground(
    engine: Engine, foreground: Foreground, console: Console, start: Callable[[], Awaitable[None]] | None
) -> int:
    """Attach, then ``start`` the container unless it runs, and return its exit code; 0 if the user detached.

    The attachment and the wait are in place before the start: no output and no exit code can be missed.
    """
    condition = pb.WaitContainerRequest.NEXT_EXIT if start else pb.WaitContainerRequest.NOT_RUNNING
    if foreground.removed:
        condition = pb.WaitContainerRequest.REMOVED
    request = pb.WaitContainerRequest(container=foreground.container, condition=condition)
    with rpc_errors():
        call = engine.containers.Attach()
        wait = engine.containers.Wait(request)
        # Both end here with whatever happens: an attachment that is left open holds a container's input open.
        with contextlib.ExitStack() as stack:
            stack.callback(call.cancel)
            stack.callback(wait.cancel)
            pump = Pump(call, pb.AttachRequest, console, foreground.stdin, foreground.tty)
            await pump.open(_attach_request(foreground))
            if start is not None:
                if await wait.read() is grpc.aio.EOF:
                    raise UnavailableError("the engine closed the connection")
                await start()
            if await _pump(engine, foreground, pump):
                return 0
            return await _exit_code(wait)


async def _pump(engine: Engine, foreground: Foreground, pump: Pump) -> bool:
    # With a terminal Ctrl-C is a character like any other and the process inside gets its signal from its own terminal.
    if foreground.sig_proxy and not foreground.tty:
        async with passing_signals(engine, foreground.container):
            return await pump.run()
    return await pump.run()


async def _exit_code(wait: "grpc.aio.UnaryStreamCall[pb.WaitContainerRequest, pb.WaitContainerResponse]") -> int:
    code = 0
    while (answer := await wait.read()) is not grpc.aio.EOF:
        assert isinstance(answer, pb.WaitContainerResponse)
        code = code if answer.waiting else answer.exit_code
    return code


def _attach_request(foreground: Foreground) -> pb.AttachRequest:
    return pb.AttachRequest(
        start=pb.AttachRequest.Start(
            container=foreground.container,
            stdin=foreground.stdin,
            stdout=foreground.stdout,
            stderr=foreground.stderr,
            stream=True,
            detach_keys=foreground.detach_keys,
        )
    )
