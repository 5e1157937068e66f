"""One push's blobs: those that the registry does not have are mounted from a neighbour, or sent."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, TypeVar

from imaged.content.blobs import ContentStore
from imaged.push.metrics import PushMetrics
from imaged.registry.errors import Refusal, TransportError
from imaged.registry.retry import RetryPolicy
from imaged.registry.upload import Upload, UploadClient
from sampan.errors import DataLossError, SampanError
from sampan.log import log
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.resource.transfer import PushPhase, PushStep

T = TypeVar("T")

# What goes up in one request: larger blobs go in pieces, so that a broken connection does not cost all of it.
PIECE_BYTES: Final = 64 << 20

# A registry that has forgotten an upload, or is at another offset of it.
_LOST: Final = frozenset({404, 416})

# What it calls bytes that are not those of the digest.
_OTHER_DIGEST: Final = "DIGEST_INVALID"


class BlobPusher:
    """Pushes blobs to one repository."""

    def __init__(
        self,
        content: ContentStore,
        client: UploadClient,
        retry: RetryPolicy,
        metrics: PushMetrics,
        report: Callable[[PushStep], None],
    ) -> None:
        self._content = content
        self._client = client
        self._retry = retry
        self._metrics = metrics
        self._report = report
        self._damage: dict[Digest, SampanError] = {}  # found while a request was being sent

    async def push(self, blob: Descriptor, neighbours: Sequence[UploadClient]) -> None:
        """See to it that the repository has a blob; ``neighbours`` are clients for a mount, best first.

        Raises:
            Refusal, TransportError: the registry does not take it, or does not answer as often as is reasonable.
            DataLossError: the blob is damaged here, or the registry says that it got something else.
        """
        if await self.retried(lambda: self._client.has(blob.digest)):
            self._metrics.add_bytes("existed", blob.size)
            self._report(PushStep(blob.digest, PushPhase.EXISTED, blob.size, blob.size))
            return
        upload: Upload | None = None
        for neighbour in neighbours:
            try:
                upload = await neighbour.begin(blob.digest)
            except (Refusal, SampanError) as error:
                # Not allowed to read there, or gone from there: it is sent like any other.
                log.info("blob not mounted", digest=blob.digest, source=neighbour.source, error=str(error))
                continue
            if upload is None:
                self._metrics.add_bytes("mounted", blob.size)
                self._report(PushStep(blob.digest, PushPhase.MOUNTED, blob.size, blob.size, neighbour.source))
                return
            break
        with self._metrics.timed("upload"):
            await self._send(blob, upload)
        self._metrics.add_bytes("uploaded", blob.size)
        self._report(PushStep(blob.digest, PushPhase.PUSHED, blob.size, blob.size))

    async def retried(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask something small, again while that may help."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return await ask()
            except (TransportError, Refusal) as error:
                await self._pause(error, attempt)

    async def _send(self, blob: Descriptor, upload: Upload | None) -> None:
        """Send a blob, going on where a broken connection left off."""
        attempt = 0
        while True:
            attempt += 1
            try:
                if upload is not None and attempt > 1:
                    upload = await self._client.ask(upload)
                    if upload is not None and upload.offset > blob.size:
                        upload = None  # whatever it has, it is not this
                upload = upload or await self._client.begin(blob.digest)
                assert upload is not None  # only a neighbour's client mounts
                while blob.size - upload.offset > PIECE_BYTES:
                    upload = await self._piece(blob, upload)
                    attempt = 1  # it goes on
                await self._client.finish(upload, blob, self._reader(blob), self._counter(blob, upload))
            except (TransportError, Refusal) as error:
                if blob.digest in self._damage:
                    raise self._damage[blob.digest] from error
                if isinstance(error, Refusal) and (error.status in _LOST or error.code == _OTHER_DIGEST):
                    if error.code == _OTHER_DIGEST:
                        await self._verify(blob)
                    if attempt < self._retry.attempts:
                        upload = None
                        continue
                await self._pause(error, attempt, blob)
            else:
                return

    async def _verify(self, blob: Descriptor) -> None:
        """Raise DataLossError if it is our bytes that are wrong, and not what has become of them on the way."""
        found = hashlib.sha256()
        async for piece in self._content.read(blob.digest):
            await asyncio.to_thread(found.update, piece)
        if found.hexdigest() != blob.digest.hex:
            raise DataLossError(f"content {blob.digest} is damaged: pull its image again")

    async def _piece(self, blob: Descriptor, upload: Upload) -> Upload:
        after = await self._client.send(upload, PIECE_BYTES, self._reader(blob), self._counter(blob, upload))
        if not upload.offset < after.offset <= blob.size:
            raise TransportError(f"blob {blob.digest}: the registry is at {after.offset} after {upload.offset} bytes")
        return after

    async def _pause(self, error: TransportError | Refusal, attempt: int, blob: Descriptor | None = None) -> None:
        """Wait before the next attempt, or raise ``error`` if there is none."""
        delay_s = self._retry.delay_s(error, attempt)
        if delay_s is None:
            raise error
        self._metrics.retry()
        log.info("push tried again", error=str(error), delay_s=round(delay_s, 1))
        if blob is not None:
            self._report(PushStep(blob.digest, PushPhase.RETRYING, round(delay_s), blob.size))
        await asyncio.sleep(delay_s)

    def _counter(self, blob: Descriptor, upload: Upload) -> Callable[[int], None]:
        """Return what takes note of bytes sent."""
        offset = upload.offset

        def sent(count: int) -> None:
            nonlocal offset
            offset += count
            self._report(PushStep(blob.digest, PushPhase.PUSHING, offset, blob.size))

        return sent

    def _reader(self, blob: Descriptor) -> Callable[[int, int, Callable[[int], None]], AsyncIterator[bytes]]:
        """Return what reads a part of the blob. Whether the bytes are right is for the registry to find out."""

        async def read(offset: int, length: int, sent: Callable[[int], None]) -> AsyncIterator[bytes]:
            try:
                async for piece in self._content.read(blob.digest, offset, length):
                    yield piece
                    sent(len(piece))
            except SampanError as error:  # the client of the request would make a broken connection of it
                self._damage[blob.digest] = error
                raise

        return read
