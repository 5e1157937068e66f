"""HTTP to registries: TLS, redirects, time limits, and failures in the words of Docker's HTTP client.

aiohttp is imported when the first request is made: it costs a third of a second and 8 MB, and an engine that only
runs what is here never needs it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urljoin, urlsplit

from imaged.registry.challenge import split_url
from imaged.registry.endpoints import Tls, is_loopback
from imaged.registry.errors import TransportError
from sampan.errors import InvalidArgumentError, RemoteError
from sampan.service.lean import without_certificates

if TYPE_CHECKING:
    import aiohttp

# What a request carries, anew for each time that it is sent.
Body = Callable[[], "bytes | AsyncIterator[bytes]"]

_BODILESS: Final = frozenset({"GET", "HEAD"})
_MAX_REDIRECTS: Final = 10
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_READ_BUFFER_BYTES: Final = 512 << 10

# OpenSSL's reasons that mean: that was no TLS.
_NOT_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})


class Transport:
    """One pool of connections for all registries; ``close`` ends it."""

    def __init__(self, *, connect_timeout_s: float = 10.0, stall_timeout_s: float = 30.0, agent: str = "") -> None:
        self._connect_timeout_s = connect_timeout_s
        self.stall_timeout_s = stall_timeout_s
        self._agent = agent or "sampan/0.1"
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[Tls, ssl.SSLContext] = {}

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        tls: Tls,
        *,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and yield the answer, whatever its status; leaving the context lets the connection go.

        ``body`` is called for each request that is sent, redirected ones too.

        Redirects are followed to http and https, at most ten, never from https to http and never to a link-local
        address; to another host they go without ``Authorization`` and without the client certificate. Failures
        inside the context, while the body is read, are translated too.

        Raises:
            TransportError: no connection, or it broke or stalled.
            RemoteError: a redirect that is not followed, or a certificate that is not accepted.
        """
        sent = dict(headers or {})
        for _ in range(_MAX_REDIRECTS + 1):
            async with self._send(method, url, tls, sent, body() if body else form) as response:
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or not location:
                    yield response
                    return
                target = _redirected(url, location)
                if response.status == 303:
                    method, form, body = "GET", None, None
            if _origin(urlsplit(url)) != _origin(urlsplit(target)):
                sent.pop("Authorization", None)
                tls = replace(tls, client_certificate=None, client_key=None)
            url = target
        raise RemoteError(f'{_verb(method)} "{url}": stopped after {_MAX_REDIRECTS} redirects')

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        url: str,
        tls: Tls,
        headers: Mapping[str, str],
        data: Mapping[str, str] | bytes | AsyncIterator[bytes] | None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        from yarl import URL

        session = self._open()
        proxy = _proxy(url)
        secure = url.startswith("https:") or (proxy or "").startswith("https:")
        with _translated(method, url):
            # Headers that trickle in never exceed the socket's time limit. (What is sent may take its time.)
            limit_s = self._connect_timeout_s + self.stall_timeout_s if method in _BODILESS else None
            async with asyncio.timeout(limit_s):
                response = await session.request(
                    method,
                    URL(url, encoded=True),  # a signed URL must arrive as it was given
                    headers=headers,
                    data=data,
                    allow_redirects=False,
                    ssl=self._context(tls) if secure else True,
                    proxy=proxy,
                )
            async with response:
                yield response

    def _open(self) -> aiohttp.ClientSession:
        with without_certificates():
            import aiohttp

        from imaged.registry.addresses import HostResolver

        if self._session is None:
            timeout = aiohttp.ClientTimeout(
                total=None, sock_connect=self._connect_timeout_s, sock_read=self.stall_timeout_s
            )
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, resolver=HostResolver()),
                timeout=timeout,
                # Bytes are verified as they are sent; nobody may unpack them on the way.
                auto_decompress=False,
                headers={"User-Agent": self._agent, "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=_READ_BUFFER_BYTES,
            )
        return self._session

    def reread_certificates(self) -> None:
        """Have files of certificates read again for the next connection that needs them."""
        self._contexts.clear()

    def _context(self, tls: Tls) -> ssl.SSLContext:
        context = self._contexts.get(tls)
        if context is None:
            context = self._contexts[tls] = _make_context(tls)
        return context


def _make_context(tls: Tls) -> ssl.SSLContext:
    try:
        if tls.verify:
            context = ssl.create_default_context()
            for file in tls.ca_files:
                context.load_verify_locations(file)
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if tls.client_certificate is not None:
            context.load_cert_chain(tls.client_certificate, tls.client_key)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(str(file) for file in (*tls.ca_files, tls.client_certificate) if file)
        raise InvalidArgumentError(f"certificates {files} cannot be used: {error}") from error
    return context


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _redirected(source: str, location: str) -> str:
    """Return the URL that an answer leads to. Raises RemoteError for one that is not followed."""
    try:
        target = urljoin(source, location)
    except ValueError:
        target = location
    parts = split_url(target, f'Get "{source}": redirected to')
    if source.startswith("https:") and parts.scheme == "http":
        raise RemoteError(f'Get "{source}": redirected from https to plain http at {parts.hostname}')
    return target


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment names for ``url``; never one for this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or is_loopback(parts.netloc) or urllib.request.proxy_bypass(host):
        return None
    return proxy


def _verb(method: str) -> str:
    return method.title()


@contextmanager
def _translated(method: str, url: str) -> Iterator[None]:
    import aiohttp

    where = f'{_verb(method)} "{url.partition("?")[0]}"'
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as error:
        # Asking again does not repair it.
        raise RemoteError(f"{where}: {_certificate_text(error.certificate_error)}") from error
    except aiohttp.ClientConnectorSSLError as error:
        raise _tls_failure(where, error) from error
    except aiohttp.ClientConnectorDNSError as error:
        raise TransportError(f"{where}: dial tcp: lookup {error.host}: no such host") from error
    except aiohttp.ClientConnectorError as error:
        raise _connect_failure(where, error) from error
    except TimeoutError as error:
        raise TransportError(f"{where}: net/http: request canceled: the registry does not answer") from error
    except aiohttp.InvalidURL as error:
        raise RemoteError(f"{where}: invalid URL") from error
    except aiohttp.ClientConnectionResetError as error:
        raise TransportError(f"{where}: connection reset by peer") from error
    except aiohttp.ServerDisconnectedError as error:
        raise TransportError(f"{where}: EOF") from error
    except aiohttp.ClientPayloadError as error:
        raise TransportError(f"{where}: unexpected EOF") from error
    except (aiohttp.ClientError, ConnectionError) as error:
        # Some of aiohttp's messages quote what was received, over several lines.
        first_line = (str(getattr(error, "message", "") or error) or type(error).__name__).splitlines()[0]
        raise TransportError(f"{where}: {first_line}") from error


def _connect_failure(where: str, error: aiohttp.ClientConnectorError) -> TransportError:
    number = error.os_error.errno
    reason = os.strerror(number).lower() if number else "no address answers"
    host = f"[{error.host}]" if ":" in error.host else error.host
    return TransportError(f"{where}: dial tcp {host}:{error.port}: connect: {reason}")


def _tls_failure(where: str, error: aiohttp.ClientConnectorSSLError) -> TransportError:
    reason = getattr(error.os_error, "reason", "") or ""
    if reason in _NOT_TLS:
        return TransportError(f"{where}: http: server gave HTTP response to HTTPS client")
    return TransportError(f"{where}: tls: {reason.lower().replace('_', ' ') or 'handshake failure'}")


def _certificate_text(error: Exception) -> str:
    # X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY and its like: nobody we trust signed it.
    if getattr(error, "verify_code", 0) in (18, 19, 20, 21):
        return "x509: certificate signed by unknown authority"
    return f"x509: {getattr(error, 'verify_message', '') or error}"
