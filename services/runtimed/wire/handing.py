"""Output of processes for clients on this host, as descriptors: ``<run root>/runtimed.streams.sock``.

Output that goes through gRPC passes through two event loops and as many copies of every byte. So a client that can, and
has read a lot, is sent a ticket within its call. Whoever brings it to this socket, in one SOCK_SEQPACKET message, gets
the descriptor of what it has read from so far, and with it one that can be read when the process has ended: from then
on the client reads everything, however slowly its own client does. It keeps the connection, and says ``read`` by it
when it has come to the end. The call goes on beside: input, sizes of terminals, detach keys, and how it ends.
"""

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import grpc

from sampan.api.runtime.v1.containers_pb2 import StreamOutput
from sampan.errors import UnavailableError
from sampan.handing import passing
from sampan.handing.listener import Listener
from sampan.resource.streams import HandOver

_MAX_TICKET_BYTES: Final = 64
# For a client to bring its ticket, and for whoever connects to say something. Who is busier than that is served by
# messages; meanwhile nobody reads, and a process that ends has its last output to get rid of.
_CLAIM_S: Final = 1.0
_READ: Final = b"read"


class Handing:
    """Listens until it is closed."""

    def __init__(self, path: Path) -> None:
        """Bind ``path``, for this user alone; what an earlier process left there goes."""
        self._offers: dict[bytes, asyncio.Future[socket.socket]] = {}
        self._listener = Listener(path, "hand out output", self._answer)

    async def close(self) -> None:
        """Listen no more."""
        await self._listener.close()

    def by(self, tell: Callable[[str], Awaitable[None]]) -> HandOver:
        """Return how descriptors are given to a client that ``tell`` tells the ticket."""

        async def give(fds: Sequence[int]) -> bool:
            # Whoever has these may close them at any time, and their numbers be something else's.
            own = [os.dup(fd) for fd in fds]
            try:
                async with self._claimed(tell) as asker:
                    if asker is None:
                        return False
                    socket.send_fds(asker, [b"here"], own)
                    await passing.readable(asker)
                    if asker.recv(len(_READ)) != _READ:
                        raise UnavailableError("the client has let go of what it was to read")
                    return True
            except OSError as error:
                raise UnavailableError(f"output cannot be handed over: {error.strerror}") from error
            finally:
                for fd in own:
                    os.close(fd)

        return give

    @contextlib.asynccontextmanager
    async def _claimed(self, tell: Callable[[str], Awaitable[None]]) -> AsyncIterator[socket.socket | None]:
        """Yield the connection by which a client has brought its ticket; None if it has not come in time."""
        ticket = secrets.token_hex(16)
        offer = self._offers[ticket.encode()] = asyncio.get_running_loop().create_future()
        try:
            await tell(ticket)
            await asyncio.wait((offer,), timeout=_CLAIM_S)
            del self._offers[ticket.encode()]
            yield offer.result() if offer.done() else None
        finally:
            self._offers.pop(ticket.encode(), None)
            if offer.done() and not offer.cancelled():
                offer.result().close()

    async def _answer(self, asker: socket.socket) -> None:
        taken = False
        try:
            async with asyncio.timeout(_CLAIM_S):
                await passing.readable(asker)
            offer = self._offers.get(asker.recv(_MAX_TICKET_BYTES))
            if offer is not None and not offer.done():
                offer.set_result(asker)
                taken = True
        except (OSError, TimeoutError):
            return
        finally:
            if not taken:
                asker.close()


async def tell(context: "grpc.aio.ServicerContext[Any, StreamOutput]", ticket: str) -> None:
    """Send a client a ticket within its call."""
    await context.write(StreamOutput(handover=ticket))
