"""One repository to push to: blobs, mounted from a neighbour or uploaded in one piece or several, and manifests.

Reference: OCI distribution spec 1.1, "Push".
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urljoin, urlsplit

from imaged.registry.auth import Authorizer, Tokens
from imaged.registry.challenge import split_url
from imaged.registry.client import RegistryClient
from imaged.registry.errors import Refusal, TransportError, refusal
from imaged.registry.pace import read_limited
from imaged.registry.transport import Transport
from sampan.errors import DataLossError, RemoteError
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest

if TYPE_CHECKING:
    import aiohttp

_MAX_ERROR_BYTES: Final = 64 << 10
_RANGE: Final = re.compile(r"(?:bytes=)?0-(\d+)")

# Bytes of a blob from an offset: given the offset, the length, and what to call after each piece.
Read = Callable[[int, int, Callable[[int], None]], AsyncIterator[bytes]]
Report = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload under way: where the rest goes, and how much is there."""

    url: str
    offset: int = 0


class UploadClient:
    """Asks with the right to push; with ``source``, also with the right to read that repository."""

    def __init__(
        self, transport: Transport, tokens: Tokens, client: RegistryClient, repository: str, source: str = ""
    ) -> None:
        self._transport = transport
        self._client = client
        self._repository = repository
        scope = f"repository:{repository}:pull,push"
        if source:
            scope = f"repository:{source}:pull {scope}"
        self.source = source
        self._authorizer = Authorizer(tokens, client.endpoint.tls, client.endpoint.credentials, scope)

    async def has(self, digest: Digest) -> bool:
        """Say whether the repository has a blob.

        Raises:
            Refusal, TransportError: the registry does not say.
        """
        try:
            async with self._ask("HEAD", self._url(f"blobs/{digest}")):
                return True
        except Refusal as refused:
            if refused.status == 404:
                return False
            raise

    async def begin(self, digest: Digest) -> Upload | None:
        """Begin an upload; None if the blob could be mounted from ``source`` instead.

        Raises:
            Refusal, TransportError.
        """
        query = f"?{urlencode({'mount': digest, 'from': self.source})}" if self.source else ""
        url = self._url("blobs/uploads/") + query
        async with self._ask("POST", url, {"Content-Length": "0"}) as response:
            if response.status == 201 and self.source:
                return None
            return Upload(_location(url, response))

    async def send(self, upload: Upload, length: int, read: Read, report: Report) -> Upload:
        """Send the next ``length`` bytes as a piece of its own; return where the next one goes.

        Raises:
            Refusal, TransportError: it may have arrived in part: see ``ask``.
        """
        end = upload.offset + length
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(length),
            "Content-Range": f"{upload.offset}-{end - 1}",
        }
        async with self._sending("PATCH", upload.url, headers, upload.offset, length, read, report) as response:
            return Upload(_location(upload.url, response), _received(response, end))

    async def finish(self, upload: Upload, blob: Descriptor, read: Read, report: Report) -> None:
        """Send what is left, in one piece, and have the registry verify the whole.

        Raises:
            Refusal, TransportError: as ``send``.
            DataLossError: the registry says that it has something else.
        """
        length = blob.size - upload.offset
        query = urlencode({"digest": blob.digest})
        url = f"{upload.url}{'&' if urlsplit(upload.url).query else '?'}{query}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
        async with self._sending("PUT", url, headers, upload.offset, length, read, report) as response:
            _check_digest(response, blob.digest, "blob")

    async def ask(self, upload: Upload) -> Upload | None:
        """Return how far an upload is that broke off, None if the registry has forgotten it.

        Raises:
            Refusal, TransportError.
        """
        try:
            async with self._ask("GET", upload.url) as response:
                return Upload(_location(upload.url, response), _received(response, 0))
        except Refusal as refused:
            if refused.retriable or refused.status == 401:
                raise
            return None

    async def mount(self, digest: Digest) -> bool:
        """Have a blob of ``source`` in this repository, too; say whether the registry did that.

        Raises:
            Refusal, TransportError.
        """
        upload = await self.begin(digest)
        if upload is None:
            return True
        with suppress(Refusal, TransportError):  # it waits for bytes that do not come, and goes by itself some day
            async with self._ask("DELETE", upload.url):
                pass
        return False

    async def put_manifest(self, tag: str, manifest: Descriptor, content: bytes) -> None:
        """Give a manifest, whose blobs are there, its tag.

        Raises:
            Refusal, TransportError.
            DataLossError: the registry says that it has stored something else.
        """
        headers = {"Content-Type": manifest.media_type, "Content-Length": str(len(content))}
        url = self._url(f"manifests/{tag}")
        async with self._ask("PUT", url, headers, lambda: content) as response:
            _check_digest(response, manifest.digest, "manifest")

    def _url(self, rest: str) -> str:
        return f"{self._client.url}/v2/{self._repository}/{rest}"

    @asynccontextmanager
    async def _sending(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        offset: int,
        length: int,
        read: Read,
        report: Report,
    ) -> AsyncIterator["aiohttp.ClientResponse"]:
        """Send part of a blob. A registry that takes nothing any more is noticed, which sockets alone do not."""
        stall_s = self._transport.stall_timeout_s
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(stall_s) as limit:

                def sent(count: int) -> None:
                    limit.reschedule(loop.time() + stall_s)
                    report(count)

                body = (lambda: read(offset, length, sent)) if length else None
                async with self._ask(method, url, headers, body) as response:
                    yield response
        except TimeoutError as error:
            raise TransportError(f'{method.title()} "{url.partition("?")[0]}": the registry takes no more') from error

    @asynccontextmanager
    async def _ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], bytes | AsyncIterator[bytes]] | None = None,
    ) -> AsyncIterator["aiohttp.ClientResponse"]:
        """Request ``url``. A 401 is answered with a token, and once more with a fresh one: for the registry alone."""
        await self._client.connect()
        ours = urlsplit(url)[:2] == urlsplit(self._client.url)[:2]
        tls = self._client.endpoint.tls
        authorization = ""
        while True:
            sent = dict(headers or {})
            before = authorization
            if ours:
                what = f'{method.title()} "{url.partition("?")[0]}"'
                authorization = await self._authorizer.header(what, refused=authorization)
                if authorization:
                    sent["Authorization"] = authorization
            async with self._transport.request(method, url, tls, headers=sent, body=body) as response:
                if response.status < 300:
                    yield response
                    return
                refused = await self._read_refusal(method, url, response)
            again = ours and refused.status == 401 and refused.challenges
            # Nothing better is to be had if this was the second one, or is good enough for less than this.
            if not again or before or (authorization and refused.code == "DENIED"):
                raise refused
            self._authorizer.learn(self._client.url, refused.challenges)

    async def _read_refusal(self, method: str, url: str, response: "aiohttp.ClientResponse") -> Refusal:
        body = await read_limited(response, _MAX_ERROR_BYTES, self._transport.stall_timeout_s)
        headers = {key.lower(): value for key, value in response.headers.items()}
        headers["www-authenticate"] = ", ".join(response.headers.getall("WWW-Authenticate", []))
        return refusal(method.title(), url.partition("?")[0], response.status, headers, body)


def _location(url: str, response: "aiohttp.ClientResponse") -> str:
    """Return where an upload goes on."""
    location = response.headers.get("Location", "")
    if not location:
        if response.status == 204:
            return url
        raise RemoteError(f'"{url.partition("?")[0]}": the registry does not say where to upload to')
    target = urljoin(url, location)
    parts = split_url(target, "the registry takes uploads at")
    if url.startswith("https:") and parts.scheme == "http":
        raise RemoteError(f"the registry takes uploads without TLS, at {parts.hostname}")
    return target


def _received(response: "aiohttp.ClientResponse", otherwise: int) -> int:
    """Return how many bytes the registry has. ``0-0`` is what it says of none, and of one."""
    match = _RANGE.fullmatch(response.headers.get("Range", ""))
    if match is None:
        return otherwise
    return int(match[1]) + 1 if int(match[1]) else 0


def _check_digest(response: "aiohttp.ClientResponse", digest: Digest, what: str) -> None:
    reported = response.headers.get("Docker-Content-Digest", digest)
    if reported != digest:
        raise DataLossError(f"the registry reports the digest {reported[:200]} for {what} {digest}")
