"""An image of one layer from the tar of a root file system."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from imaged.archive.decompress import decompressor
from imaged.content.blobs import ContentStore
from imaged.content.disk_full import storing
from imaged.content.ingest import Ingest, Ingests, in_thread
from imaged.content.leases import Leases
from imaged.images.model import PIECE_BYTES
from sampan.dockerfile.changes import apply_changes
from sampan.errors import InvalidArgumentError
from sampan.oci.config_document import check_sizes, render_config
from sampan.oci.descriptor import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor
from sampan.oci.image_config import ConfigFile, History, RunConfig
from sampan.oci.manifest_document import render_manifest
from sampan.oci.platform import Platform, host_platform
from sampan.resource.image import Imported, Layer
from sampan.tar.compression import MAGIC_BYTES
from sampan.tar.reader import BLOCK, check_header

# An empty archive is two blocks, padded to the size of a record.
_MAX_EMPTY_BYTES: Final = 1 << 20

_DEFAULT_MESSAGE: Final = "Imported from -"


class Importer:
    """Makes images of tars."""

    def __init__(
        self, content: ContentStore, ingests: Ingests, leases: Leases, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._content = content
        self._ingests = ingests
        self._leases = leases
        self._now_ns = now_ns

    async def run(
        self, chunks: AsyncIterator[bytes], changes: Sequence[str], message: str, platform: Platform | None
    ) -> Imported:
        """Store a tar, plain or packed with gzip, zstd, bzip2 or xz, as an image that the returned lease holds.

        The layer is kept as a plain tar: it is unpacked at once and read from disk only then, so packing it again
        would cost more time than it saves space. A failed or cancelled import leaves nothing.

        Raises:
            InvalidArgumentError: a bad change, a damaged stream, or one that is no tar.
            ResourceExhaustedError: the disk is full.
        """
        run = apply_changes(RunConfig(), changes)
        check_sizes(run, "the new image")
        async with self._leases.held() as lease:
            layer = await self._layer(lease, chunks)
            now_ns = self._now_ns()
            config = ConfigFile(
                platform=platform or host_platform(),
                diff_ids=(layer.diff_id,),
                created_ns=now_ns,
                run=run,
                history=(History(now_ns, comment=message or _DEFAULT_MESSAGE),),
                comment=message or _DEFAULT_MESSAGE,
            )
            config_descriptor = await self._content.put(render_config(config), OCI_CONFIG, lease)
            manifest = render_manifest(config_descriptor, (layer.descriptor,))
            target = await self._content.put(manifest, OCI_MANIFEST, lease)
            await self._leases.expect(lease, [layer.diff_id])
        return Imported(lease, config_descriptor.digest, target, (layer,))

    async def _layer(self, lease: str, chunks: AsyncIterator[bytes]) -> Layer:
        async with self._ingests.open(f"import-{lease}") as ingest:
            try:
                await _unpack(chunks, ingest)
                digest, size = ingest.digest, ingest.offset
                here = digest in await self._leases.hold(lease, [digest])
                if not here or not await asyncio.to_thread(self._content.is_whole, digest, size):
                    await self._ingests.publish(ingest)
            finally:
                self._ingests.discard(ingest)
        return Layer(Descriptor(OCI_LAYER, digest, size), digest)


async def _unpack(chunks: AsyncIterator[bytes], ingest: Ingest) -> None:
    """Write the plain tar into ``ingest``, and stop at once if it does not begin like one."""
    writer = _Writer(ingest)
    pending = bytearray()
    async for chunk in chunks:
        pending += chunk
        if len(pending) >= PIECE_BYTES:
            piece, pending = bytes(pending), bytearray()
            await in_thread(writer.feed, piece)
    await in_thread(writer.finish, bytes(pending))


class _Writer:
    """Unpacks and writes, in a thread."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        self._decompressor = decompressor(b"")
        self._started = False
        self._head = b""

    def feed(self, chunk: bytes) -> None:
        if not self._started:
            self._decompressor = decompressor(chunk[:MAGIC_BYTES])
            self._started = True
        with storing("layer"):
            for piece in self._decompressor.feed(chunk):
                if len(self._head) < BLOCK:
                    self._head += piece[: BLOCK - len(self._head)]
                    if len(self._head) == BLOCK:
                        _check_header(self._head)
                self._ingest.write_now(piece)
                if self._ingest.offset > _MAX_EMPTY_BYTES and not any(self._head):
                    raise InvalidArgumentError("not a tar archive: it begins with its end mark, and goes on")

    def finish(self, chunk: bytes) -> None:
        self.feed(chunk)
        self._decompressor.finish()
        if len(self._head) < BLOCK:
            raise InvalidArgumentError(f"not a tar archive: {len(self._head)} bytes, the least is {BLOCK}")


def _check_header(block: bytes) -> None:
    """Raise InvalidArgumentError unless this can be a tar's first block: a header, or the end of an empty one."""
    if block == bytes(BLOCK):
        return
    try:
        check_header(block)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            "not a tar archive: the first header's checksum is wrong (archive/tar: invalid tar header)"
        ) from error
