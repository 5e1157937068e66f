"""Connect our own streams to a container's or an exec's, over the two calls that have the same shape.

Our own input is read without blocking the loop, and without changing the descriptor: it belongs to the shell, too.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import grpc

from sampan.api.runtime.v1 import containers_pb2, execs_pb2
from sampan.errors import UnavailableError
from sampan_cli.streams.console import Console
from sampan_cli.streams.output import OutputWriter

_PIECE_BYTES: Final = 64 << 10


async def read_input(fd: int) -> AsyncIterator[bytes]:
    """Yield what arrives on ``fd`` until its end. Nothing is read ahead of what the caller has taken."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            await _readable(loop, fd)
        except PermissionError:
            # epoll has no regular files, nor /dev/null: these never make anyone wait.
            piece = await asyncio.to_thread(os.read, fd, _PIECE_BYTES)
        else:
            piece = _read(fd)
        if not piece:
            return
        yield piece


async def _readable(loop: asyncio.AbstractEventLoop, fd: int) -> None:
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


def _set(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _PIECE_BYTES)
    except OSError:
        return b""  # EIO: the terminal is gone


Request = type[containers_pb2.AttachRequest] | type[execs_pb2.StartExecRequest]

# Pieces of input, 64 KiB each, that wait for a process that does not read.
_BACKLOG: Final = 4


@dataclass(frozen=True, slots=True)
class Pump:
    """One attached call: ``open`` it, start what it is attached to, then ``run`` it."""

    call: Any  # grpc.aio.StreamStreamCall of requests of type ``request`` and StreamOutput
    request: Request
    console: Console
    stdin: bool  # whether our input is the process's
    tty: bool

    async def open(self, start: containers_pb2.AttachRequest | execs_pb2.StartExecRequest) -> None:
        """Send the first message and return when the other side is attached.

        Raises:
            grpc.aio.AioRpcError: it refuses.
        """
        await self.call.write(start)
        if await self.call.read() is grpc.aio.EOF:
            await self.call.code()
            raise UnavailableError("the engine closed the connection before it was attached")

    async def run(self) -> bool:
        """Carry input and output until the other side has no more; say whether the user detached.

        Input that nobody reads any more does not keep this from ending.

        Raises:
            grpc.aio.AioRpcError: the call failed.
            BrokenPipeError: nobody reads our output any more.
        """
        with contextlib.ExitStack() as stack:
            if self.tty and self.stdin and self.console.stdin_is_terminal:
                stack.enter_context(self.console.raw())
            requests: asyncio.Queue[Any] = asyncio.Queue(_BACKLOG)
            tasks = [asyncio.create_task(self._send(requests), name="send requests")]
            if self.tty:
                tasks.append(asyncio.create_task(self._follow_size(requests), name="follow the terminal's size"))
            if self.stdin:
                tasks.append(asyncio.create_task(self._read_input(requests), name="read input"))
            elif not self.tty:
                await requests.put(None)
            try:
                return await self._receive()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive(self) -> bool:
        detached = False
        async with OutputWriter(self.console) as output:
            while (message := await self.call.read()) is not grpc.aio.EOF:
                detached = detached or message.detached
                await output.write(message.frames)
        return detached

    async def _send(self, requests: "asyncio.Queue[Any]") -> None:
        # The other side may have ended first; why it did is the receiver's to say.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while (request := await requests.get()) is not None:
                await self.call.write(request)
            await self.call.done_writing()

    async def _read_input(self, requests: "asyncio.Queue[Any]") -> None:
        async for piece in read_input(self.console.stdin):
            await requests.put(self.request(stdin=piece))
        await requests.put(None)

    async def _follow_size(self, requests: "asyncio.Queue[Any]") -> None:
        async for _ in _now_and_at(signal.SIGWINCH):
            size = self.console.size()
            if size is not None:
                await requests.put(self.request(resize=size))


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
