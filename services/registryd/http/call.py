"""A request, and what its handler needs: names in the path, the body in pieces, numbers from the query, answers.

Reference: OCI distribution spec 1.1, "Pulling manifests" for what repositories, tags and digests look like.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import urlencode

from aiohttp import web
from aiohttp.http import HttpVersion11

from registryd.metrics import RegistryMetrics
from registryd.repositories.blobs import Blobs
from registryd.repositories.manifests import Manifests
from registryd.repositories.refusal import Code, RefusedError
from registryd.repositories.uploads import Uploads
from sampan.errors import InvalidArgumentError
from sampan.oci.digest import Digest
from sampan.version import VERSION

_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")

# Many clients limit "<registry>/<repository>" to 255 characters.
_MAX_REPOSITORY: Final = 255


def parse_repository(text: str) -> str:
    """Return a repository's name. Raises RefusedError, NAME_INVALID."""
    if len(text) > _MAX_REPOSITORY or not _REPOSITORY.fullmatch(text):
        raise RefusedError(Code.NAME_INVALID, f"invalid repository name {_shown(text)}")
    return text


def parse_digest(text: str) -> Digest:
    """Return a digest. Raises RefusedError, DIGEST_INVALID."""
    try:
        return Digest.parse(text)
    except InvalidArgumentError as error:
        raise RefusedError(Code.DIGEST_INVALID, str(error)) from error


def parse_target(text: str) -> Digest | str:
    """Return the digest, or the tag, that a manifest is asked for by. Raises RefusedError."""
    if ":" in text:
        return parse_digest(text)
    if not _TAG.fullmatch(text):
        raise RefusedError(Code.TAG_INVALID, f"invalid tag {_shown(text)}")
    return text


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}…")


T = TypeVar("T")

# Pieces that travel to the content store and from it.
PIECE_BYTES: Final = 1 << 20

# In every answer.
HEADERS: Final = {
    "Docker-Distribution-Api-Version": "registry/2.0",
    "X-Content-Type-Options": "nosniff",
    "Server": f"Sampan/{VERSION}",
}

STATUS: Final = {
    Code.BLOB_UNKNOWN: 404,
    Code.BLOB_UPLOAD_INVALID: 400,
    Code.BLOB_UPLOAD_UNKNOWN: 404,
    Code.DIGEST_INVALID: 400,
    Code.MANIFEST_BLOB_UNKNOWN: 400,
    Code.MANIFEST_INVALID: 400,
    Code.MANIFEST_UNKNOWN: 404,
    Code.NAME_INVALID: 400,
    Code.NAME_UNKNOWN: 404,
    Code.NOT_FOUND: 404,
    Code.PAGINATION_NUMBER_INVALID: 400,
    Code.RANGE_INVALID: 416,
    Code.SIZE_INVALID: 413,
    Code.TAG_INVALID: 400,
    Code.UNAUTHORIZED: 401,
    Code.UNSUPPORTED: 405,
}


@dataclass(frozen=True, slots=True)
class Parts:
    """What handlers work on."""

    blobs: Blobs
    manifests: Manifests
    uploads: Uploads
    metrics: RegistryMetrics
    stall_timeout_s: float  # for which a client may neither send nor take anything


@dataclass(frozen=True, slots=True)
class Call:
    """One request on one repository, empty where the route has none."""

    request: web.BaseRequest
    parts: Parts
    repository: str
    args: Mapping[str, str]

    @property
    def is_head(self) -> bool:
        """Whether only the headers are wanted."""
        return self.request.method == "HEAD"

    @property
    def length(self) -> int | None:
        """How long the body is, if the client says so."""
        return self.request.content_length

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces of ``PIECE_BYTES``; no more is read than whoever asks can take.

        Raises:
            ConnectionResetError: the client is gone before the end, or sends no more.
        """
        await self._go_on()
        gathered = bytearray()
        while data := await self._in_time(self.request.content.readany()):
            gathered += data
            if len(gathered) >= PIECE_BYTES:
                self.parts.metrics.received.inc(len(gathered))
                yield bytes(gathered)
                gathered.clear()
        if gathered:
            self.parts.metrics.received.inc(len(gathered))
            yield bytes(gathered)

    async def send(self, response: web.StreamResponse, piece: bytes) -> None:
        """Send a piece of the answer; return when the next one may follow.

        Raises:
            ConnectionResetError: the client is gone, or takes no more.
        """
        await self._in_time(response.write(piece))
        self.parts.metrics.sent.inc(len(piece))

    async def _in_time(self, step: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self.parts.stall_timeout_s):
                return await step
        except TimeoutError:
            raise ConnectionResetError("the client neither sends nor takes anything") from None

    async def _go_on(self) -> None:
        """Tell a client that waits for it to send the body; one that is refused before never sends it."""
        request = self.request
        if request.version == HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # what counts as sent is the answer

    async def body(self, most: int) -> bytes:
        """Return a small body.

        Raises:
            RefusedError: SIZE_INVALID, for more than ``most`` bytes.
        """
        data = bytearray()
        if (self.length or 0) <= most:
            async for piece in self.pieces():
                data += piece
                if len(data) > most:
                    break
            else:
                return bytes(data)
        raise RefusedError(Code.SIZE_INVALID, f"the document has more than the {most} bytes that are allowed")

    def page(self) -> tuple[str, int | None]:
        """Return ``last`` and ``n`` of the query.

        Raises:
            RefusedError: PAGINATION_NUMBER_INVALID.
        """
        text = self.request.query.get("n")
        if text is None:
            return self.request.query.get("last", ""), None
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise RefusedError(Code.PAGINATION_NUMBER_INVALID, f"n is {text[:40]!r}, expected a number")
        return self.request.query.get("last", ""), int(text)

    def next_page(self, **query: str) -> dict[str, str]:
        """Return the header that leads to the next page."""
        return {"Link": f'<{self.request.path}?{urlencode(query)}>; rel="next"'}

    def blob_path(self, digest: str) -> str:
        """Return where a blob of the repository is."""
        return f"/v2/{self.repository}/blobs/{digest}"

    def upload_path(self, upload: str) -> str:
        """Return where an upload goes on."""
        return f"/v2/{self.repository}/blobs/uploads/{upload}"


def json_answer(
    value: object, headers: Mapping[str, str] | None = None, status: int = 200, media_type: str = "application/json"
) -> web.Response:
    """Return a document."""
    return web.Response(
        body=json.dumps(value, separators=(",", ":")).encode(),
        status=status,
        headers={"Content-Type": media_type, **(headers or {})},
    )


def error_answer(code: str, message: str, status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an error as the spec writes it."""
    return json_answer({"errors": [{"code": code, "message": message, "detail": None}]}, headers, status)
