"""Connections that outlive what aiohttp makes of them: half-closed ones, and those that a handler takes over."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from dockerapi.hangup import HangupWatch, hung_up

# Seconds that an idle connection is kept for its client's next request.
_KEEPALIVE_S: Final = 75.0

# Headers of a request: X-Registry-Auth and X-Registry-Config can be long.
_MAX_HEADER_BYTES: Final = 64 << 10


class ApiServer(web.Server):
    """aiohttp's low-level server, on ``Connection``s."""

    def __init__(self, handler: Callable[[web.BaseRequest], Any], hangups: HangupWatch) -> None:
        super().__init__(handler)
        self._hangups = hangups

    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection."""
        return Connection(self, self._hangups)


class Connection(RequestHandler):
    """aiohttp's protocol, but that a client may close its sending side and still get its answer.

    A client that is gone altogether is noticed in any state, even with nobody reading; ``when_gone`` says whom to tell.
    """

    __slots__ = ("_gone", "_hangups", "_watched_fd", "ended")

    def __init__(self, server: ApiServer, hangups: HangupWatch) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # none at all: requests are counted, and errors logged
            keepalive_timeout=_KEEPALIVE_S,
            max_line_size=_MAX_HEADER_BYTES,
            max_headers=256,
            max_field_size=_MAX_HEADER_BYTES,
            lingering_time=0,
            tcp_keepalive=False,
        )
        self._hangups = hangups
        self._gone: Callable[[], object] | None = None
        self._watched_fd = -1
        self.ended = False  # the client sends no more

    @classmethod
    def of(cls, request: web.BaseRequest) -> "Connection":
        """Return the connection that a request came on."""
        return cast("Connection", request.protocol)

    def when_gone(self, callback: Callable[[], object] | None) -> None:
        """Call ``callback`` once if the client leaves; None takes it back."""
        self._gone = callback

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks for the result, aiohttp has none
        """Keep the connection for the answer, if there is one under way and somebody to read it."""
        self.ended = True
        transport = self.transport
        request = self._current_request
        unfinished = request is not None and not request.content.is_eof()
        if transport is None or unfinished or (request is None and not self._messages):
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
        early, self._message_tail = self._message_tail, b""
        transport.set_protocol(protocol)
        transport.resume_reading()  # does nothing if it was not paused
        return transport, early

    def _unwatch(self) -> None:
        if self._watched_fd >= 0:
            self._hangups.remove(self._watched_fd)
            self._watched_fd = -1
