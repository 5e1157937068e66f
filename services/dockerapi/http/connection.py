"""Connections that outlive what aiohttp makes of them: half-closed ones, and those that a handler takes over."""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from dockerapi.http.hangup import HangupWatch, hung_up
from dockerapi.rights.peer import Peer, peer_of
from dockerapi.rights.scope import EVERYTHING, Scope

# The status of a request whose client has left: counted and put on record, never sent. nginx has the name for it.
CLIENT_CLOSED_REQUEST: Final = 499

# Seconds that an idle connection is kept for its client's next request.
_KEEPALIVE_S: Final = 75.0

# Over a layer that can do without them, what such a connection has for HTTP, 9 kB, is let go of after so many seconds.
# Most clients that have more to say say it sooner, and it takes 0.1 ms to make anew.
_REST_S: Final = 0.2

# Headers of a request: X-Registry-Auth and X-Registry-Config can be long.
_MAX_HEADER_BYTES: Final = 64 << 10

# Input that may come before its request is answered; more of it waits in the socket.
_MAX_EARLY_BYTES: Final = 256 << 10

_HIJACK: Final = re.compile(
    rb"POST (?:http://[^/ ]+)?(?:/v[0-9.]+)?/"
    rb"(?:containers/[^/ ]+/attach|exec/[^/ ]+/start|session|grpc(?:/[a-z]+)?)[? ]"
)

# What a client of HTTP/2 with prior knowledge begins with (RFC 9113, section 3.4): gRPC, which the builder speaks. To
# the rest of the service it is one that has asked for the upgrade, and needs no answer to that.
_PREFACE: Final = b"PRI * HTTP/2.0\r\n"
_UPGRADE: Final = b"POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"

# An archive that somebody else may read from the socket, see ``Connection.lent``; not one that is waited for or packed.
_ARCHIVE: Final = re.compile(rb"PUT (?:http://[^/ ]+)?(?:/v[0-9.]+)?/containers/[^/ ]+/archive[? ]")
_IN_CHUNKS: Final = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)
_OTHERWISE: Final = re.compile(rb"\r\n(?:expect|content-encoding|content-length):", re.IGNORECASE)
_LAST_CHUNK: Final = b"0\r\n\r\n"

_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)


class Layer(asyncio.Transport):
    """A transport that makes its protocol when there is something to hear, and can do without one until then."""

    __slots__ = ()

    def rest(self, for_s: float) -> None:
        """Forget the protocol, and close if nothing is heard for so many seconds."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Entrance:
    """One address that is served, as the requests that come there know it."""

    name: str  # as the configuration has it
    scope: Scope = EVERYTHING  # how far its clients may go


# The socket that every engine has.
OWN: Final = Entrance("docker.sock")


@dataclass(slots=True)
class Lent:
    """A request's body that is read from the socket by somebody else, in HTTP's chunks."""

    fd: int  # the socket
    begun: bytes  # what has been received of it already
    is_read: bool = False  # to its end; to be said by whoever has borrowed it


class ApiServer(web.Server):
    """aiohttp's low-level server, on ``Connection``s."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        hangups: HangupWatch,
        used: Callable[[], None] = lambda: None,
    ) -> None:
        """``used`` is called when a client has left: there is memory to give back."""
        super().__init__(handler)
        self.used = used
        self._hangups = hangups

    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection."""
        return Connection(self, self._hangups, OWN)

    def at(self, entrance: Entrance) -> Callable[[], RequestHandler]:
        """Return what makes the protocol of each new connection at an address."""
        return lambda: Connection(self, self._hangups, entrance)


class Connection(RequestHandler):
    """aiohttp's protocol, but that a client may close its sending side and still get its answer.

    A client that is gone altogether is noticed in any state, even with nobody reading; ``when_gone`` says whom to tell.
    """

    __slots__ = (
        "_at_an_end", "_body_left", "_discards", "_early", "_gone", "_hangups", "_input_keeps_it", "_left", "_peer",
        "_stays_until", "_watched_fd",
        "ended", "entrance",
        "speaks_http2", "taken_over",
    )  # fmt: skip

    def __init__(self, server: ApiServer, hangups: HangupWatch, entrance: Entrance) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # none at all: requests are counted, and errors logged
            keepalive_timeout=_KEEPALIVE_S,
            max_line_size=_MAX_HEADER_BYTES,
            max_headers=256,
            max_field_size=_MAX_HEADER_BYTES,
            tcp_keepalive=False,
        )
        self.entrance = entrance
        self._left = server.used
        self._hangups = hangups
        self._input_keeps_it = False
        self._peer: Peer | None = None
        self._gone: Callable[[], object] | None = None
        self._watched_fd = -1
        self.ended = False  # the client sends no more
        self.taken_over = False
        self.speaks_http2 = False  # and has from the beginning
        self._early: bytearray | None = None  # input for whoever takes over; None: HTTP is spoken
        self._body_left = 0  # bytes of the request that belong to it and are still to come
        self._discards = False  # the rest of a body that nobody wants
        self._at_an_end = False  # what was received last ended as a head does
        self._stays_until = 0.0  # the loop's time up to which it was found not to be at rest

    @classmethod
    def of(cls, request: web.BaseRequest) -> "Connection":
        """Return the connection that a request came on."""
        return cast("Connection", request.protocol)

    @property
    def peer(self) -> Peer:
        """Who the client is. Looked up once: what has left cannot be asked."""
        if self._peer is None:
            self._peer = peer_of(self.transport)
        return self._peer

    def when_gone(self, callback: Callable[[], object] | None, *, follows: bool = False) -> None:
        """Call ``callback`` once if the client leaves; None takes it back.

        With ``follows`` the answer has no end of its own. Over TCP the end of the input is all that tells of a client
        that has left, so it counts as that, unless the request is one that may take the connection over.
        """
        self._gone = callback
        self._input_keeps_it = follows and self._early is None
        if self.ended and self._left_by_tcp() and self.transport is not None:
            self.transport.abort()

    def _left_by_tcp(self) -> bool:
        sock = None if self.transport is None else self.transport.get_extra_info("socket")
        return self._input_keeps_it and sock is not None and sock.family != socket.AF_UNIX

    @property
    def _idle(self) -> bool:
        """Whether no request is being received or answered."""
        waiting = self._waiter is not None or not self._request_count
        return waiting and not self._messages

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, as aiohttp does; over a layer look sooner whether the connection is idle."""
        if isinstance(transport, Layer):
            self._keepalive_timeout = _REST_S
        super().connection_made(transport)

    def _process_keepalive(self) -> None:
        """Rest, or close, a connection that has been idle for as long as that takes."""
        waits = self._waiter is not None and not self._waiter.done()
        due = self._next_keepalive_close_time
        if waits and isinstance(self.transport, Layer) and due != self._stays_until and self._loop.time() >= due:
            if self._can_rest:
                self._rest(self.transport)
                return
            self._stays_until = self._next_keepalive_close_time = due + _KEEPALIVE_S - _REST_S
        super()._process_keepalive()

    @property
    def _can_rest(self) -> bool:
        """Whether nothing would be lost with this object: all was answered, and of no further request has a part come.

        A head ends with an empty line, and no part of a head does. A body whose end has not come keeps its request
        from being over. So what ends in this way has nothing after it; a request with another end is not looked into.
        """
        busy = self._early is not None or self._body_left or self._discards or self._gone is not None
        held_up = self._paused or self._reading_paused or self._buffer_paused or self._upgraded
        return self._idle and self._at_an_end and not (busy or held_up or self.ended or self.taken_over)

    def _rest(self, layer: Layer) -> None:
        self.transport = None  # which is not to be closed
        layer.rest(_KEEPALIVE_S - _REST_S)
        self.connection_lost(None)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks for the result, aiohttp has none
        """Keep the connection for the answer, if there is one under way and somebody to read it."""
        self.ended = True
        transport = self.transport
        request = self._current_request
        unfinished = request is not None and not request.content.is_eof()
        if transport is None or unfinished or self._idle or self._left_by_tcp():
            return False
        fd = transport.get_extra_info("socket").fileno()
        if hung_up(fd):
            return False
        self._watched_fd = fd
        self._hangups.add(fd, transport.abort)
        self.close()  # after this answer
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell whoever asked to know."""
        self._unwatch()
        self._left()
        super().connection_lost(exc)
        if self._gone is not None:
            gone, self._gone = self._gone, None
            gone()

    def take_over(self, protocol: asyncio.Protocol) -> tuple[asyncio.Transport, bytes]:
        """Give the transport to ``protocol``; return it, with what the client has sent after its request.

        From here on ``protocol`` gets all events; it passes ``connection_lost`` on to this object. aiohttp closes the
        transport, flushing what was written, when the handler returns.

        Raises:
            ConnectionResetError: the client is gone.
        """
        transport = self.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        self._unwatch()
        self.taken_over = True
        early = bytes(self._early or b"")
        transport.set_protocol(protocol)
        transport.resume_reading()  # does nothing if it was not paused
        return transport, early

    @property
    def is_plain(self) -> bool:
        """Whether the socket has nothing but what is said on it: not TLS."""
        return self.transport is not None and self.transport.get_extra_info("sslcontext") is None

    @contextmanager
    def lent(self) -> Iterator[Lent | None]:
        """Lend the body of a request to a process that reads it from the socket; None: it is read here, as any other.

        The connection ends with the answer: what follows the body may have been read together with its end.
        """
        transport = self.transport
        if self._early is None or transport is None or not self.is_plain:
            self.speak_http()
            yield None
            return
        transport.pause_reading()
        body = Lent(transport.get_extra_info("socket").fileno(), bytes(self._early))
        try:
            yield body
        finally:
            self._early = None
            if body.is_read:
                super().data_received(_LAST_CHUNK)
            else:  # nobody knows where a chunk begins; the client is to read its answer before the connection ends
                self._discards = True
            if not transport.is_closing():
                transport.resume_reading()

    async def outlet(self) -> int:
        """Return the socket when all that was written here has been sent, for a process that goes on with the body.

        Raises:
            ConnectionResetError: the client is gone.
        """
        if self.transport is None:
            raise ConnectionResetError("the client is gone")
        self.transport.set_write_buffer_limits(0)
        await self._drain_helper()
        self.transport.set_write_buffer_limits()
        fd: int = self.transport.get_extra_info("socket").fileno()
        return fd

    def data_received(self, data: bytes) -> None:
        """Keep what follows a request that may take the connection over away from the parser, which would lose it."""
        if self._discards:
            return
        if data:  # aiohttp says nothing to have the parser go on
            self._at_an_end = data.endswith(b"\r\n\r\n")
        if self._early is not None:
            self._keep(data)
            return
        if not self._body_left and self._idle:
            if not self._request_count and data.startswith(_PREFACE):
                self.speaks_http2 = True
                self._early = bytearray()
                super().data_received(_UPGRADE)
                self._keep(data)
                return
            self._body_left = _bytes_of_hijack(data) or _bytes_before_archive(data)
        if not self._body_left:
            super().data_received(data)
            return
        mine, rest = data[: self._body_left], data[self._body_left :]
        self._body_left -= len(mine)
        if not self._body_left:
            self._early = bytearray()
        super().data_received(mine)
        if rest:
            self._keep(rest)

    def speak_http(self) -> None:
        """Go back to HTTP after a request that could have taken the connection over and did not."""
        if self._early is not None and not self.taken_over:
            early, self._early = bytes(self._early), None
            if self.transport is not None:
                self.transport.resume_reading()
            if early:
                self.data_received(early)

    def _keep(self, data: bytes) -> None:
        assert self._early is not None
        self._early += data
        if len(self._early) > _MAX_EARLY_BYTES and self.transport is not None:
            self.transport.pause_reading()

    def _unwatch(self) -> None:
        if self._watched_fd >= 0:
            self._hangups.remove(self._watched_fd)
            self._watched_fd = -1


def _bytes_before_archive(data: bytes) -> int:
    """Return how long the head at the start of ``data`` is, if an archive in chunks follows it; else 0."""
    if not _ARCHIVE.match(data):
        return 0
    end = data.find(b"\r\n\r\n")
    if end < 0 or not _IN_CHUNKS.search(data, 0, end + 2) or _OTHERWISE.search(data, 0, end + 2):
        return 0
    return end + 4


def _bytes_of_hijack(data: bytes) -> int:
    """Return how long the request at the start of ``data`` is, with its body, if it may take the connection over.

    0 for every other request, and for one whose head comes in several pieces or whose body is chunked. Clients send
    neither, and all that they would lose is input sent before the answer.
    """
    if not _HIJACK.match(data):
        return 0
    end = data.find(b"\r\n\r\n")
    if end < 0 or _CHUNKED.search(data, 0, end + 2):
        return 0
    length = _LENGTH.search(data, 0, end + 2)
    return end + 4 + (int(length[1]) if length else 0)
