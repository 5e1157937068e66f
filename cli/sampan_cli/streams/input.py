"""Read a descriptor without blocking the loop, and without changing it: it belongs to the shell, too."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Final

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
