"""Files of web servers, kept so that one that has not changed is not sent again.

<root>/<key>/file    what the last answer held
<root>/<key>/about   JSON: its digest, and what the server said of it; its time is that of the last use

Reference: RFC 9110, "Conditional Requests".
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import SplitResult, urljoin, urlsplit

from buildd.cache.model import Record, RecordType
from sampan.cancellation import to_the_end
from sampan.errors import InvalidArgumentError, NotFoundError, RemoteError, ResourceExhaustedError, SampanError
from sampan.oci.digest import Digest
from sampan.service.lean import without_certificates
from sampan.sys.trees import remove_tree

if TYPE_CHECKING:
    import aiohttp

_MAX_REDIRECTS: Final = 10
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# What OpenSSL calls the answer of a server that does not talk TLS.
_NOT_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})
_CONNECT_S: Final = 30.0
_STALL_S: Final = 60.0
_MAX_BYTES: Final = 64 << 30
_PIECE: Final = 1 << 20
_FORGOTTEN_S: Final = 60 * 24 * 3600
_FILE: Final = "file"
_ABOUT: Final = "about"
_URL: Final = "url"
_SECRET: Final = ("authorization", "cookie")  # for the host that they were meant for


@dataclass(frozen=True, slots=True)
class Download:
    """What a URL led to."""

    path: Path
    digest: Digest
    size: int
    etag: str = ""
    last_modified: str = ""
    disposition: str = ""

    @property
    def here(self) -> bool:
        """Whether its bytes are here, and not only what is known of them."""
        return self.path.is_file()


# Told of the bytes that have come, and how many there will be, 0 if nobody knows.
Progress = Callable[[int, int], None]


class Downloads:
    """All downloads; one at a time of each URL is the caller's to see to. Satisfies ``cache.model.Shelf``."""

    def __init__(self, root: Path, agent: str = "sampan") -> None:
        """``root`` is a directory for nobody else."""
        self._root = root
        self._agent = agent
        self._session: aiohttp.ClientSession | None = None
        self._places = threading.Lock()  # one is removed, or has a file

    def recover(self) -> None:
        """Remove bytes that nobody has fetched, and what was not asked for in a while; blocks."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for place in self._root.iterdir():
            (place / _FILE).unlink(missing_ok=True)
            about = place / _ABOUT
            if not about.exists() or time.time() - about.stat().st_mtime > _FORGOTTEN_S:
                remove_tree(place)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def known(self, url: str, headers: Mapping[str, str]) -> Download | None:
        """Return what is known of a URL; blocks for a moment."""
        place = self._place(url, headers)
        try:
            fields = json.loads((place / _ABOUT).read_text())
            fields.pop(_URL, None)
            return Download(place / _FILE, Digest.parse(fields.pop("digest")), **fields)
        except (FileNotFoundError, ValueError, TypeError, KeyError, SampanError):
            return None

    async def get(self, url: str, headers: Mapping[str, str], progress: Progress, *, conditional: bool) -> Download:
        """Return what is at ``url`` now; if it is what was there before and ``conditional``, it need not be here.

        Raises:
            InvalidArgumentError: no URL of http or https.
            NotFoundError: the server has no such thing.
            RemoteError: it does not answer, or not with it; PermissionDeniedError: it leads where it may not.
        """
        known = await asyncio.to_thread(self.known, url, headers) if conditional else None
        conditions: dict[str, str] = {}
        if known is not None and known.etag:
            conditions["If-None-Match"] = known.etag
        elif known is not None and known.last_modified:
            conditions["If-Modified-Since"] = known.last_modified
        async with self._request(url, {**headers, **conditions}) as response:
            if response.status == 304 and known is not None:
                await asyncio.to_thread(os.utime, known.path.with_name(_ABOUT))
                return known
            if response.status == 404:
                raise NotFoundError("invalid response status 404")
            if not 200 <= response.status < 300:
                raise RemoteError(f"invalid response status {response.status}")
            return await self._keep(url, self._place(url, headers), response, progress)

    async def records(self) -> Sequence[Record]:
        """Return what is known of URLs; those whose bytes are here are in use."""
        return await asyncio.to_thread(lambda: [*filter(None, map(_record, sorted(self._root.iterdir())))])

    async def remove(self, ids: Collection[str]) -> Collection[str]:
        """See ``Shelf``."""
        return await to_the_end(asyncio.to_thread(self._remove, ids))

    def _remove(self, ids: Collection[str]) -> list[str]:
        removed = []
        known = {place.name: place for place in self._root.iterdir()}
        for name in ids:
            with self._places:
                if name in known and not (known[name] / _FILE).exists():
                    remove_tree(known[name])
                    removed.append(name)
        return removed

    def _drop(self, place: Path) -> None:
        with self._places:
            remove_tree(place)

    def _begin(self, place: Path) -> BinaryIO:
        with self._places:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            (place / _ABOUT).unlink(missing_ok=True)
            return (place / _FILE).open("wb")

    def _place(self, url: str, headers: Mapping[str, str]) -> Path:
        asked = json.dumps([url.partition("#")[0], sorted(headers.items())])
        return self._root / hashlib.sha256(asked.encode()).hexdigest()[:32]

    async def _keep(self, url: str, place: Path, response: aiohttp.ClientResponse, progress: Progress) -> Download:
        total = response.content_length or 0
        found, size = hashlib.sha256(), 0
        file = await asyncio.to_thread(self._begin, place)
        try:
            async for piece in response.content.iter_chunked(_PIECE):
                size += len(piece)
                if size > _MAX_BYTES:
                    raise ResourceExhaustedError(f"{response.url} has more than {_MAX_BYTES} bytes")
                await asyncio.to_thread(_take, file, piece, found)
                progress(size, max(total, size))
        except BaseException:
            await to_the_end(asyncio.to_thread(self._drop, place))
            raise
        finally:
            file.close()
        header = response.headers
        download = Download(
            place / _FILE,
            Digest(f"sha256:{found.hexdigest()}"),
            size,
            header.get("ETag", ""),
            header.get("Last-Modified", ""),
            header.get("Content-Disposition", ""),
        )
        await asyncio.to_thread(_note, place, url, download)
        return download

    @asynccontextmanager
    async def _request(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request, follow redirects, and yield the answer.

        What a public server redirects to must be public, too. Secrets go to the host that they are meant for alone.
        """
        from yarl import URL

        from buildd.sources.addresses import HOP, Hop, check_literal

        session = self._open()
        public_only = False
        sent = dict(headers)
        for _ in range(_MAX_REDIRECTS + 1):
            parts = _parts(url)
            hop = Hop(public_only)
            proxy = _proxy(parts)  # which then decides where one may go
            if proxy is None:
                check_literal(parts.hostname or "", url, hop)
            token = HOP.set(hop if proxy is None else None)
            try:
                with _translated(url):
                    async with asyncio.timeout(_CONNECT_S + _STALL_S):
                        response = await session.get(
                            URL(url, encoded=True), headers=sent, allow_redirects=False, proxy=proxy
                        )
            finally:
                HOP.reset(token)
            with _translated(url):
                async with response:
                    location = response.headers.get("Location")
                    if response.status not in _REDIRECTS or not location:
                        yield response
                        return
            public_only = public_only or hop.public
            target = urljoin(url, location)
            if (scheme := target.partition(":")[0].lower()) not in ("http", "https"):
                raise InvalidArgumentError(f'Get "{target[:200]}": unsupported protocol scheme "{scheme}"')
            there = _parts(target)
            if parts.scheme == "https" and there.scheme == "http":
                raise RemoteError(f"{url} redirects from https to plain http at {there.hostname}")
            if (parts.scheme, parts.netloc) != (there.scheme, there.netloc):
                sent = {name: value for name, value in sent.items() if name.lower() not in _SECRET}
            url = target
        raise RemoteError(f'Get "{url}": stopped after {_MAX_REDIRECTS} redirects')

    def _open(self) -> aiohttp.ClientSession:
        with without_certificates():
            import aiohttp

        import ssl

        from buildd.sources.addresses import HostResolver

        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_STALL_S)
            self._session = aiohttp.ClientSession(
                # A connection is used once: the next request may go to fewer addresses.
                connector=aiohttp.TCPConnector(
                    limit=16,
                    resolver=HostResolver(),
                    use_dns_cache=False,
                    force_close=True,
                    ssl=ssl.create_default_context(),
                ),
                timeout=timeout,
                # Bytes are kept as they are sent: what is compressed on the way is another file.
                auto_decompress=False,
                headers={"User-Agent": self._agent, "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def _take(file: BinaryIO, piece: bytes, found: hashlib._Hash) -> None:
    found.update(piece)
    file.write(piece)


def _note(place: Path, url: str, download: Download) -> None:
    fields = {name: value for name, value in asdict(replace(download, path=Path())).items() if name != "path"}
    parts = urlsplit(url)  # a user's name and a query may be secrets
    fields[_URL] = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    partial = place / f"{_ABOUT}.tmp"
    partial.write_text(json.dumps(fields))
    partial.rename(place / _ABOUT)


def _record(place: Path) -> Record | None:
    """Return what a list of the build cache says of it; None if it is on its way here, or out."""
    with suppress(FileNotFoundError):
        about = (place / _ABOUT).stat()
        try:
            url = str(json.loads((place / _ABOUT).read_text())[_URL])
        except (ValueError, KeyError, TypeError):
            url = "that is not known"
        size = sum(path.stat().st_blocks * 512 for path in (place, place / _ABOUT))
        return Record(
            place.name,
            RecordType.INTERNAL,
            f"answer of http url {url}",
            about.st_mtime_ns,
            about.st_mtime_ns,
            size_bytes=size,
            in_use=(place / _FILE).exists(),
        )
    return None


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for one that is no number
    except ValueError as error:
        raise InvalidArgumentError(f"invalid URL {url[:200]!r}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
        raise InvalidArgumentError(f"invalid URL {url[:200]!r}")
    return parts


def _proxy(parts: SplitResult) -> str | None:
    """Return the proxy that the environment names for a URL."""
    proxy = urllib.request.getproxies().get(parts.scheme)
    return None if not proxy or urllib.request.proxy_bypass(parts.hostname or "") else proxy


@contextmanager
def _translated(url: str) -> Iterator[None]:
    import aiohttp

    from buildd.sources.addresses import RefusedAddressError, refused

    shown = f'Get "{url.partition("?")[0]}"'
    try:
        yield
    except aiohttp.ClientConnectorDNSError as error:
        if isinstance(error.__cause__, RefusedAddressError) or isinstance(error.os_error, RefusedAddressError):
            raise refused(url) from error
        raise RemoteError(f"{shown}: dial tcp: lookup {error.host}: no such host") from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise RemoteError(f"{shown}: x509: {error.certificate_error}") from error
    except aiohttp.ClientConnectorSSLError as error:
        reason = str(getattr(error.os_error, "reason", "") or "handshake failure")
        words = "first record does not look like a TLS handshake" if reason in _NOT_TLS else reason.lower()
        raise RemoteError(f"{shown}: tls: {words.replace('_', ' ')}") from error
    except aiohttp.ClientConnectorError as error:
        why = os.strerror(error.os_error.errno).lower() if error.os_error.errno else str(error.os_error)
        raise RemoteError(f"{shown}: dial tcp {error.host}:{error.port}: connect: {why}") from error
    except TimeoutError as error:
        raise RemoteError(f"{shown}: the server does not answer") from error
    except aiohttp.InvalidURL as error:
        raise InvalidArgumentError(f"invalid URL {url[:200]!r}") from error
    except aiohttp.ClientPayloadError as error:
        raise RemoteError(f"{shown}: unexpected EOF") from error
    except aiohttp.ServerDisconnectedError as error:
        raise RemoteError(f"{shown}: EOF") from error
    except aiohttp.ClientResponseError as error:  # what its parser says runs over several lines
        broken = "net/http: HTTP/1.x transport connection broken: malformed HTTP response"
        raise RemoteError(f"{shown}: {broken}") from error
    except (aiohttp.ClientOSError, ConnectionError) as error:
        why = os.strerror(error.errno).lower() if error.errno else type(error).__name__
        raise RemoteError(f"{shown}: read: {why}") from error
    except aiohttp.ClientError as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise RemoteError(f"{shown}: {first_line}") from error
