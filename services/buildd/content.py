"""What builds ask of the stores of content and images, and how blobs get there."""

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from typing import Protocol

from sampan.errors import AlreadyExistsError, ConflictError, DataLossError
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.resource.content import Action, Blob, WriteReply, WriteStep
from sampan.resource.image import Credentials, Layer, NamedImage
from sampan.resource.transfer import PushProgress


class Conversation(Protocol):
    """A write that goes on."""

    async def ask(self, step: WriteStep) -> WriteReply:
        """Send a message and return the answer. AlreadyExistsError: the content is here."""

    async def hang_up(self) -> None:
        """End it. Raises how it ended."""


class Content(Protocol):
    """A store of blobs."""

    def write(self, *, lease: str = "", resumable: bool = True) -> AbstractAsyncContextManager[Conversation]:
        """Talk about a write within, of which nothing stays uncommitted unless it is ``resumable``.

        ``lease`` keeps what is committed.
        """

    def read(self, digest: str, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield a blob's bytes. NotFoundError before the first piece."""

    async def info(self, digest: str) -> Blob:
        """Return one blob. NotFoundError."""


class Images(Protocol):
    """Names of images, and their way to registries."""

    def kept(self, *leases: str) -> AbstractAsyncContextManager[str]:
        """Keep a new lease within; yields its ID."""

    async def create(
        self,
        reference: str,
        target: Descriptor,
        lease: str,
        platform: Platform | None = None,
        parent: str = "",
        deferred: Collection[Digest] = (),
    ) -> NamedImage:
        """Name what is here, or make a dangling image of it without a reference, and end its lease.

        Of the layers ``deferred``, diff IDs, there need be no blob.
        """

    async def forms(self, diff_ids: Sequence[Digest]) -> Sequence[Layer]:
        """Return the blobs of those of the layers that an image has one of."""

    async def tag(self, image: str, reference: str) -> None:
        """Add a name."""

    def push(
        self,
        reference: str,
        credentials: Credentials | None = None,
        platform: Platform | None = None,
        target: Descriptor | None = None,
    ) -> AsyncGenerator[PushProgress, None]:
        """Upload an image to its registry; see ``sampan.resource.storage.images.Images``. Raises as ``fetch`` there."""


class Readable(Protocol):
    """Blobs that can be read, such as a client's."""

    def read(self, digest: str, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield a blob's bytes from ``offset``, unverified; ``size`` 0: to the end. NotFoundError."""


async def put(
    content: Content, data: bytes, media_type: str, lease: str, labels: Mapping[str, str] | None = None
) -> Descriptor:
    """Store a document, which ``lease`` keeps."""
    digest = Digest.of(data)
    async with content.write(lease=lease, resumable=False) as conversation:
        # Builds at the same time may store the same document: the lease makes the write their own.
        step = WriteStep(Action.COMMIT, f"build-{lease}-{digest}", len(data), digest, 0, data, labels or {})
        with suppress(AlreadyExistsError):
            await conversation.ask(step)
            await conversation.hang_up()
    return Descriptor(media_type, digest, len(data))


async def copy_blob(
    content: Content,
    source: Readable,
    descriptor: Descriptor,
    writer: str,
    *,
    lease: str = "",
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Copy a blob from a client's store, and verify it; ``lease`` keeps it. If that fails, nothing of it stays.

    ``writer`` tells this write from others of the same blob, which may be under way; ``progress`` takes the bytes that
    are here.

    Raises:
        NotFoundError: the client does not have it.
        DataLossError: it is not what ``descriptor`` says.
    """
    ref = f"build-{writer}-{descriptor.digest}"
    async with content.write(lease=lease, resumable=False) as conversation:
        with suppress(AlreadyExistsError):
            first = WriteStep(Action.STAT, ref, descriptor.size, descriptor.digest)
            offset = (await conversation.ask(first)).offset
            async with aclosing(source.read(descriptor.digest, offset)) as pieces:
                async for piece in pieces:
                    step = WriteStep(Action.WRITE, ref, descriptor.size, descriptor.digest, offset, piece)
                    offset = (await conversation.ask(step)).offset
                    progress(offset)
            try:
                await conversation.ask(WriteStep(Action.COMMIT, ref, descriptor.size, descriptor.digest, offset))
                await conversation.hang_up()
            except ConflictError as error:
                raise DataLossError(f"{descriptor.digest} is not what was received: {error}") from error
