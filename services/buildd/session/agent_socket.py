"""A socket whose connections are calls: what a step's process takes for its SSH agent.

Reference: unix(7).
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from buildd.session.protocol import SocketOwner
from sampan.errors import SampanError

_PIECE_BYTES: Final = 32 << 10
# ssh has one connection at a time, and forks of it a few.
_MAX_CONNECTIONS: Final = 64


class Conversation(Protocol):
    """Bytes both ways."""

    async def send(self, data: bytes) -> None:
        """Send. Raises SampanError."""

    async def end(self) -> None:
        """Say that nothing more is sent. Raises SampanError."""

    async def receive(self) -> bytes:
        """Return what has come; nothing at the end. Raises SampanError."""


Dial = Callable[[], AbstractAsyncContextManager[Conversation]]


@asynccontextmanager
async def listening(path: Path, owner: SocketOwner, dial: Dial) -> AsyncIterator[None]:
    """Listen at ``path`` within, and bridge each connection to a conversation of its own.

    At the end connections are closed, and ``path`` is removed. It may be longer than a socket's name can be.

    Raises:
        OSError: it cannot be made.
    """
    bridges: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(bridges) >= _MAX_CONNECTIONS:
            writer.close()
            return
        task = asyncio.create_task(_bridge(reader, writer, dial), name=f"agent at {path}")
        bridges.add(task)
        task.add_done_callback(bridges.discard)

    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        server = await asyncio.start_unix_server(accept, f"/proc/self/fd/{directory}/{path.name}")
        try:
            # Nobody may use it before it has its owner: the mode comes last.
            os.chown(path.name, owner.uid, owner.gid, dir_fd=directory, follow_symlinks=False)
            os.chmod(path.name, owner.mode, dir_fd=directory)
            yield
        finally:
            server.close()
            for task in bridges:
                task.cancel()
            await asyncio.gather(*bridges, return_exceptions=True)
            with suppress(FileNotFoundError):
                os.unlink(path.name, dir_fd=directory)
    finally:
        os.close(directory)


async def _bridge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dial: Dial) -> None:
    """Serve one connection to its end. What goes wrong ends it: the process sees an agent that hangs up."""
    try:
        with suppress(SampanError, OSError):
            async with dial() as conversation:
                out = asyncio.create_task(_out(reader, conversation))
                try:
                    while data := await conversation.receive():
                        writer.write(data)
                        await writer.drain()
                finally:
                    out.cancel()
                    await asyncio.gather(out, return_exceptions=True)
    finally:
        writer.close()


async def _out(reader: asyncio.StreamReader, conversation: Conversation) -> None:
    while data := await reader.read(_PIECE_BYTES):
        await conversation.send(data)
    await conversation.end()
