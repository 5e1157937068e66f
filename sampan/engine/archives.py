"""Archives: images and root file systems that come in, also from the web, images and containers that go out."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from sampan.engine import publish
from sampan.engine.parts import HasContainers, HasDiffer, HasEvents
from sampan.engine.progress import Done, Loaded, Progress, Received
from sampan.engine.transfer import (
    Completing,
    Report,
    Transferring,
    Unpacking,
    complete_named,
    wanted_platform,
    watched,
)
from sampan.errors import (
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    RemoteError,
    SampanError,
    UnauthenticatedError,
)
from sampan.oci.reference import parse_reference
from sampan.resource.image import LoadedImage
from sampan.resource.storage.images import Images

if TYPE_CHECKING:
    import aiohttp

_TOLD_BYTES: Final = 4 << 20

_PIECE_BYTES: Final = 1 << 20
_CONNECT_S: Final = 30.0
_STALL_S: Final = 60.0  # without a byte
_MOST_OF_AN_ERROR: Final = 1 << 10


class Exporting(HasContainers, HasDiffer, HasEvents, Protocol):
    """What file systems are read from, and those who are told."""


class Feed:
    """Chunks on their way; what goes wrong while they are read is what the call ends with.

    gRPC cancels a call whose requests fail, and the failure itself would be lost.
    """

    def __init__(self, chunks: AsyncIterator[bytes], report: Report | None = None) -> None:
        """``report`` is told how much has come, now and then."""
        self._chunks = chunks
        self._report = report
        self._failure: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the chunks, and remember why there are no more."""
        try:
            received = told = 0
            async for chunk in self._chunks:
                yield chunk
                received += len(chunk)
                if self._report is not None and received - told >= _TOLD_BYTES:
                    told = received
                    await self._report(Received(received))
        except Exception as error:
            self._failure = error
            raise

    @contextmanager
    def told(self) -> Iterator[None]:
        """Raise in the block, where the call is made, what went wrong with the chunks."""
        try:
            yield
        except (asyncio.CancelledError, Exception) as error:
            task = asyncio.current_task()
            if self._failure is None or (task is not None and task.cancelling()):
                raise
            raise self._failure from error


async def import_image(
    services: Transferring,
    chunks: AsyncIterator[bytes],
    reference: str,
    message: str,
    changes: tuple[str, ...],
    platform: str,
) -> AsyncGenerator[Progress, None]:
    """See ``Engine.import_image``."""
    wanted = wanted_platform(platform)
    if wanted.os != "linux":
        raise InvalidArgumentError("operating system is not supported")

    async def work(report: Report) -> None:
        feed = Feed(chunks, report)
        with feed.told():
            imported = await services.images.import_root(
                aiter(feed), reference=reference, message=message, changes=changes, platform=wanted
            )
        async with services.images.kept(imported.lease):
            unpacking = Unpacking(services.layers, report)
            async with asyncio.TaskGroup() as tasks:
                for layer in {layer.diff_id: layer for layer in imported.layers}.values():
                    tasks.create_task(unpacking.apply(layer), name=f"apply {layer.diff_id}")
            await unpacking.stack(imported.layers)
            made = await services.images.create(reference, imported.target, imported.lease, wanted)
            image = made.image
            names = [("tag", image.id, parse_reference(reference).with_default_tag().familiar)] if reference else []
            done = [*names, ("import", image.id, image.id)]
            await publish.images(services.events, done, {image.id: image.config.labels})
            await report(Done(made.image, imported.target.digest, made.existed))

    async with aclosing(watched(work)) as events:
        async for event in events:
            yield event


async def load(
    services: Transferring, chunks: AsyncIterator[bytes], platforms: Sequence[str]
) -> AsyncGenerator[Progress, None]:
    """See ``Engine.load_images``."""
    feed = Feed(chunks)
    wanted = tuple(dict.fromkeys(map(wanted_platform, platforms)))

    async def work(report: Report) -> None:
        with feed.told():
            images = await services.images.load(aiter(feed), wanted)
        async with services.images.kept(*(image.lease for image in images)):
            await _unpack(Unpacking(services.layers, report), images)
            for image in images:
                await _name(services.images, image)
                names = tuple(reference.familiar for reference in image.references)
                known = await publish.known_labels(services.images, image.image_id)
                await publish.images(services.events, [("load", image.image_id, image.image_id)], known)
                await report(Loaded(image.image_id, names))

    async with aclosing(watched(work)) as events:
        async for event in events:
            yield event


async def _unpack(unpacking: Unpacking, images: Sequence[LoadedImage]) -> None:
    """Unpack all layers, each once, before anything gets a name."""
    layers = {layer.diff_id: layer for image in images for layer in image.layers}
    async with asyncio.TaskGroup() as tasks:
        for layer in layers.values():
            tasks.create_task(unpacking.apply(layer), name=f"apply {layer.diff_id}")
    for image in images:
        await unpacking.stack(image.layers)


async def _name(images: Images, image: LoadedImage) -> None:
    first, *others = map(str, image.references) if image.references else ("",)
    await images.create(first, image.target, image.lease, image.platform)
    for reference in others:
        await images.tag(image.image_id, reference)


class Saving(Completing, HasEvents, Protocol):
    """Where images are saved from, and those who are told."""


async def save(services: Saving, names: Iterable[str], platforms: Sequence[str]) -> AsyncGenerator[bytes, None]:
    """See ``Engine.save_images``."""
    wanted, images = tuple(dict.fromkeys(map(wanted_platform, platforms))), tuple(names)
    saved = await complete_named(services, images)
    async with aclosing(services.images.save(images, wanted)) as pieces:
        async for piece in pieces:
            yield piece
    labels: dict[str, Mapping[str, str]] = {image.id: image.config.labels for image in saved}
    await publish.images(services.events, [("save", image.id, image.id) for image in saved], labels)


async def export(services: Exporting, container: str) -> AsyncGenerator[bytes, None]:
    """See ``Engine.export_container``."""
    found = await services.containers.get(container)
    async with aclosing(services.differ.export(found.id)) as pieces:
        async for piece in pieces:
            yield piece
    await publish.container(services.events, "export", found)


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
            yield RemoteArchive(url, response.content_length or 0, _downloaded(url, response.content))


async def _beginning(content: "aiohttp.StreamReader") -> str:
    import aiohttp

    try:
        return (await content.read(_MOST_OF_AN_ERROR)).decode(errors="replace").strip()
    except (aiohttp.ClientError, TimeoutError):
        return ""


async def _downloaded(url: str, content: "aiohttp.StreamReader") -> AsyncIterator[bytes]:
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
