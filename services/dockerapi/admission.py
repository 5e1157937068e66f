"""What every request passes on its way in and out: the scope of its socket, authorization plugins, the audit log."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiohttp import web

from dockerapi.audit.trail import Asked
from dockerapi.http.call import Call
from dockerapi.http.connection import Connection
from dockerapi.http.routing import Route
from dockerapi.rights import guard
from dockerapi.rights.operations import operation_of
from sampan.errors import SampanError
from sampan.log import log

if TYPE_CHECKING:  # few engines have either
    from dockerapi.audit.trail import AuditTrail
    from dockerapi.rights.plugins import AuthorizationPlugin


class Admission:
    """Lets calls in, once each, whatever their route."""

    def __init__(self, trail: "AuditTrail | None" = None, plugins: "Sequence[AuthorizationPlugin]" = ()) -> None:
        self._trail = trail
        self._plugins = plugins

    @property
    def trail(self) -> "AuditTrail | None":
        """The audit log, for what is more than a request."""
        return self._trail

    @property
    def plugins(self) -> "Sequence[AuthorizationPlugin]":
        """Who is asked about each request, and about what is more than one."""
        return self._plugins

    async def admit(self, call: Call, route: Route) -> Call:
        """Return the call as it may be handled.

        Raises:
            PermissionDeniedError, NotFoundError, InvalidArgumentError: as ``guard.admit`` and plugins have it.
            UnavailableError: a plugin does not answer, or the audit log cannot be written.
        """
        operation = operation_of(route.method, route.path)
        if self._trail is not None:
            # Who it is, while it is there.
            _ = Connection.of(call.request).peer
            self._trail.admit(operation)
        scope = Connection.of(call.request).entrance.scope
        if scope.is_limited:
            call = await guard.admit(call, route, scope)
        for plugin in self._plugins:
            await plugin.ask(call, route)
        if self._trail is not None and route.follows:
            self._trail.begun(Asked(call.request, operation, call))
        return call

    async def release(self, call: Call, route: Route, response: web.StreamResponse) -> web.StreamResponse:
        """Return the answer, if the plugins let it out. Raises as ``AuthorizationPlugin.ask_back``."""
        for plugin in reversed(self._plugins):
            try:
                await plugin.ask_back(call, route, response)
            except SampanError as error:
                if not response.prepared and not Connection.of(call.request).taken_over:
                    raise
                log.error("answer refused that is sent already", plugin=plugin.name, error=str(error))
        return response

    def ended(
        self,
        request: web.BaseRequest,
        call: Call | None,
        route: Route | None,
        response: web.StreamResponse,
        error: Exception | None,
        seconds: float,
    ) -> None:
        """Put on record what came of a request."""
        if self._trail is not None:
            operation = operation_of(route.method, route.path) if route is not None else None
            self._trail.ended(Asked(request, operation, call), response, error, seconds)

    async def close(self) -> None:
        """Let go of files and connections."""
        for plugin in self._plugins:
            await plugin.close()
        if self._trail is not None:
            self._trail.close()
