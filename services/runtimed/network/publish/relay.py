"""Carry what arrives at published IPv6 ports and that no rule of the kernel's can forward.

Rules translate addresses within a family. A container without an IPv6 address, and whoever asks for ``::1``, from which
the kernel sends nothing over a wire, are served here: as dockerd's proxy does, the container sees the host as the other
end. What the kernel forwards goes on when the engine stops. What is carried here ends with runtimed; its sockets do
not, if the supervisor lives (``keeping.py``): who connects meanwhile waits until the next runtimed takes them up.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sampan.log import log

_CHUNK_BYTES: Final = 1 << 16
_CONNECT_S: Final = 10.0
_UDP_IDLE_S: Final = 90.0  # as dockerd's proxy
_MAX_FLOWS: Final = 1024  # of one UDP port; further askers get no answer until others are silent


@dataclass(frozen=True, slots=True)
class Carried:
    """A socket of the host's, which stays its owner's, and where to."""

    protocol: str  # "tcp", "udp"
    held: socket.socket
    address: str
    port: int


class Relays:
    """Serves published ports, by container."""

    def __init__(self) -> None:
        self._servers: dict[str, list[_Stream | _Datagrams]] = {}

    async def serve(self, container_id: str, ports: Iterable[Carried]) -> None:
        """Carry these ports of a container from now on, and no others of it."""
        await self.stop(container_id)
        servers: list[_Stream | _Datagrams] = []
        for port in ports:
            server = _Datagrams(port) if port.protocol == "udp" else _Stream(port)
            await server.start()
            servers.append(server)
        if servers:
            self._servers[container_id] = servers

    async def stop(self, container_id: str) -> None:
        """Carry nothing for the container any more; connections that are open end."""
        for server in self._servers.pop(container_id, ()):
            await server.close()

    async def close(self) -> None:
        """Stop all."""
        for container_id in tuple(self._servers):
            await self.stop(container_id)


class _Stream:
    """One TCP port."""

    def __init__(self, port: Carried) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accepted, sock=self._port.held.dup(), limit=_CHUNK_BYTES)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            async with asyncio.timeout(_CONNECT_S):
                far_reader, far_writer = await asyncio.open_connection(self._port.address, self._port.port)
        except (OSError, TimeoutError):
            writer.transport.abort()  # nobody is there: as the kernel would tell
            return
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        except OSError:
            return  # one side is gone, and with it the other
        finally:
            writer.close()
            far_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


class _Datagrams(asyncio.DatagramProtocol):
    """One UDP port: a socket towards the container for each client that has asked lately."""

    def __init__(self, port: Carried) -> None:
        self._port = port
        self._transport: asyncio.DatagramTransport | None = None
        self._flows: dict[tuple[str, int], _Flow] = {}

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=self._port.held.dup())

    async def close(self) -> None:
        for flow in tuple(self._flows.values()):
            flow.end()
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Pass on what a client sends."""
        flow = self._flows.get(addr)
        if flow is None:
            if len(self._flows) >= _MAX_FLOWS:
                return
            try:
                flow = self._flows[addr] = _Flow(self, addr, (self._port.address, self._port.port))
            except OSError as error:
                log.warning("datagram could not be carried to a container", error=str(error))
                return
        flow.send(data)

    def error_received(self, exc: Exception) -> None:
        """A client went away: nobody minds."""

    def answer(self, data: bytes, addr: tuple[str, int]) -> None:
        """Send to a client."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, addr)

    def forget(self, addr: tuple[str, int]) -> None:
        """A client has been silent for long."""
        self._flows.pop(addr, None)


class _Flow:
    """What one client and the container say to each other."""

    def __init__(self, owner: _Datagrams, addr: tuple[str, int], target: tuple[str, int]) -> None:
        self._owner, self._addr = owner, addr
        self._loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect(target)
        except OSError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._readable)
        self._timer = self._loop.call_later(_UDP_IDLE_S, self.end)

    def send(self, data: bytes) -> None:
        """Pass on to the container; dropped if it does not keep up, as datagrams are."""
        self._lives()
        with contextlib.suppress(OSError):
            self._socket.send(data)

    def _readable(self) -> None:
        self._lives()
        try:
            self._owner.answer(self._socket.recv(_CHUNK_BYTES), self._addr)
        except OSError:
            return  # nobody listens in the container yet

    def _lives(self) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(_UDP_IDLE_S, self.end)

    def end(self) -> None:
        """Forget it."""
        self._timer.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._owner.forget(self._addr)
