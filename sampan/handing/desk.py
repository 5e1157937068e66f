"""Descriptors that one process of a host hands over to another: ``<run root>/<service>.hand.sock``.

A gRPC call says what is to be done, and to what; the bytes need not go with it where both sides could use one
descriptor. Whoever calls thinks of a name that nobody can guess, puts it into the call, and sends the descriptor under
that name to the service's other socket: one SOCK_SEQPACKET message. Which of both comes first does not matter. The
connection stays until the call is over: with its end, the process's death included, what nobody has taken is closed.

Only this user's processes can reach the socket; calls from elsewhere carry their bytes in their messages.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from sampan.errors import ServiceGoneError
from sampan.handing import passing
from sampan.handing.listener import Listener

# Metadata of a call: the name under which a descriptor comes.
METADATA_KEY: Final = "x-sampan-handed"

_NAME_BYTES: Final = 32
_GIVING_S: Final = 5.0  # for a message to come


def new_name() -> str:
    """Return a name that nobody guesses."""
    return secrets.token_hex(_NAME_BYTES // 2)


@asynccontextmanager
async def handed(path: Path, name: str, fd: int) -> AsyncIterator[None]:
    """Hand a descriptor over at the socket ``path``; what nobody has taken when the block ends is taken back.

    Raises:
        ServiceGoneError: nobody is there.
    """
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as giver:
        giver.setblocking(False)
        try:
            await loop.sock_connect(giver, str(path))
            socket.send_fds(giver, [name.encode()], [fd])
        except OSError as error:
            raise ServiceGoneError(f"nobody takes descriptors at {path}: {error.strerror}") from error
        yield


class Desk:
    """Where a service takes descriptors. Listens until it is closed."""

    def __init__(self, path: Path) -> None:
        """Bind ``path``, for this user alone; what an earlier process left there goes."""
        self._places: dict[str, asyncio.Future[int]] = {}  # by name: what is there, or expected
        self._listener = Listener(path, "take a descriptor", self._take)

    @asynccontextmanager
    async def taken(self, name: str) -> AsyncIterator[int]:
        """Wait for the descriptor of this name, and close it when the block ends. Whoever waits sees to an end."""
        place = self._places.setdefault(name, asyncio.get_running_loop().create_future())
        try:
            fd = await place
        except asyncio.CancelledError:
            if not place.cancelled() and place.done():  # it came at the same moment
                os.close(place.result())
            raise
        finally:
            self._places.pop(name, None)
        try:
            yield fd
        finally:
            os.close(fd)

    async def close(self) -> None:
        """Listen no more, and let go of what nobody has taken."""
        await self._listener.close()

    async def _take(self, giver: socket.socket) -> None:
        with giver, suppress(OSError, TimeoutError):
            async with asyncio.timeout(_GIVING_S):
                await passing.readable(giver)
            told, fds = passing.receive(giver, _NAME_BYTES, 1)
            if len(fds) != 1:
                return
            name = told.decode(errors="replace")
            place = self._places.setdefault(name, asyncio.get_running_loop().create_future())
            if place.done():  # one of this name is there
                os.close(fds[0])
                return
            place.set_result(fds[0])
            try:
                await passing.readable(giver)  # it says nothing more: this is its end, or its death
            finally:
                if self._places.get(name) is place:
                    del self._places[name]
                    os.close(fds[0])
