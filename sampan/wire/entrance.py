"""Where a service is connected to, when somebody else holds the socket: who comes while it does not run waits there.

What has been accepted is this process's to answer, what has not is the next one's; there is nothing in between, so that
a service can end at a moment at which nobody is connected and nobody notices.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Final

from sampan.log import log

# Serves one connection to its end, and closes it.
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]

_READ_BYTES: Final = 256 << 10
_PAUSE_S: Final = 1.0  # where there are no descriptors left


class Entrance:
    """A socket that listens, and who came in by it."""

    def __init__(self, listener: socket.socket) -> None:
        """``listener`` is closed with the entrance; its path, and what others hold of it, stay."""
        self._listener = listener
        self._listener.setblocking(False)
        self._connections: set[asyncio.Task[None]] = set()
        self._serve: Serve | None = None
        self._pause: asyncio.TimerHandle | None = None

    @property
    def is_used(self) -> bool:
        """Whether somebody is connected."""
        return bool(self._connections)

    @asynccontextmanager
    async def listening(self, serve: Serve) -> AsyncIterator[None]:
        """Let in who connects, within. At the end connections are cancelled and awaited."""
        self._serve = serve
        self._open()
        try:
            yield
        finally:
            self.shut()
            self._listener.close()
            connections = set(self._connections)
            for task in connections:
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)

    def shut(self) -> None:
        """Let nobody else in; safe to repeat."""
        self._serve = None
        if self._pause is not None:
            self._pause.cancel()
        with contextlib.suppress(ValueError):  # it is closed
            asyncio.get_running_loop().remove_reader(self._listener)

    def _open(self) -> None:
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):  # they have changed their mind
            return
        except OSError as error:
            log.warning("a client has to wait", error=str(error))
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listener)
            self._pause = loop.call_later(_PAUSE_S, self._open)
            return
        assert self._serve is not None
        task = asyncio.create_task(_answer(connection, self._serve), name="a client of the service")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)


async def _answer(connection: socket.socket, serve: Serve) -> None:
    connection.setblocking(False)
    try:
        reader, writer = await asyncio.open_connection(sock=connection, limit=_READ_BYTES)
    except BaseException:
        connection.close()
        raise
    await serve(reader, writer)
