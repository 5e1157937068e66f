"""Stand for a container in the foreground: its streams, the signals that we get, and at the end, its exit code."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from sampan.errors import InvalidArgumentError, SampanError, UnavailableError
from sampan.resource.container import Condition, Exit
from sampan.resource.streams import AttachOptions, Stream
from sampan_cli.streams.console import Console
from sampan_cli.streams.pump import Pump

if TYPE_CHECKING:
    from sampan_cli.backend import ContainerBackend

# What is about this process itself, or cannot be caught.
_OURS: Final = {
    signal.SIGCHLD, signal.SIGPIPE, signal.SIGURG, signal.SIGWINCH, signal.SIGKILL, signal.SIGSTOP,
    signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT,
    signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS,
}  # fmt: skip

# What the loop has handlers for while a command runs: see ``Session.run``.
_ENDINGS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

# The first process of a container ignores what it has no handler for; whoever presses Ctrl-C again wants out.
_PATIENCE: Final = 3


@contextlib.asynccontextmanager
async def passing_signals(engine: "ContainerBackend", container: str) -> AsyncIterator[None]:
    """Send every signal that arrives on to ``container``, in order, until the block ends; ignored ones never do."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[signal.Signals] = asyncio.Queue()
    numbers = [
        number
        for number in signal.Signals
        if number not in _OURS and number < signal.SIGRTMIN and signal.getsignal(number) is not signal.SIG_IGN
    ]

    def take(number: int, _: object) -> None:
        loop.call_soon_threadsafe(arrived.put_nowait, signal.Signals(number))

    # The loop's own way makes a set of all signals for each, a third of a millisecond each time.
    # Those that end a command have a handler of the loop's already.
    for number in numbers:
        if number in _ENDINGS:
            loop.add_signal_handler(number, arrived.put_nowait, number)
        else:
            signal.signal(number, take)
    passing = asyncio.create_task(_pass_on(engine, container, arrived), name="pass signals on")
    try:
        yield
    finally:
        for number in numbers:
            if number in _ENDINGS:
                loop.remove_signal_handler(number)
            else:
                signal.signal(number, signal.SIG_DFL)
        passing.cancel()
        await asyncio.gather(passing, return_exceptions=True)


async def _pass_on(engine: "ContainerBackend", container: str, arrived: "asyncio.Queue[signal.Signals]") -> None:
    endings = 0
    while True:
        number = await arrived.get()
        endings += number in (signal.SIGINT, signal.SIGTERM)
        if endings == _PATIENCE:
            sys.stderr.write(f"sampan: got {_PATIENCE} SIGTERM/SIGINTs, leaving the container as it is\n")
            os._exit(1)
        # It may have ended a moment before; its exit is on the way to us.
        with contextlib.suppress(SampanError):
            await engine.containers.kill(container, number.name)


_SHORT_ID: Final = 12


class ConnectionLostError(SampanError):
    """The engine went away while a container was in the foreground; the container did not."""


class DetachedError(SampanError):
    """The user typed the detach keys: no failure for who started the container, and Docker's error for who joined."""

    def __init__(self) -> None:
        super().__init__("read escape sequence")


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

    @property
    def attachment(self) -> AttachOptions:
        """What of the container's streams is connected."""
        wanted = ((Stream.STDOUT, self.stdout), (Stream.STDERR, self.stderr))
        return AttachOptions(
            stdin=self.stdin,
            streams=frozenset(stream for stream, asked in wanted if asked),
            detach_keys=self.detach_keys,
        )

    def check(self, console: Console) -> None:
        """Raise InvalidArgumentError if this needs a terminal that is not there."""
        if self.tty and self.stdin and not console.stdin_is_terminal:
            raise InvalidArgumentError("the input device is not a TTY")


async def in_foreground(
    engine: "ContainerBackend", foreground: Foreground, console: Console, start: Callable[[], Awaitable[None]] | None
) -> int:
    """Attach, then ``start`` the container unless it runs, and return its exit code; 0 if its starter detached.

    The attachment and the wait are in place before the start: no output and no exit code can be missed.

    Raises:
        ConnectionLostError: the engine went away while the container ran.
        DetachedError: the user detached from a container that ran before.
        SampanError: it could not be attached to or started.
    """
    condition = Condition.NEXT_EXIT if start else Condition.NOT_RUNNING
    if foreground.removed:
        condition = Condition.REMOVED
    containers = engine.containers
    attachment = foreground.attachment
    # Both calls end here whatever happens: an attachment that is left open holds a container's input open.
    async with (
        aclosing(containers.wait(foreground.container, condition)) as wait,
        aclosing(
            Pump(
                lambda given: containers.attach(foreground.container, attachment, given),
                console,
                foreground.stdin,
                foreground.tty,
            )
        ) as pump,
    ):
        await pump.open()
        if start is not None:
            await anext(wait)  # it is in place
            await start()
        try:
            if not await _pump(engine, foreground, pump):
                return await _exit_code(wait)
        except UnavailableError as error:
            short = foreground.container[:_SHORT_ID]
            raise ConnectionLostError(
                f"the connection to the engine is lost; container {short} goes on without it: "
                f"use 'sampan attach {short}' or 'sampan logs {short}' once the engine is back"
            ) from error
    if start is None:
        raise DetachedError
    return 0


async def _pump(engine: "ContainerBackend", foreground: Foreground, pump: Pump) -> bool:
    # With a terminal Ctrl-C is a character like any other and the process inside gets its signal from its own terminal.
    if foreground.sig_proxy and not foreground.tty:
        async with passing_signals(engine, foreground.container):
            return await pump.run()
    return await pump.run()


async def _exit_code(wait: AsyncGenerator[Exit | None, None]) -> int:
    async for end in wait:
        if end is not None:
            return end.code
    raise UnavailableError("the engine stopped before the container did")
