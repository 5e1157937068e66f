"""Archives that an image is to be made of, and that are somewhere on the web."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from sampan.errors import (
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    RemoteError,
    SampanError,
    UnauthenticatedError,
)

if TYPE_CHECKING:
    import aiohttp

_PIECE_BYTES: Final = 1 << 20
_CONNECT_S: Final = 30.0
_STALL_S: Final = 60.0  # without a byte
_MOST_OF_AN_ERROR: Final = 1 << 10


@dataclass(frozen=True, slots=True)
class RemoteArchive:
    """An archive that is being downloaded."""

    url: str
    size: int  # bytes; 0: the server does not say
    pieces: AsyncIterator[bytes]  # RemoteError: it broke off


def archive_url(text: str) -> str:
    """Return the URL that ``text`` means; without a scheme it is an http one, as for Docker.

    Raises:
        InvalidArgumentError: it has no host, or another scheme.
    """
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise InvalidArgumentError(f"{text[:200]!r} is no URL to import from: expected http:// or https:// and a host")
    return url


@asynccontextmanager
async def remote_archive(url: str) -> AsyncIterator[RemoteArchive]:
    """Ask for what is at ``url``, see ``archive_url``, and read it within; redirects are followed.

    Raises:
        NotFoundError, PermissionDeniedError, UnauthenticatedError, InvalidArgumentError: the server
            refuses; in Docker's words.
        RemoteError: it cannot be reached, or fails.
    """
    import aiohttp  # no other command needs it

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_STALL_S)
    # The file's bytes are wanted as they are: an archive may be compressed itself.
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False, trust_env=True) as session:
        try:
            response = await session.get(url, headers={"Accept-Encoding": "identity"})
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise RemoteError(f'Get "{url}": {str(error) or "no answer"}') from error
        async with response:
            if response.status >= 400:
                raise _refusal(url, response.status, response.reason or "", await _beginning(response.content))
            yield RemoteArchive(url, response.content_length or 0, _pieces(url, response.content))


async def _beginning(content: "aiohttp.StreamReader") -> str:
    import aiohttp

    try:
        return (await content.read(_MOST_OF_AN_ERROR)).decode(errors="replace").strip()
    except (aiohttp.ClientError, TimeoutError):
        return ""


async def _pieces(url: str, content: "aiohttp.StreamReader") -> AsyncIterator[bytes]:
    import aiohttp

    try:
        async for piece in content.iter_chunked(_PIECE_BYTES):
            yield piece
    except (aiohttp.ClientError, TimeoutError) as error:
        raise RemoteError(f'Get "{url}": {str(error) or "nothing came for a minute"}') from error


def _refusal(url: str, status: int, reason: str, body: str) -> SampanError:
    text = f"failed to GET {url} with status {status} {reason}: {body}"
    match status:
        case 404:
            return NotFoundError(text)
        case 401:
            return UnauthenticatedError(text)
        case 403:
            return PermissionDeniedError(text)
    return InvalidArgumentError(text) if status < 500 else RemoteError(text)
