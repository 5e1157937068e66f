"""Pass on the signals that we get to the container that we stand for."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Final

from sampan.api.runtime.v1 import containers_pb2 as pb
from sampan.engine.engine import Engine
from sampan.errors import SampanError
from sampan.wire.channel import rpc_errors

# What is about this process itself, or cannot be caught.
_OURS: Final = {
    signal.SIGCHLD, signal.SIGPIPE, signal.SIGURG, signal.SIGWINCH, signal.SIGKILL, signal.SIGSTOP,
    signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT,
    signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS,
}  # fmt: skip

# The first process of a container ignores what it has no handler for; whoever presses Ctrl-C again wants out.
_PATIENCE: Final = 3


@contextlib.asynccontextmanager
async def passing_signals(engine: Engine, container: str) -> AsyncIterator[None]:
    """Send every signal that arrives on to ``container``, in order, until the end of the block."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[signal.Signals] = asyncio.Queue()
    numbers = [number for number in signal.Signals if number not in _OURS and number < signal.SIGRTMIN]
    for number in numbers:
        loop.add_signal_handler(number, arrived.put_nowait, number)
    passing = asyncio.create_task(_pass_on(engine, container, arrived), name="pass signals on")
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
        passing.cancel()
        await asyncio.gather(passing, return_exceptions=True)


async def _pass_on(engine: Engine, container: str, arrived: "asyncio.Queue[signal.Signals]") -> None:
    endings = 0
    while True:
        number = await arrived.get()
        endings += number in (signal.SIGINT, signal.SIGTERM)
        if endings == _PATIENCE:
            sys.stderr.write(f"sampan: got {_PATIENCE} SIGTERM/SIGINTs, leaving the container as it is\n")
            os._exit(1)
        # It may have ended a moment before; its exit is on the way to us.
        with contextlib.suppress(SampanError), rpc_errors():
            await engine.containers.Kill(pb.KillContainerRequest(container=container, signal=number.name))
