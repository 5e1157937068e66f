"""Where processes of this user bring and fetch descriptors: a SOCK_SEQPACKET socket, a task for each connection."""

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Final

from sampan.log import log

_BACKLOG: Final = 512
_PAUSE_S: Final = 1.0  # while there is no free descriptor for another connection

Answer = Callable[[socket.socket], Coroutine[None, None, None]]


class Listener:
    """Listens until it is closed."""

    def __init__(self, path: Path, what: str, answer: Answer) -> None:
        """Bind ``path``, for this user alone; what an earlier process left there goes.

        Args:
            path: where.
            what: what is done with a connection, for names of tasks and the log: "hand out a blob".
            answer: does it. The connection does not block, and is its own to close, also when it is cancelled.
        """
        self._path = path
        self._what = what
        self._answer = answer
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        before = os.umask(0o077)
        try:
            self._socket.bind(str(path))
        finally:
            os.umask(before)
        self._socket.listen(_BACKLOG)
        self._socket.setblocking(False)
        self._answering: set[asyncio.Task[None]] = set()
        self._listening = asyncio.create_task(self._listen(), name=f"listen: {what}")

    async def close(self) -> None:
        """Listen no more, and end what goes on."""
        for task in (tasks := [self._listening, *self._answering]):
            task.cancel()
        await asyncio.wait(tasks)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._socket)
            except OSError as error:  # no descriptor is free, as a rule
                log.warning("no connection can be taken", to=self._what, error=error.strerror)
                await asyncio.sleep(_PAUSE_S)
                continue
            task = asyncio.create_task(self._answer(connection), name=self._what)
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
