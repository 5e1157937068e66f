"""The HTTP server: its certificate, who asks, what they want, and errors as the spec writes them."""

import asyncio
import errno
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.client_exceptions import ClientError
from aiohttp.web_protocol import RequestHandler

from registryd.http.call import HEADERS, PIECE_BYTES, STATUS, Call, Parts, error_answer
from registryd.http.htpasswd import Htpasswd
from registryd.http.routing import find_handler, find_route
from registryd.repositories.refusal import Code, RefusedError
from sampan.errors import InvalidArgumentError, SampanError, UnavailableError
from sampan.log import log
from sampan.service.listening import Address
from sampan.wire.status import wire_for

# Counted, never sent: the name that nginx has for it.
_CLIENT_CLOSED_REQUEST: Final = 499

_MAX_HEADER_BYTES: Final = 32 << 10
_KEEPALIVE_S: Final = 75.0

_RETRY: Final = {"Retry-After": "1"}


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection."""
        return RequestHandler(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # none at all: requests are counted, and errors logged
            keepalive_timeout=_KEEPALIVE_S,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            read_bufsize=PIECE_BYTES,
            auto_decompress=False,  # a blob is the bytes that were sent
        )


class RegistryServer:
    """Serves the distribution API."""

    def __init__(
        self,
        parts: Parts,
        users: Htpasswd | None,
        reach: Callable[[], Awaitable[None]],
        used: Callable[[], None] = lambda: None,
        *,
        read_only: bool,
    ) -> None:
        """``reach`` returns once the content store can be asked, and raises UnavailableError if that takes too long.

        ``used`` is called as a request begins and ends.
        """
        self._parts = parts
        self._users = users
        self._reach = reach
        self._used = used
        self._read_only = read_only
        self._server = _Server(self._handle)
        self._listener: asyncio.Server | None = None

    async def listen(self, address: Address, tls: ssl.SSLContext | None) -> Address:
        """Open the port; return where, which matters if the port was 0.

        Raises:
            UnavailableError: the port is in use.
            InvalidArgumentError: there is no such address here.
        """
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(
                self._server, address.host, address.port, ssl=tls, backlog=512, reuse_address=True
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UnavailableError(f"listen address {address} is in use: choose another one") from error
            raise InvalidArgumentError(f"listen address {address}: {error.strerror or error}") from error
        return Address(address.host, self._listener.sockets[0].getsockname()[1])

    async def close(self, grace_s: float) -> None:
        """Stop listening, and give requests in flight ``grace_s`` seconds."""
        if self._listener is not None:
            self._listener.close()
        self._server.pre_shutdown()
        await self._server.shutdown(grace_s)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._used()
        begin = time.monotonic()
        route = "none"
        response: web.StreamResponse
        with self._parts.metrics.in_flight.track_inprogress():
            try:
                await self._authenticate(request)
                found, args = find_route(request.path)
                route = found.name
                handler = find_handler(found, request.method, read_only=self._read_only)
                await self._reach()
                response = await handler(Call(request, self._parts, args.get("repository", ""), args))
            except (ConnectionError, ClientError):
                response = web.Response(status=_CLIENT_CLOSED_REQUEST)
                if request.transport is not None:  # it is there and does nothing
                    request.transport.abort()
            except Exception as error:  # noqa: BLE001 - the last place where an error can become an answer
                response = _refuse(error, request)
        if not response.prepared:
            response.headers.update(HEADERS)
        method = request.method if route != "none" else "other"
        self._parts.metrics.answered(method, route, response.status, time.monotonic() - begin)
        log.debug("request", method=request.method, path=request.path, code=response.status)
        self._used()
        return response

    async def _authenticate(self, request: web.BaseRequest) -> None:
        if self._users is None:
            return
        if await self._users.accepts(request.headers.get("Authorization")) is None:
            challenge = {"WWW-Authenticate": 'Basic realm="Sampan registry", charset="UTF-8"'}
            raise RefusedError(Code.UNAUTHORIZED, "authentication required", challenge)


def _refuse(error: Exception, request: web.BaseRequest) -> web.StreamResponse:
    if isinstance(error, RefusedError):
        status, code, message, headers = STATUS[error.code], error.code.value, str(error), error.headers
    elif isinstance(error, SampanError):
        status, code, message, headers = wire_for(error).http, "UNKNOWN", str(error), {}
        if status >= 500:
            log.error("request failed", method=request.method, path=request.path, error=message)
        if isinstance(error, UnavailableError):
            headers = _RETRY
    else:
        status, code, headers = 500, "UNKNOWN", {}
        message = "internal error: the log of the registry has the details"
        log.error("request failed", method=request.method, path=request.path, exc_info=error)
    if request.writer.output_size and request.transport is not None:
        # Half an answer is out: the only honest end is one that the client sees.
        request.transport.abort()
    return error_answer(code, message, status, headers)
