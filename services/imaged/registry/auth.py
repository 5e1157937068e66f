"""Tokens and passwords for registries.

Reference: the distribution project's "Token Authentication" and "OAuth2" specifications; RFC 7617 for basic.
"""

import asyncio
import base64
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urlsplit

from imaged.registry.challenge import Challenge, split_url
from imaged.registry.endpoints import Tls
from imaged.registry.errors import refusal
from imaged.registry.pace import read_limited
from imaged.registry.transport import Transport
from sampan.errors import RemoteError, UnauthenticatedError
from sampan.resource.image import Credentials

if TYPE_CHECKING:
    import aiohttp

_CLIENT_ID: Final = "sampan"
# The longest tokens are of some kilobytes.
_MAX_ANSWER_BYTES: Final = 256 << 10
_MAX_TOKENS: Final = 128

# What the specification says a token lives when its server does not, which is also the least it may say.
_DEFAULT_LIFETIME_S: Final = 60
_LONGEST_LIFETIME_S: Final = 24 * 3600


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, and the refresh token that came with it."""

    value: str
    expires_s: float  # on the monotonic clock
    refresh: str = ""


@dataclass(slots=True)
class _Turn:
    """Who asks for one token."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Tokens:
    """Asks token servers and remembers their answers as long as they are good."""

    def __init__(self, transport: Transport, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._transport = transport
        self._monotonic = monotonic
        self._cache: OrderedDict[tuple[str, str, str, Credentials], Token] = OrderedDict()
        self._turns: dict[tuple[str, str, str, Credentials], _Turn] = {}  # of those who ask now

    async def get(
        self, challenge: Challenge, registry_url: str, tls: Tls, scope: str, credentials: Credentials, *, refused: str
    ) -> Token:
        """Return a token for ``scope`` (may be empty: log in only), another one than ``refused`` if that is set.

        Requests that need the same token at the same time wait for one answer.

        Raises:
            UnauthenticatedError: the token server does not accept the credentials.
            Refusal: it is busy; trying again may help.
            RemoteError: the challenge or the answer is unusable.
        """
        realm, service = challenge.get("realm"), challenge.get("service")
        _check_realm(realm, registry_url)
        key = (realm, service, scope, credentials)
        async with self._turn(key):
            token = self._cache.get(key)
            if token is None or token.value == refused or token.expires_s <= self._monotonic():
                token = await self._ask(realm, service, tls, scope, credentials)
                self._cache[key] = token
            self._cache.move_to_end(key)
        while len(self._cache) > _MAX_TOKENS:
            self._cache.popitem(last=False)
        return token

    @asynccontextmanager
    async def _turn(self, key: tuple[str, str, str, Credentials]) -> AsyncIterator[None]:
        """Let one at a time in; nothing stays of a key for which nobody asks, whatever came of it."""
        turn = self._turns.setdefault(key, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[key]

    async def _ask(self, realm: str, service: str, tls: Tls, scope: str, credentials: Credentials) -> Token:
        query = {"service": service, "scope": scope} if scope else {"service": service}
        if credentials.identity_token:
            form = query | {
                "grant_type": "refresh_token",
                "refresh_token": credentials.identity_token,
                "client_id": _CLIENT_ID,
            }
            async with self._transport.request("POST", realm, tls, form=form) as response:
                return await self._read("POST", realm, response)
        headers = {}
        if credentials.username or credentials.password:
            query |= {"account": credentials.username}
            if not scope:
                query |= {"offline_token": "true", "client_id": _CLIENT_ID}
            headers["Authorization"] = basic(credentials)
        url = f"{realm}{'&' if urlsplit(realm).query else '?'}{urlencode(query)}"
        async with self._transport.request("GET", url, tls, headers=headers) as response:
            return await self._read("GET", realm, response)

    async def _read(self, method: str, realm: str, response: "aiohttp.ClientResponse") -> Token:
        body = await read_limited(response, _MAX_ANSWER_BYTES)
        headers = {key.lower(): value for key, value in response.headers.items()}
        why = refusal(method.title(), realm, response.status, headers, body)
        if why.retriable:
            raise why
        if response.status in (401, 403):
            raise UnauthenticatedError(f'{method.title()} "{realm}": unauthorized: {why.message}')
        if response.status != 200:
            raise RemoteError(f'{method.title()} "{realm}": token server answers with status {response.status}')
        try:
            answer = json.loads(body)
            value = answer.get("token") or answer.get("access_token")
            lifetime_s, refresh = answer.get("expires_in"), answer.get("refresh_token")
        except (ValueError, AttributeError, RecursionError) as error:
            raise RemoteError(f'{method.title()} "{realm}": token server answers with something else') from error
        if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
            raise RemoteError(f'{method.title()} "{realm}": authorization server did not include a token')
        if not isinstance(lifetime_s, int) or lifetime_s < _DEFAULT_LIFETIME_S:
            lifetime_s = _DEFAULT_LIFETIME_S
        # A tenth early, so that it does not run out on the way.
        expires_s = self._monotonic() + 0.9 * min(lifetime_s, _LONGEST_LIFETIME_S)
        return Token(value, expires_s, refresh if isinstance(refresh, str) else "")


def _check_realm(realm: str, registry_url: str) -> None:
    """Raise RemoteError for a token server that must not get credentials, or be talked to at all."""
    parts = split_url(realm, f"registry {registry_url} names the token server")
    if parts.scheme == "http" and registry_url.startswith("https:"):
        raise RemoteError(f"registry {registry_url} names a token server without TLS: {realm[:200]!r}")


def basic(credentials: Credentials) -> str:
    """Return the header's value for basic authentication."""
    pair = f"{credentials.username}:{credentials.password}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


class Authorizer:
    """Keeps the ``Authorization`` header for one repository at one endpoint."""

    def __init__(self, tokens: Tokens, tls: Tls, credentials: Credentials, scope: str) -> None:
        self._tokens = tokens
        self._tls = tls
        self._credentials = credentials
        self._scope = scope
        self._registry_url = ""
        self._challenges: tuple[Challenge, ...] = ()

    def learn(self, registry_url: str, challenges: tuple[Challenge, ...]) -> None:
        """Take in what the registry asks for."""
        self._registry_url = registry_url
        if challenges:
            self._challenges = challenges

    async def header(self, request: str, *, refused: str = "") -> str:
        """Return the header's value, empty if none is needed; ``request`` names the request in errors.

        ``refused`` is the value that was not good enough a moment ago.

        Raises:
            UnauthenticatedError: the credentials are missing or refused.
            RemoteError: the registry asks for something unknown, or its token server does not answer.
        """
        if self._credentials.registry_token:
            return f"Bearer {self._credentials.registry_token}"
        schemes = {challenge.scheme: challenge for challenge in reversed(self._challenges)}
        if not schemes:
            return ""
        if bearer := schemes.get("bearer"):
            token = await self._tokens.get(
                bearer,
                self._registry_url,
                self._tls,
                self._scope,
                self._credentials,
                refused=refused.removeprefix("Bearer "),
            )
            return f"Bearer {token.value}"
        if "basic" in schemes:
            if not (self._credentials.username or self._credentials.password):
                raise UnauthenticatedError(f"{request}: no basic auth credentials")
            return basic(self._credentials)
        raise RemoteError(f"{request}: the registry asks for authentication by {', '.join(sorted(schemes))}")

    async def identity_token(self) -> str:
        """Return the refresh token that the token server gave with the last token, if any."""
        bearer = next((c for c in self._challenges if c.scheme == "bearer"), None)
        if bearer is None or self._credentials.registry_token:
            return ""
        token = await self._tokens.get(
            bearer, self._registry_url, self._tls, self._scope, self._credentials, refused=""
        )
        return token.refresh
