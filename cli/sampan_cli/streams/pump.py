"""Connect our own streams to a container's or an exec's, over the two calls that have the same shape.

Our own input is read without blocking the loop, and without changing the descriptor: it belongs to the shell, too.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final

from sampan.errors import UnavailableError
from sampan.handing import passing
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.streams import Accepted, Attached, Detached, Input, Output
from sampan_cli.streams.console import Console
from sampan_cli.streams.output import OutputWriter

_PIECE_BYTES: Final = 64 << 10


async def read_input(fd: int) -> AsyncIterator[bytes]:
    """Yield what arrives on ``fd`` until its end. Nothing is read ahead of what the caller has taken."""
    while True:
        try:
            await passing.readable(fd)
        except PermissionError:
            # epoll has no regular files, nor /dev/null: these never make anyone wait.
            piece = await asyncio.to_thread(os.read, fd, _PIECE_BYTES)
        else:
            piece = _read(fd)
        if not piece:
            return
        yield piece


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _PIECE_BYTES)
    except OSError:
        return b""  # EIO: the terminal is gone


# A call whose input is given to it: of a container's attachment, or of an exec.
Opened = Callable[[Input], AsyncGenerator[Accepted | Output, None]]

# Pieces of input, 64 KiB each, that wait for a process that does not read.
_BACKLOG: Final = 4


class Pump:
    """One attached call: ``open`` it, start what it is attached to, then ``run`` it; close it in any case."""

    def __init__(self, open_call: Opened, console: Console, stdin: bool, tty: bool) -> None:
        """``stdin``: whether our input is the process's."""
        self.console = console
        self.stdin = stdin
        self.tty = tty
        self._input: asyncio.Queue[bytes | ConsoleSize | None] = asyncio.Queue(_BACKLOG)
        self._output = open_call(self._given())

    async def _given(self) -> Input:
        while (item := await self._input.get()) is not None:
            yield item

    async def open(self) -> None:
        """Return when the other side is attached.

        Raises:
            SampanError: it refuses.
        """
        async for item in self._output:
            if isinstance(item, Attached):
                return
        raise UnavailableError("the engine closed the connection before it was attached")

    async def aclose(self) -> None:
        """End the call."""
        await self._output.aclose()

    async def run(self) -> bool:
        """Carry input and output until the other side has no more; say whether the user detached.

        Input that nobody reads any more does not keep this from ending.

        Raises:
            SampanError: the call failed.
            BrokenPipeError: nobody reads our output any more.
        """
        with contextlib.ExitStack() as stack:
            if self.tty and self.stdin and self.console.stdin_is_terminal:
                stack.enter_context(self.console.raw())
            tasks: list[asyncio.Task[None]] = []
            if self.tty:
                tasks.append(asyncio.create_task(self._follow_size(), name="follow the terminal's size"))
            if self.stdin:
                tasks.append(asyncio.create_task(self._read_input(), name="read input"))
            elif not self.tty:
                await self._input.put(None)
            try:
                return await self._receive()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive(self) -> bool:
        detached = False
        async with OutputWriter(self.console) as output:
            async for item in self._output:
                detached = detached or isinstance(item, Detached)
                if not isinstance(item, Accepted | Attached | Detached):
                    await output.write(item)
        return detached

    async def _read_input(self) -> None:
        async for piece in read_input(self.console.stdin):
            await self._input.put(piece)
        await self._input.put(None)

    async def _follow_size(self) -> None:
        async for _ in _now_and_at(signal.SIGWINCH):
            size = self.console.size()
            if size is not None:
                await self._input.put(size)


async def _now_and_at(number: signal.Signals) -> AsyncIterator[None]:
    """Yield once, and again whenever the signal has arrived since."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(number, arrived.set)
    try:
        while True:
            yield
            await arrived.wait()
            arrived.clear()
    finally:
        loop.remove_signal_handler(number)
