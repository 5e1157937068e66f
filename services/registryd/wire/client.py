"""The engine's content store and images over gRPC."""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Final

import grpc

from registryd.repositories.model import EngineImage, Held, Unkept, UploadState
from registryd.repositories.roots import ROOT_PREFIX
from registryd.repositories.uploads import REF_PREFIX
from sampan.client.storage.content import ContentClient as Content
from sampan.client.storage.images import ImagesClient as Images
from sampan.client.storage.snapshots import DifferClient
from sampan.engine.transfer import complete
from sampan.errors import AlreadyExistsError, NotFoundError, UnavailableError
from sampan.oci.digest import Digest
from sampan.oci.reference import parse_reference
from sampan.resource.content import Action, Blob, WriteStep
from sampan.resource.image import ImageDetails

# For calls that answer at once. imaged is back within a second or two if it is restarted.
DEADLINE_S: Final = 30.0

# How often content may vanish between two calls before we believe that something is wrong.
_TRIES: Final = 5


class ContentClient:
    """Satisfies ``Contents``."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._content = Content(channel, deadline_s=DEADLINE_S)

    async def size(self, digest: Digest) -> int:
        """See ``Contents``."""
        with _answering():
            return (await self._content.info(digest)).size

    async def keep(self, digest: Digest, root: str, owner: str) -> int:
        """See ``Contents``."""
        return (await self._label(digest, root, owner)).size

    async def _label(self, digest: Digest, root: str, owner: str) -> Blob:
        with _answering():
            return await self._content.update(digest, {root: owner}, [f"labels.{root}"])

    async def let_go(self, unkept: Collection[Unkept]) -> None:
        """See ``Contents``."""
        for each in unkept:
            try:
                await self._label(each.digest, each.root, "")
            except NotFoundError:
                continue

    async def read(self, digest: Digest, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes, None]:
        """See ``Contents``."""
        with _answering():
            async with aclosing(self._content.read(digest, offset, size)) as pieces:
                async for piece in pieces:
                    yield piece

    async def begin(self, ref: str) -> None:
        """See ``Contents``."""
        await self._converse(WriteStep(Action.STAT, ref))

    async def offset(self, ref: str) -> int:
        """See ``Contents``."""
        with _answering():
            return (await self._content.status(ref)).offset

    async def state(self, ref: str) -> UploadState:
        """See ``Contents``."""
        await self.offset(ref)  # to write to a ref that is not there would make it
        return await self._converse(WriteStep(Action.STAT, ref))

    async def append(self, ref: str, offset: int, pieces: AsyncIterator[bytes]) -> UploadState:
        """See ``Contents``."""
        with _answering():
            async with self._content.write() as conversation:
                reply = await conversation.ask(WriteStep(Action.STAT, ref))
                async for data in pieces:
                    reply = await conversation.ask(WriteStep(Action.WRITE, ref, offset=offset, data=data))
                    offset = reply.offset
                await conversation.hang_up()
            return UploadState(reply.offset, reply.digest)

    async def commit(self, ref: str, digest: Digest, root: str, owner: str) -> int:
        """See ``Contents``."""
        return await self._commit(WriteStep(Action.COMMIT, ref, expected=digest, labels={root: owner}))

    async def _commit(self, step: WriteStep, *, resumable: bool = True) -> int:
        assert step.expected is not None
        try:
            return (await self._converse(step, resumable=resumable)).offset
        except AlreadyExistsError:
            ((root, owner),) = step.labels.items()
            return await self.keep(step.expected, root, owner)

    async def put(self, digest: Digest, data: bytes, root: str, owner: str) -> None:
        """See ``Contents``."""
        for _ in range(_TRIES):
            ref = f"{REF_PREFIX}{secrets.token_hex(16)}"
            step = WriteStep(Action.COMMIT, ref, len(data), digest, data=data, labels={root: owner})
            try:
                await self._commit(step, resumable=False)
            except NotFoundError:
                continue  # it was here, and somebody has just removed it
            return
        raise UnavailableError(f"content {digest} comes and goes")

    async def _converse(self, step: WriteStep, *, resumable: bool = True) -> UploadState:
        with _answering():
            async with self._content.write(resumable=resumable, timeout_s=DEADLINE_S) as conversation:
                reply = await conversation.ask(step)
                await conversation.hang_up()
            return UploadState(reply.offset, reply.digest)

    async def abort(self, ref: str) -> None:
        """See ``Contents``."""
        with _answering():
            await self._content.abort(ref)

    async def held(self) -> AsyncIterator[Held]:
        """See ``Contents``."""
        with _answering():
            async with aclosing(self._content.list()) as pages:
                async for page in pages:
                    for blob in page:
                        roots = {label: owner for label, owner in blob.labels.items() if label.startswith(ROOT_PREFIX)}
                        yield Held(blob.digest, blob.size, roots)

    async def roots(self) -> AsyncIterator[Unkept]:
        """See ``Contents``."""
        async for held in self.held():
            for root in held.roots:
                yield Unkept(held.digest, root)

    async def writes(self) -> list[tuple[str, int]]:
        """See ``Contents``."""
        with _answering():
            found = await self._content.statuses()
        return [(status.ref, status.updated_ns) for status in found if status.ref.startswith(REF_PREFIX)]


@dataclass(frozen=True, slots=True)
class _Services:
    """Satisfies ``engine.transfer.Completing``."""

    images: Images
    differ: DifferClient


class ImagesClient:
    """Satisfies ``Catalog``."""

    def __init__(self, imaged: grpc.aio.Channel, snapshotter: grpc.aio.Channel) -> None:
        self._services = _Services(Images(imaged, deadline_s=DEADLINE_S), DifferClient(snapshotter))

    async def images(self) -> tuple[EngineImage, ...]:
        """See ``Catalog``."""
        with _answering():
            return tuple(map(_engine_image, await self._services.images.list(brief=True)))

    async def complete(self, image: str) -> None:
        """See ``Catalog``."""
        with _answering():
            await complete(self._services, await self._services.images.get(image))


def _engine_image(image: ImageDetails) -> EngineImage:
    layers = {layer.descriptor.digest: layer.descriptor.size for layer in image.layers}
    config_size = image.content_bytes - image.manifest.size - sum(layers.values())
    for layer in image.layers:
        if layer.diff_id in image.deferred:
            layers.pop(layer.descriptor.digest, None)
    return EngineImage(
        names=tuple(parse_reference(name) for name in (*image.repo_tags, *image.repo_digests)),
        target=image.target,
        manifest=image.manifest,
        contents=layers | {image.id: config_size},
        id=image.id,
        complete=not image.deferred,
    )


@contextmanager
def _answering() -> Iterator[None]:
    """Say who does not answer: gRPC's own words name a socket at best."""
    try:
        yield
    except UnavailableError as error:
        raise UnavailableError(f"the content store: {error}") from error
