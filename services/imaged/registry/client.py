"""One repository at one endpoint: connect, authenticate, ask.

Reference: OCI distribution spec 1.1, "Pull".
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from imaged.content.ranges import Range
from imaged.registry.auth import Authorizer, Tokens
from imaged.registry.challenge import Challenge
from imaged.registry.endpoints import Endpoint
from imaged.registry.errors import Refusal, TransportError, refusal
from imaged.registry.pace import paced, read_limited
from imaged.registry.transport import Transport
from sampan.errors import RemoteError
from sampan.log import log
from sampan.oci.descriptor import INDEXES, MANIFESTS, OCI_INDEX
from sampan.oci.digest import Digest
from sampan.oci.json_documents import load_json
from sampan.oci.manifest import MAX_INDEX_ENTRIES, IndexEntry, Manifest, parse_document

if TYPE_CHECKING:
    import aiohttp

# The distribution spec asks registries to take manifests of at least this size; nobody takes larger ones.
MAX_MANIFEST_BYTES: Final = 4 << 20

_MAX_ERROR_BYTES: Final = 64 << 10
_ACCEPT: Final = ", ".join(sorted(MANIFESTS | INDEXES))

# What servers send that do not know the type of what they serve.
_VAGUE_TYPES: Final = frozenset({"", "application/json", "text/plain", "application/octet-stream"})

# Pages end at this; the largest repositories there are have some ten thousand.
_MAX_TAGS: Final = 100_000

_NEXT: Final = re.compile(r'<([^<>]{1,2000})>\s*;\s*rel="?next"?')

Place = tuple[Endpoint, str]


class RegistryClient:
    """Connects when first used; ``url`` is the endpoint's that answers."""

    def __init__(self, transport: Transport, tokens: Tokens, endpoint: Endpoint, repository: str) -> None:
        self.endpoint = endpoint
        self.url = endpoint.urls[0]
        self._repository = repository
        self._transport = transport
        self._connected = False
        scope = f"repository:{repository}:pull" if repository else ""
        self._authorizer = Authorizer(tokens, endpoint.tls, endpoint.credentials, scope)

    @property
    def place(self) -> Place:
        """What its answers depend on: two clients of one place get the same."""
        return self.endpoint, self._repository

    @property
    def host(self) -> str:
        """Host and port of the endpoint."""
        return urlsplit(self.url).netloc

    async def connect(self) -> None:
        """Find out which of the endpoint's URLs answers, and how it wants to be asked; once.

        Raises:
            TransportError: none does; the last one's failure.
        """
        if self._connected:
            return
        for url in self.endpoint.urls:
            try:
                self._authorizer.learn(url, await self._ping(url))
            except TransportError as error:
                if url == self.endpoint.urls[-1]:
                    raise
                log.debug("registry does not answer", url=url, error=str(error))
            else:
                self.url = url
                self._connected = True
                return

    async def _ping(self, url: str) -> tuple[Challenge, ...]:
        async with self._transport.request("GET", f"{url}/v2/", self.endpoint.tls) as response:
            await self._read(response, _MAX_ERROR_BYTES)
            # Whatever the status: some registries have nothing at this path, and only what they ask for matters.
            return Challenge.parse_all(", ".join(response.headers.getall("WWW-Authenticate", [])))

    async def login(self) -> str:
        """Check the credentials; return an identity token if the registry hands one out.

        Raises:
            Refusal: not good enough, or another error status.
            UnauthenticatedError: the token server says no.
        """
        async with self._ask("/v2/", {}) as response:
            await self._read(response, _MAX_ERROR_BYTES)
        return await self._authorizer.identity_token()

    @asynccontextmanager
    async def blob(self, digest: Digest, wanted: Range | None = None) -> AsyncIterator["aiohttp.ClientResponse"]:
        """Yield the answer to a request for a blob, or a range of it: 200 for all of it, or 206 for a part.

        Raises:
            Refusal: an error status.
            TransportError: as in ``Transport.request``.
        """
        headers = {"Range": f"bytes={wanted.start}-{wanted.end - 1}"} if wanted else {}
        async with self._ask(f"/v2/{self._repository}/blobs/{digest}", headers) as response:
            yield response

    def body(self, response: "aiohttp.ClientResponse") -> AsyncGenerator[bytes, None]:
        """Yield an answer's bytes; see ``paced``."""
        return paced(response, self._transport.stall_timeout_s)

    async def _read(self, response: "aiohttp.ClientResponse", most: int) -> bytes:
        return await read_limited(response, most, self._transport.stall_timeout_s)

    async def manifest(self, tag_or_digest: str) -> tuple[bytes, str]:
        """Return a manifest's or an index's bytes, not yet verified, and its media type.

        Raises:
            Refusal: an error status.
            RemoteError: more than 4 MiB, or no media type.
        """
        path = f"/v2/{self._repository}/manifests/{tag_or_digest}"
        async with self._ask(path, {"Accept": _ACCEPT}) as response:
            url = self.url + path
            announced = response.content_length or 0
            data = b"" if announced > MAX_MANIFEST_BYTES else await self._read(response, MAX_MANIFEST_BYTES)
            if announced > MAX_MANIFEST_BYTES or len(data) > MAX_MANIFEST_BYTES:
                size = f"{announced} bytes" if announced else f"more than {MAX_MANIFEST_BYTES} bytes"
                raise RemoteError(f'Get "{url}": manifest is {size}, the most is {MAX_MANIFEST_BYTES}')
            if announced and len(data) < announced:
                raise TransportError(f'Get "{url}": manifest ends after {len(data)} of {announced} bytes')
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            return data, _stated_type(data) if media_type in _VAGUE_TYPES else media_type

    async def referrers(self, subject: Digest) -> tuple[IndexEntry, ...]:
        """Return what is listed as being about a manifest, page by page.

        A registry without the list has an index of them under a tag of the subject's name, if there are any.

        Raises:
            Refusal: an error status.
            RemoteError: not a list, or more than anybody has.
        """
        entries: list[IndexEntry] = []
        path = f"/v2/{self._repository}/referrers/{subject}"
        query = ""
        while True:
            what = f'Get "{self.url}{path}"'
            try:
                async with self._ask(f"{path}?{query}" if query else path, {"Accept": OCI_INDEX}) as response:
                    data = await self._read(response, MAX_MANIFEST_BYTES)
                    link = _NEXT.search(response.headers.get("Link", ""))
            except Refusal as refused:
                if refused.status != 404 or query:
                    raise
                return await self._tagged_referrers(subject)
            page = parse_document(data, OCI_INDEX, what)
            assert not isinstance(page, Manifest)  # whatever is no index has been refused
            entries += page
            if len(entries) > MAX_INDEX_ENTRIES:
                raise RemoteError(f"{what}: there are more than {MAX_INDEX_ENTRIES} referrers")
            following = urlsplit(link[1]).query if link else ""
            if not following or not page:
                return tuple(entries)
            query = following

    async def _tagged_referrers(self, subject: Digest) -> tuple[IndexEntry, ...]:
        tag = subject.replace(":", "-", 1)
        try:
            data, media_type = await self.manifest(tag)
        except Refusal as refused:
            if refused.status == 404:
                return ()
            raise
        page = parse_document(data, media_type, f"{self._repository}:{tag}")
        # A tag of that name may be anything; an image there says nothing of the subject.
        return () if isinstance(page, Manifest) else page

    async def tags(self) -> list[str]:
        """Return the repository's tags, page by page.

        Raises:
            Refusal: an error status.
            RemoteError: not a list of tags, or more than anybody has.
        """
        tags: list[str] = []
        path = f"/v2/{self._repository}/tags/list"
        query = ""
        while True:
            what = f'Get "{self.url}{path}"'
            async with self._ask(f"{path}?{query}" if query else path, {"Accept": "application/json"}) as response:
                data = await self._read(response, MAX_MANIFEST_BYTES)
                link = _NEXT.search(response.headers.get("Link", ""))
            document = load_json(data, what)
            # A repository whose tags were all removed has null.
            listed = (document.get("tags") or []) if isinstance(document, dict) else None
            if not isinstance(listed, list) or not all(isinstance(tag, str) for tag in listed):
                raise RemoteError(f"{what}: the answer is not a list of tags")
            tags += listed
            if len(tags) > _MAX_TAGS:
                raise RemoteError(f"{what}: there are more than {_MAX_TAGS} tags")
            # Where the next page is, is the registry's to say; of which repository, and at which host, is not.
            following = urlsplit(link[1]).query if link else ""
            if not following or not listed:
                return tags
            query = following

    @asynccontextmanager
    async def _ask(self, path: str, headers: Mapping[str, str]) -> AsyncIterator["aiohttp.ClientResponse"]:
        """Request ``path``; a 401 is answered once with a fresh token."""
        await self.connect()
        url = self.url + path
        authorization = ""
        for last in (False, True):
            authorization = await self._authorizer.header(f'Get "{url}"', refused=authorization)
            sent = {**headers, "Authorization": authorization} if authorization else dict(headers)
            async with self._transport.request("GET", url, self.endpoint.tls, headers=sent) as response:
                if response.status < 300:
                    yield response
                    return
                refused = await self._read_refusal(url, response)
            if refused.status != 401 or last or not refused.challenges:
                raise refused
            self._authorizer.learn(self.url, refused.challenges)

    async def _read_refusal(self, url: str, response: "aiohttp.ClientResponse") -> Refusal:
        body = await self._read(response, _MAX_ERROR_BYTES)
        headers = {key.lower(): value for key, value in response.headers.items()}
        headers["www-authenticate"] = ", ".join(response.headers.getall("WWW-Authenticate", []))
        return refusal("Get", url, response.status, headers, body)


def _stated_type(data: bytes) -> str:
    """Return the ``mediaType`` inside a manifest whose server did not say."""
    try:
        document = load_json(data, "manifest")
    except RemoteError:
        return ""
    stated = document.get("mediaType") if isinstance(document, dict) else None
    return stated if isinstance(stated, str) else ""
