"""The gate by which gRPC comes in from elsewhere: to each of the services, one call at a time.

Services listen at unix sockets that their owner and a group may use. Who comes over TCP or ssh, or is to be on record,
has a connection of HTTP/2 to one of them carried by dockerapi: each call on it is judged by the scope of the address
that it came to and by authorization plugins, written down, and passed on as it is.
"""

import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from dockerapi.http.connection import Entrance
from dockerapi.rights.methods import METHODS
from dockerapi.rights.operations import Operation
from dockerapi.rights.peer import Peer
from sampan.errors import NotFoundError, SampanError
from sampan.json_types import JsonObject
from sampan.layout import Layout
from sampan.service import elsewhere
from sampan.services import ALL
from sampan.wire.http2.connection import Connection
from sampan.wire.http2.protocol import ByteStream
from sampan.wire.http2.relay import Overheard, path_of, refuse, relay, serve_in_front
from sampan.wire.http2.stream import Headers, Stream

if TYPE_CHECKING:  # few engines have either
    from dockerapi.audit.trail import AuditTrail
    from dockerapi.rights.plugins import AuthorizationPlugin

_CANCELLED: Final = 1
_DENIED: Final = frozenset((7, 16))  # PERMISSION_DENIED, UNAUTHENTICATED

_ITSELF: Final = "dockerapi"


class Gate:
    """Lets gRPC in."""

    def __init__(
        self,
        layout: Layout,
        trail: "AuditTrail | None" = None,
        plugins: "Sequence[AuthorizationPlugin]" = (),
    ) -> None:
        self._layout = layout
        self._trail = trail
        self._plugins = plugins

    @property
    def watches(self) -> bool:
        """Whether calls are written down, or plugins are asked about them."""
        return self._trail is not None or bool(self._plugins)

    def keep(self) -> None:
        """Be the only way in if calls are watched, and none that anybody has to take if not.

        Services leave their sockets to their owner alone where the marker is; those that have opened theirs before it
        was there are closed here.
        """
        if not self.watches:
            self._layout.gate_marker.unlink(missing_ok=True)
            return
        self._layout.gate_marker.touch()
        self._layout.gate_marker.chmod(0o644)
        for service in ALL:
            if service != _ITSELF:
                with suppress(FileNotFoundError, PermissionError):
                    self._layout.socket(service).chmod(0o600)

    def check(self, service: str) -> None:
        """Raise NotFoundError if there is no such service."""
        if service not in ALL or service == _ITSELF:
            raise NotFoundError(f"no such service: {service}")

    def engine(self) -> JsonObject:
        """Say what the engine's directories tell of it, as ``sampan.service.elsewhere`` has it; blocks."""
        return elsewhere.told(self._layout)

    async def carry(self, service: str, stream: ByteStream, who: Peer, entrance: Entrance) -> None:
        """Answer what comes on ``stream``, which is HTTP/2, with what ``service`` says. Returns when it has ended."""

        def work(request: Stream, headers: Headers, far: Connection) -> Coroutine[None, None, None]:
            return self._answer(_Call(path_of(headers), who, entrance), request, headers, far)

        await serve_in_front(stream, self._layout.socket(service), work)

    async def _answer(self, call: "_Call", request: Stream, headers: Headers, far: Connection) -> None:
        try:
            await self._admit(call)
        except SampanError as error:
            refuse(request, error)
            self._write(call, "refused", None, str(error))
            return
        if self._trail is None or not self._trail.wants(call.operation):
            await relay(request, headers, far)
            return
        from dockerapi.wire import messages

        heard = Overheard(messages.MOST_BYTES)
        if messages.converses(call.path):
            self._write(call, "begun")
        begin = time.monotonic()
        try:
            await relay(request, headers, far, heard)
        finally:
            trailers = dict(heard.trailers)
            said = trailers.get("grpc-status", "")
            code = int(said) if said.isdecimal() else _CANCELLED
            outcome = "done" if code in (0, _CANCELLED) else "refused" if code in _DENIED else "failed"
            message = unquote(trailers.get("grpc-message", "")) if code else ""
            self._write(call, outcome, heard, message, code, time.monotonic() - begin)

    async def _admit(self, call: "_Call") -> None:
        if self._trail is not None:
            self._trail.admit(call.operation)
        if call.entrance.scope.is_limited:
            call.entrance.scope.check_operation(call.operation)
        for plugin in self._plugins:
            await plugin.ask_method(call.path, call.who)

    def _write(
        self,
        call: "_Call",
        outcome: str,
        heard: Overheard | None = None,
        error: str = "",
        code: int | None = None,
        seconds: float = 0,
    ) -> None:
        if self._trail is None or not self._trail.wants(call.operation):
            return
        record: dict[str, object] = {"method": call.path}
        if heard is not None:
            from dockerapi.wire import messages

            asked = messages.request_of(call.path, heard.request.message)
            name = messages.name_of(call.path, asked, messages.answer_of(call.path, heard.answer.message))
            record |= {key: value for key, value in (("object", name), ("request", asked)) if value}
        record["outcome"] = outcome
        if code is not None:
            record |= {"status": code, "duration_ms": round(seconds * 1e3)}
        if error:
            record["error"] = error
        self._trail.called(call.who, call.entrance, call.operation, record)


@dataclass(frozen=True, slots=True)
class _Call:
    """One call, before it is passed on."""

    path: str
    who: Peer
    entrance: Entrance

    @property
    def operation(self) -> Operation | None:
        """What it does; None: nobody has thought about it."""
        return METHODS.get(self.path)
