"""The name server that containers on users' networks find at 127.0.0.11, in their own network namespace.

Its sockets are opened inside the namespace and served by the daemon's loop: a socket stays where it was made. They
have ports of the kernel's choice, and a rule inside leads port 53 there, so that a container may run a name server of
its own.
"""

import asyncio
import contextlib
import random
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from runtimed.network.core.files import EMBEDDED_RESOLVER
from runtimed.network.dns import message as dns
from runtimed.network.dns.directory import Directory
from runtimed.network.dns.upstream import frame, read_message
from runtimed.network.kernel.nftables import Nftables
from sampan.log import log

Forward = Callable[[bytes, bool], Awaitable[bytes | None]]  # message, over a stream; None: no server answered

_TABLE: Final = "sampan_resolver"
_MAX_QUESTIONS: Final = 256  # of one container under way at a time; more are dropped, as any overrun server does
_IDLE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Sockets:
    """Bound and not yet served."""

    datagram: socket.socket
    stream: socket.socket

    def close(self) -> None:
        """Close both."""
        self.datagram.close()
        self.stream.close()


def open_sockets() -> Sockets:
    """Open them in the calling thread's namespace, and lead port 53 to them; blocks."""
    with contextlib.ExitStack() as undo:
        datagram = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
        datagram.bind((EMBEDDED_RESOLVER, 0))
        stream = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
        stream.bind((EMBEDDED_RESOLVER, 0))
        stream.listen()
        sockets = Sockets(datagram, stream)
        with contextlib.closing(Nftables()) as table:
            table.apply(_rules(datagram.getsockname()[1], stream.getsockname()[1]))
        undo.pop_all()
    for sock in (datagram, stream):
        sock.setblocking(False)
    return sockets


def _rules(udp: int, tcp: int) -> str:
    # Flushed and not replaced: in a new namespace that removes nothing, and a transaction that removes something makes
    # the kernel wait for 10 ms and more until the socket it came through can be closed.
    chain = f"ip {_TABLE} output"
    return "\n".join(
        (
            f"add table ip {_TABLE}",
            f"add chain {chain} {{ type nat hook output priority -100; policy accept; }}",
            f"flush chain {chain}",
            f"add rule {chain} ip daddr {EMBEDDED_RESOLVER} udp dport 53 dnat to {EMBEDDED_RESOLVER}:{udp}",
            f"add rule {chain} ip daddr {EMBEDDED_RESOLVER} tcp dport 53 dnat to {EMBEDDED_RESOLVER}:{tcp}",
        )
    )


class DnsServer(asyncio.DatagramProtocol):
    """Answers one container's questions until it is closed."""

    def __init__(self, container_id: str, directory: Directory, forward: Forward) -> None:
        self._container_id = container_id
        self._directory = directory
        self._forward = forward
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._work: set[asyncio.Task[None]] = set()

    async def start(self, sockets: Sockets) -> None:
        """Serve ``sockets``, which belong to this server from now on."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=sockets.datagram)
        self._server = await asyncio.start_server(self._connected, sock=sockets.stream)

    async def close(self) -> None:
        """Close the sockets and drop what is under way."""
        if self._server is not None:
            self._server.close()
        if self._transport is not None:
            self._transport.close()
        work = tuple(self._work)
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer at once what we know, and pass on the rest."""
        query = dns.parse(data)
        known = self._known(query, dns.MAX_UDP_BYTES) if query else None
        if known is not None:
            self._send(known, addr)
        elif len(self._work) < _MAX_QUESTIONS:
            self._own(asyncio.create_task(self._pass_on(data, query, addr)))

    def error_received(self, exc: Exception) -> None:
        """A client went away before its answer came: nobody minds."""

    async def _pass_on(self, data: bytes, query: dns.Query | None, addr: tuple[str, int]) -> None:
        answer = await self._elsewhere(data, query, stream=False)
        if answer is not None:
            self._send(answer, addr)

    def _send(self, answer: bytes, addr: tuple[str, int]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(answer, addr)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._work) >= _MAX_QUESTIONS:
            writer.close()
            return
        self._own(task)
        try:
            while True:
                async with asyncio.timeout(_IDLE_S):
                    data = await read_message(reader)
                query = dns.parse(data)
                answer = self._known(query, 65535) if query else None
                answer = answer or await self._elsewhere(data, query, stream=True)
                if answer is None:
                    return
                writer.write(frame(answer))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    def _own(self, task: asyncio.Task[None]) -> None:
        self._work.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("name resolution failed", container=self._container_id, exc_info=task.exception())

    def _known(self, query: dns.Query | None, limit: int) -> bytes | None:
        if query is None:
            return None
        if query.type in (dns.A, dns.AAAA):
            version = 4 if query.type == dns.A else 6
            found = self._directory.addresses(self._container_id, query.name, version)
            if found is None:
                return None
            # Containers that share an alias share its work. A name that we know and that has no address of this family
            # has no record, and the world outside has no business with the question.
            return dns.addresses(query, random.sample(found, len(found)), limit)
        address = dns.reversed_address(query.name) if query.type == dns.PTR else None
        name = self._directory.name(self._container_id, address) if address else None
        return dns.pointer(query, name) if name else None

    async def _elsewhere(self, data: bytes, query: dns.Query | None, *, stream: bool) -> bytes | None:
        """Return somebody else's answer, or what we have to say without; None: nothing, it is not even a question."""
        if not self._directory.leads_out(self._container_id):
            # Not SERVER_FAILURE, which makes the C libraries ask again for seconds.
            return dns.failure(query, dns.NO_SUCH_NAME) if query else None
        answer = await self._forward(data, stream)
        if answer is None and query is not None:
            return dns.failure(query, dns.SERVER_FAILURE)
        return answer
