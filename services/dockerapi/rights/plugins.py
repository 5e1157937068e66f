"""Docker's authorization plugins: programs that are asked about every request, and again about its answer.

One that is down, too slow, or says what cannot be understood, refuses. How it is found and spoken to:
``sampan.plugins``. Reference: Docker's "Access authorization plugin" page.
"""

import asyncio
import base64
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from dockerapi.http.call import Call
from dockerapi.http.connection import Connection
from dockerapi.http.routing import Route
from dockerapi.rights.peer import Peer
from sampan.errors import InvalidArgumentError, PermissionDeniedError, UnavailableError
from sampan.log import log
from sampan.plugins import SOCKETS, SPECS, Places, PluginChannel

_LONGEST_ANSWER: Final = 1 << 20
_LONGEST_BODY: Final = 1 << 20  # of an answer that is shown to a plugin

# Bodies that are no JSON, or are a password: nobody is shown them.
_UNSHOWN: Final = frozenset(
    ("/build", "/images/load", "/images/create", "/containers/{id}/archive", "/auth", "/grpc", "/session")
)

# dockerd shows a plugin no header with credentials either.
_HIDDEN_HEADERS: Final = frozenset(("x-registry-auth", "x-registry-config", "authorization"))


class AuthorizationPlugin:
    """One plugin, by its name. It is looked for, and asked what it is, with the first request."""

    def __init__(self, name: str, timeout_s: float, specs: tuple[Path, ...] = SPECS, sockets: Path = SOCKETS) -> None:
        if not name or "/" in name or name.startswith("."):
            raise InvalidArgumentError(f"authorization_plugins: {name!r} is no name of a plugin")
        self.name = name
        self._timeout_s = timeout_s
        self._places = Places(sockets, specs)
        self._channel: PluginChannel | None = None
        self._starting = asyncio.Lock()

    async def ask(self, call: Call, route: Route) -> None:
        """Return if the request may be handled.

        Raises:
            PermissionDeniedError: in dockerd's words, it may not.
            UnavailableError: nobody can tell.
        """
        asked = self._asked(call)
        if route.path not in _UNSHOWN and (body := await call.raw_body()):
            asked["RequestBody"] = base64.b64encode(body).decode()
        self._check(await self._call("AuthZPlugin.AuthZReq", asked))

    async def ask_method(self, path: str, who: Peer) -> None:
        """Return if a gRPC method may be called on a connection that was let in. Raises as ``ask``.

        It is shown as a request of that path below ``/grpc``, without its message, which is no JSON.
        """
        asked = {
            "User": who.name,
            "UserAuthNMethod": "TLS" if who.subject else "",
            "RequestMethod": "POST",
            "RequestUri": f"/grpc{path}",
            "RequestHeaders": {"Content-Type": "application/grpc"},
        }
        self._check(await self._call("AuthZPlugin.AuthZReq", asked))

    async def ask_back(self, call: Call, route: Route, response: web.StreamResponse) -> None:
        """Return if the answer may be sent; one that has begun is shown without its body. Raises as ``ask``."""
        asked = self._asked(call)
        if route.path not in _UNSHOWN and call.read_body:
            asked["RequestBody"] = base64.b64encode(call.read_body).decode()
        asked["ResponseStatusCode"] = response.status
        asked["ResponseHeaders"] = dict(response.headers)
        body = response.body if isinstance(response, web.Response) else None
        if isinstance(body, bytes) and len(body) <= _LONGEST_BODY:
            asked["ResponseBody"] = base64.b64encode(body).decode()
        self._check(await self._call("AuthZPlugin.AuthZRes", asked))

    def _asked(self, call: Call) -> dict[str, Any]:
        peer = Connection.of(call.request).peer
        certificates = _certificates(call.request)
        return {
            "User": peer.name,
            "UserAuthNMethod": "TLS" if certificates else "",
            "RequestMethod": call.request.method,
            "RequestUri": call.request.path_qs,
            "RequestHeaders": {
                name: value for name, value in call.request.headers.items() if name.lower() not in _HIDDEN_HEADERS
            },
            **({"RequestPeerCertificates": certificates} if certificates else {}),
        }

    def _check(self, answer: Mapping[str, Any]) -> None:
        error, message, allow = answer.get("Err", ""), answer.get("Msg", ""), answer.get("Allow", False)
        if not (isinstance(error, str) and isinstance(message, str) and isinstance(allow, bool)):
            raise UnavailableError(f"plugin {self.name} failed with error: its answer cannot be understood")
        if error:
            raise UnavailableError(f"plugin {self.name} failed with error: {error[:1000]}")
        if not allow:
            raise PermissionDeniedError(f"authorization denied by plugin {self.name}: {message[:1000]}")

    async def _call(self, method: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await _post(self._channel or await self._start(), method, body)
        except TimeoutError:
            why = f"it does not answer within {self._timeout_s:g} s"
        except (OSError, ValueError) as error:
            why = str(error) or type(error).__name__
        await self.close()  # it may be another one when it is back
        log.error("authorization plugin failed", plugin=self.name, error=why)
        raise UnavailableError(f"plugin {self.name} failed with error: {why}")

    async def _start(self) -> PluginChannel:
        async with self._starting:
            if self._channel is not None:
                return self._channel
            address = await asyncio.to_thread(self._places.find, self.name)
            if address is None:
                raise ValueError("plugin not found")
            channel = await PluginChannel.open(address)
            try:
                implements = (await _post(channel, "Plugin.Activate", {})).get("Implements", [])
                if not isinstance(implements, list) or "authz" not in implements:
                    raise ValueError("it is no authorization plugin")
            except BaseException:
                await channel.close()
                raise
            self._channel = channel
            return channel

    async def close(self) -> None:
        """Let go of its connections."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()


async def _post(channel: PluginChannel, method: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    status, text = await channel.post(method, dict(body), _LONGEST_ANSWER)
    if status != 200:
        raise ValueError(f"it answers {status}")
    answer = json.loads(text)
    if not isinstance(answer, dict):
        raise ValueError("its answer is no object")
    return answer


def _certificates(request: web.BaseRequest) -> list[str]:
    """Return the client's certificate as dockerd passes it on: PEM."""
    transport = request.transport
    der = None if transport is None else transport.get_extra_info("peercert_der")
    return [ssl.DER_cert_to_PEM_cert(der)] if isinstance(der, bytes) else []
