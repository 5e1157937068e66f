"""The HTTP server: find the route, run the handler, turn errors into Docker's answers."""

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from aiohttp import web

from dockerapi.admission import Admission
from dockerapi.backend import Backend
from dockerapi.http import versions
from dockerapi.http.call import HEADERS, Call, reply
from dockerapi.http.connection import CLIENT_CLOSED_REQUEST, ApiServer, Connection, Entrance
from dockerapi.http.decode import well_formed
from dockerapi.http.hijack import Finished
from dockerapi.http.routing import Route, Router
from sampan import tracing
from sampan.errors import InternalError, NotFoundError, SampanError
from sampan.log import log
from sampan.services import RESTART_S
from sampan.sys.closed import share
from sampan.wire.status import wire_for

_SLASHES: Final = re.compile("//+")


class DockerApi:
    """Serves the routes, on a unix socket and wherever else it is told to."""

    def __init__(
        self,
        backend: Backend,
        routes: Iterable[Route],
        used: Callable[[], None] = lambda: None,
        admission: Admission | None = None,
    ) -> None:
        """``used`` is called as a request begins and ends; ``admission`` is who lets calls in."""
        self._admission = admission or Admission()
        self._backend = backend
        self._used = used
        self._router = Router(routes)
        self._server = ApiServer(self._handle, backend.hangups, used)
        self._listener: asyncio.Server | None = None
        self._following: set[asyncio.Task[web.StreamResponse]] = set()

    async def listen(self, path: Path, group: str) -> None:
        """Open the socket to its owner and ``group``; a stale one is replaced."""
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - one system call on a tmpfs
        previous = os.umask(0o117)
        try:
            loop = asyncio.get_running_loop()
            self._listener = await loop.create_unix_server(self._server, path, backlog=512)
        finally:
            os.umask(previous)
        share(path, group)

    def protocols(self, entrance: Entrance) -> Callable[[], asyncio.Protocol]:
        """Return what makes the protocol of each new connection at a further address."""
        return self._server.at(entrance)

    async def close(self, grace_s: float) -> None:
        """Stop listening, end what would not end by itself, and give the rest ``grace_s`` seconds."""
        if self._listener is not None:
            self._listener.close()
        for task in self._following:
            task.cancel()
        self._server.pre_shutdown()
        await self._server.shutdown(grace_s)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._used()
        begin = time.monotonic()
        route: Route | None = None
        call: Call | None = None
        failure: Exception | None = None
        try:
            # Some clients name containers with the slash that an inspect shows.
            asked, path = versions.split(_SLASHES.sub("/", request.path))
            version = versions.known(asked, request.headers.get("User-Agent", ""))
            found = self._router.find(request.method, path)
            if found is None:
                raise NotFoundError("page not found")
            route, args = found[0], {name: well_formed(value) for name, value in found[1].items()}
            if not route.alone:
                await self._backend.engine.reach(RESTART_S)
            call = Call(request, self._backend, version, args)
            call = await self._admission.admit(call, route)
            response = await self._admission.release(call, route, await self._run(route, call))
        except ConnectionError:
            response = Finished(CLIENT_CLOSED_REQUEST)
        except Exception as error:  # noqa: BLE001 - the last place where an error can become an answer
            failure = error
            response = self._refuse(error, request)
        Connection.of(request).speak_http()
        code = response.status
        seconds = time.monotonic() - begin
        self._admission.ended(request, call, route, response, failure, seconds)
        name, method = (route.path, route.method) if route else ("unknown", "unknown")
        timed = route is not None and not route.follows
        self._backend.metrics.answered(method, name, code, seconds, timed=timed)
        if not response.prepared:
            response.headers.update(HEADERS)
        self._used()
        return response

    async def _run(self, route: Route, call: Call) -> web.StreamResponse:
        with tracing.span(f"{route.method} {route.path}", call.request.headers):
            return await self._answer(route, call)

    async def _answer(self, route: Route, call: Call) -> web.StreamResponse:
        # What only looks ends with its client: it may walk all that a container has. What changes something does not.
        if not route.follows and route.method != "GET":
            return await route.handler(call)
        task: asyncio.Task[web.StreamResponse] = asyncio.create_task(_as_coroutine(route, call), name=route.path)
        connection = Connection.of(call.request)
        connection.when_gone(task.cancel, follows=route.follows)
        if route.follows:
            self._following.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if not task.done():  # this handler itself is being cancelled, not the one that follows
                task.cancel()
                await asyncio.wait({task})
                raise
            # The client left, or the service stops: there is nobody to answer.
            raise ConnectionResetError("the connection has ended") from None
        finally:
            connection.when_gone(None)
            self._following.discard(task)

    def _refuse(self, error: Exception, request: web.BaseRequest) -> web.StreamResponse:
        status = wire_for(error).http
        if isinstance(error, SampanError):
            message = str(error)
            if isinstance(error, InternalError):
                log.error("service failed", path=request.path, error=message)
        elif isinstance(error, web.HTTPException):
            status, message = error.status, error.reason
        else:
            log.exception("request failed", method=request.method, path=request.path)
            message = "internal error: the log of dockerapi has the details"
        if Connection.of(request).taken_over:
            return Finished(status)  # what is on the wire is not HTTP any more
        if status == 304:
            return web.Response(status=304)
        return reply({"message": message}, status)


async def _as_coroutine(route: Route, call: Call) -> web.StreamResponse:
    return await route.handler(call)
