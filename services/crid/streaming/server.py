"""The server that streaming URLs lead to."""

import asyncio
import errno
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from crid.streaming import portforward, remotecommand
from crid.streaming.pipe import Pipe, SocketPipe
from crid.streaming.requests import AttachRequest, ExecRequest, PortForwardRequest, Ports, Processes, Request, Session
from crid.streaming.tokens import Tokens
from crid.streaming.upgrade import (
    MAX_HEAD_BYTES,
    PROTOCOL_HEADER,
    SPDY,
    Head,
    negotiate_spdy,
    read_head,
    refusal,
    switching,
)
from crid.streaming.websocket import Tunnel, WebSocket, handshake
from sampan.errors import InvalidArgumentError, SampanError, UnavailableError
from sampan.log import log
from sampan.service.listening import Address

# For the request to come, TLS's handshake included.
_HEAD_S: Final = 10.0

_WEBSOCKET: Final = "websocket"

# Clients that may be connected; each costs a descriptor, and some memory.
MAX_CONNECTIONS: Final = 4096

_EVERYWHERE: Final = ("0.0.0.0", "::")

Serve = Callable[[SocketPipe], Coroutine[None, None, None]]


class StreamingServer:
    """Serves sessions, each on a connection of its own that begins with one HTTP request."""

    def __init__(
        self, tokens: Tokens, processes: Processes, ports: Ports, metrics: CollectorRegistry, idle_s: float
    ) -> None:
        """``idle_s``: for so long a session may be silent."""
        self._tokens = tokens
        self._processes = processes
        self._ports = ports
        self._idle_s = idle_s
        self._listener: asyncio.Server | None = None
        self._base = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = Gauge(
            "sampan_cri_streaming_sessions", "Streaming sessions that are open.", ["action"], registry=metrics
        )
        self._served = Counter(
            "sampan_cri_streaming_requests_total",
            "Requests at streaming URLs, by what was spoken; refused ones spoke nothing.",
            ["action", "transport"],
            registry=metrics,
        )

    async def listen(self, address: Address, tls: ssl.SSLContext | None) -> Address:
        """Open the port; return where, which matters if the port was 0.

        Raises:
            UnavailableError: the port is in use.
            InvalidArgumentError: there is no such address here.
        """
        try:
            self._listener = await asyncio.start_server(
                self._connected, address.host, address.port, ssl=tls, limit=MAX_HEAD_BYTES, backlog=512,
                ssl_handshake_timeout=_HEAD_S if tls else None,
            )  # fmt: skip
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UnavailableError(f"streaming address {address} is in use: choose another one") from error
            raise InvalidArgumentError(f"streaming address {address}: {error.strerror or error}") from error
        opened = Address(address.host, self._listener.sockets[0].getsockname()[1])
        # kubelet is on this machine, whatever else listens to the port.
        reached = Address("127.0.0.1", opened.port) if address.host in _EVERYWHERE else opened
        self._base = f"{'https' if tls else 'http'}://{reached}"
        return opened

    def url(self, request: Request) -> str:
        """Return where ``request`` is served, once, within a minute. ResourceExhaustedError: too many wait."""
        return self._base + self._tokens.issue(request)

    async def close(self) -> None:
        """Stop listening, and end all sessions; their processes go on."""
        if self._listener is not None:
            self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        pipe = SocketPipe(reader, writer, self._idle_s)
        try:
            await self._serve(pipe, reader)
        except SampanError as error:
            log.info("streaming session ended", error=str(error))
        except (EOFError, ConnectionError):
            pass
        except asyncio.CancelledError:
            pipe.abort()  # the server ends: nobody is waited for
            raise
        except Exception as error:  # noqa: BLE001 - the last place where an error can be told
            log.error("streaming session failed", exc_info=error)
        finally:
            await pipe.close()

    async def _serve(self, pipe: SocketPipe, reader: asyncio.StreamReader) -> None:
        action, transport = "none", "none"
        try:
            try:
                async with asyncio.timeout(_HEAD_S):
                    head = await read_head(reader)
            except TimeoutError:
                return
            if head is None:
                return
            request = self._tokens.redeem(head.path)
            action = _ACTIONS[type(request)]
            transport, answer, serve = self._choose(head, request)
        except SampanError as error:
            self._served.labels(action, "none").inc()
            pipe.write(refusal(error))
            return
        self._served.labels(action, transport).inc()
        with self._open.labels(action).track_inprogress():
            pipe.write(answer)
            await serve(pipe)

    def _choose(self, head: Head, request: Request) -> tuple[str, bytes, Serve]:
        """Return what will be spoken, the answer that says so, and who serves the client then. Raises SampanError."""
        room = portforward if isinstance(request, PortForwardRequest) else remotecommand
        if head.upgrades_to(_WEBSOCKET):
            protocol, fields = handshake(head, room.WEBSOCKET_PROTOCOLS)
            if isinstance(request, PortForwardRequest) and protocol != portforward.TUNNEL and not request.ports:
                raise InvalidArgumentError(
                    "the request for the URL names no ports: forwarding over channels needs them"
                )
            return _WEBSOCKET, switching(_WEBSOCKET, fields), partial(self._over_websocket, protocol, request)
        if not head.upgrades_to(SPDY):
            raise InvalidArgumentError(f"unable to upgrade: the request asks for neither {SPDY} nor WebSocket")
        protocol = negotiate_spdy(head, room.SPDY_PROTOCOLS)
        return "spdy", switching(SPDY, ((PROTOCOL_HEADER, protocol),)), partial(self._over_spdy, protocol, request)

    async def _over_spdy(self, protocol: str, request: Request, pipe: Pipe) -> None:
        if isinstance(request, PortForwardRequest):
            await portforward.over_spdy(pipe, portforward.Forwarder(self._ports, request.sandbox))
        else:
            await remotecommand.over_spdy(pipe, protocol, request.streams, partial(self._session, request))

    async def _over_websocket(self, protocol: str, request: Request, pipe: SocketPipe) -> None:
        socket = WebSocket(pipe)
        if not isinstance(request, PortForwardRequest):
            await remotecommand.over_websocket(socket, protocol, request.streams, partial(self._session, request))
            return
        forwarder = portforward.Forwarder(self._ports, request.sandbox)
        if protocol == portforward.TUNNEL:
            await portforward.over_spdy(Tunnel(socket), forwarder)
        else:
            await portforward.over_websocket(socket, protocol, request.ports, forwarder)

    async def _session(self, request: ExecRequest | AttachRequest) -> Session:
        if isinstance(request, ExecRequest):
            return await self._processes.exec(request)
        return await self._processes.attach(request)


_ACTIONS: Final[dict[type[Request], str]] = {
    ExecRequest: "exec",
    AttachRequest: "attach",
    PortForwardRequest: "portforward",
}
