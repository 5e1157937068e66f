"""Docker's authorization plugins: programs that are asked about every request, and again about its answer.

One that is down, too slow, or says what cannot be understood, refuses. Reference: Docker's "Access authorization
plugin" and "Docker Plugin API" pages.
"""

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web

from dockerapi.http.call import Call
from dockerapi.http.connection import Connection
from dockerapi.http.routing import Route
from sampan.errors import InvalidArgumentError, PermissionDeniedError, UnavailableError
from sampan.log import log

_SOCKETS: Final = Path("/run/docker/plugins")
_SPECS: Final = (Path("/etc/docker/plugins"), Path("/usr/lib/docker/plugins"))

_TYPE: Final = "application/vnd.docker.plugins.v1.2+json"
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

    def __init__(self, name: str, timeout_s: float, specs: tuple[Path, ...] = _SPECS, sockets: Path = _SOCKETS) -> None:
        if not name or "/" in name or name.startswith("."):
            raise InvalidArgumentError(f"authorization_plugins: {name!r} is no name of a plugin")
        self.name = name
        self._timeout_s = timeout_s
        self._places = (specs, sockets)
        self._session: aiohttp.ClientSession | None = None
        self._url = ""
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
        self._check(await self._call("/AuthZPlugin.AuthZReq", asked))

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
        self._check(await self._call("/AuthZPlugin.AuthZRes", asked))

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
                if self._session is None:
                    await self._start()
                return await self._post(method, body)
        except TimeoutError:
            why = f"it does not answer within {self._timeout_s:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            why = str(error) or type(error).__name__
        await self.close()  # it may be another one when it is back
        log.error("authorization plugin failed", plugin=self.name, error=why)
        raise UnavailableError(f"plugin {self.name} failed with error: {why}")

    async def _start(self) -> None:
        async with self._starting:
            if self._session is not None:
                return
            connector, self._url = self._find()
            session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
            self._session = session
            try:
                implements = (await self._post("/Plugin.Activate", {})).get("Implements", [])
            except BaseException:
                self._session = None
                await session.close()
                raise
            if not isinstance(implements, list) or "authz" not in implements:
                self._session = None
                await session.close()
                raise ValueError("it is no authorization plugin")

    def _find(self) -> tuple[aiohttp.BaseConnector, str]:
        specs, sockets = self._places
        for path in (sockets / f"{self.name}.sock", sockets / self.name / f"{self.name}.sock"):
            if path.is_socket():
                return aiohttp.UnixConnector(str(path)), "http://plugin"
        for place in specs:
            with contextlib.suppress(FileNotFoundError):
                address = (place / f"{self.name}.spec").read_text().strip()
                return _connector(address)
            with contextlib.suppress(FileNotFoundError):
                return _of_document(json.loads((place / f"{self.name}.json").read_text()))
        raise ValueError("plugin not found")

    async def _post(self, method: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        assert self._session is not None
        data = json.dumps(body).encode(errors="replace")
        headers = {"Accept": _TYPE, "Content-Type": "application/json"}
        async with self._session.post(f"{self._url}{method}", data=data, headers=headers, allow_redirects=False) as got:
            text = await got.content.read(_LONGEST_ANSWER)
            if got.status != 200:
                raise ValueError(f"it answers {got.status}")
            if not got.content.at_eof() and await got.content.read(1):
                raise ValueError("its answer is too long")
        answer = json.loads(text)
        if not isinstance(answer, dict):
            raise ValueError("its answer is no object")
        return answer

    async def close(self) -> None:
        """Let go of its connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _connector(address: str, tls: ssl.SSLContext | None = None) -> tuple[aiohttp.BaseConnector, str]:
    scheme, _, rest = address.partition("://")
    if scheme == "unix" and rest.startswith("/"):
        return aiohttp.UnixConnector(rest), "http://plugin"
    if scheme in ("tcp", "http", "https") and rest:
        secure = scheme == "https" or tls is not None
        connector = aiohttp.TCPConnector(ssl=tls or True)
        return connector, f"http{'s' if secure else ''}://{rest.rstrip('/')}"
    raise ValueError(f"its address {address!r} cannot be understood")


def _of_document(document: object) -> tuple[aiohttp.BaseConnector, str]:
    if not isinstance(document, dict) or not isinstance(document.get("Addr"), str):
        raise ValueError("its description has no Addr")
    config = document.get("TLSConfig")
    if not isinstance(config, dict):
        return _connector(document["Addr"])
    tls = ssl.create_default_context(cafile=config.get("CAFile") or None)
    if config.get("CertFile"):
        tls.load_cert_chain(config["CertFile"], config.get("KeyFile"))
    if config.get("InsecureSkipVerify") is True:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    return _connector(document["Addr"], tls)


def _certificates(request: web.BaseRequest) -> list[str]:
    """Return the client's certificate as dockerd passes it on: PEM."""
    transport = request.transport
    der = None if transport is None else transport.get_extra_info("peercert_der")
    return [ssl.DER_cert_to_PEM_cert(der)] if isinstance(der, bytes) else []
