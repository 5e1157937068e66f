"""Images from an archive: read it once, understand it, and hold each image with a lease."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Final

from imaged.archive.files import HEAD_BYTES, File, Files, read_archive
from imaged.archive.images import ArchivedImage, check_names, from_manifest_json
from imaged.archive.layout import Layout
from imaged.archive.legacy import from_legacy, is_legacy
from imaged.archive.source import Bridge, ChunkSource
from imaged.content.blobs import ContentStore
from imaged.content.disk_full import storing
from imaged.content.ingest import Ingest, Ingests
from imaged.content.leases import Leases
from imaged.images import store as image_store
from imaged.images.model import ImageRecord
from sampan.errors import InvalidArgumentError, UnimplementedError
from sampan.oci.descriptor import OCI_CONFIG, OCI_MANIFEST
from sampan.oci.digest import Digest
from sampan.oci.manifest_document import render_manifest
from sampan.oci.platform import Platform
from sampan.resource.image import Layer, LoadedImage
from sampan.store.database import Store

_NO_IMAGE: Final = (
    "not an archive of images: it holds neither manifest.json nor index.json; a file system is taken by `import`"
)


class Loader:
    """Reads archives."""

    def __init__(self, store: Store, content: ContentStore, ingests: Ingests, leases: Leases) -> None:
        self._store = store
        self._content = content
        self._ingests = ingests
        self._leases = leases

    async def run(self, chunks: AsyncIterator[bytes], platforms: Sequence[Platform] = ()) -> list[LoadedImage]:
        """Load the images of an archive, in the archive's order; each is held by a lease of its own.

        An OCI layout in the archive outweighs a ``manifest.json`` beside it, since it has the manifests themselves.
        Layers that are here already, under whatever compression, are not stored again. A failed or cancelled load
        leaves nothing.

        Raises:
            InvalidArgumentError: not an archive of images, cut short, or not consistent; the message names the culprit.
            NotFoundError: an index has nothing for one of ``platforms``.
            DataLossError: content does not have the digest that its name or its image says.
            UnimplementedError: not for Linux, or packed in a way that is not supported.
            ResourceExhaustedError: the disk is full.
        """
        work = await self._leases.begin()
        try:
            files = await self._read(work, chunks)
            images = await Bridge().run(lambda bridge: self._understand(bridge, files, platforms))
            return await self._keep_all(images)
        finally:
            await self._leases.let_go(work)

    async def _read(self, lease: str, chunks: AsyncIterator[bytes]) -> Files:
        async with AsyncExitStack() as stack:

            def read(bridge: Bridge) -> Files:
                source = ChunkSource(bridge, chunks)
                with storing("archive"):
                    return read_archive(source.read, _Sink(self, bridge, lease, stack))

            return await Bridge().run(read)

    def _understand(self, bridge: Bridge, files: Files, platforms: Sequence[Platform]) -> list[ArchivedImage]:
        def read(file: File) -> bytes:
            if file.content is not None:
                return file.content
            return bridge.wait(lambda: self._content.load(file.digest, file.size))

        if files.find("index.json") is not None and files.find("oci-layout") is not None:
            images = Layout(files, read, platforms).images()
        elif files.find("manifest.json") is not None:
            images = from_manifest_json(files, read)
        elif is_legacy(files):
            images = from_legacy(files, read)
        else:
            raise InvalidArgumentError(_NO_IMAGE)
        check_names(images)
        for image in images:
            if image.parsed.platform.os != "linux":
                raise UnimplementedError(
                    f'image operating system "{image.parsed.platform.os}" cannot be used on this platform'
                )
        return images

    async def _keep_all(self, images: Iterable[ArchivedImage]) -> list[LoadedImage]:
        async with AsyncExitStack() as undo:
            loaded = []
            for image in images:
                lease = await self._leases.begin()
                undo.push_async_callback(self._leases.let_go, lease)
                loaded.append(await self._keep(image, lease))
            # All at once: a kill before that leaves nothing, and after it whoever loads is told of every one.
            await self._leases.complete(*(one.lease for one in loaded))
            undo.pop_all()
            return loaded

    async def _keep(self, image: ArchivedImage, lease: str) -> LoadedImage:
        """Hold what the image is made of, preferring what is here already."""
        await self._leases.expect(lease, image.parsed.diff_ids)
        known = await self._known(image) if not image.documents else None
        if known is not None:
            layers, target = known.layers, known.target
            held = [known.target.digest, known.manifest.digest, known.id, *(x.descriptor.digest for x in layers)]
            here = await self._leases.hold(lease, held)
            if all(digest in here for digest in held):
                return LoadedImage(lease, known.id, target, layers, image.names, image.parsed.platform)
        layers = await self._layers(lease, image)
        files = {file.digest: file for _, file in image.layers}
        for layer in layers:
            if (file := files.get(layer.descriptor.digest)) is not None and file.content is not None:
                await self._content.put(file.content, layer.descriptor.media_type, lease)
        config = await self._content.put(image.config, OCI_CONFIG, lease)
        # Large content is here already, by the lease of the whole load.
        kept = (*image.documents, *image.others)
        await self._leases.hold(lease, [each.descriptor.digest for each in kept if each.file.content is None])
        for document in kept:
            if document.file.content is not None:
                await self._content.put(document.file.content, document.descriptor.media_type, lease)
        if image.documents:
            target = image.documents[0].descriptor
        else:
            target = await self._content.put(
                render_manifest(config, [layer.descriptor for layer in layers]), OCI_MANIFEST, lease
            )
        return LoadedImage(lease, image.id, target, layers, image.names, image.parsed.platform)

    async def _known(self, image: ArchivedImage) -> ImageRecord | None:
        return await self._store.read(lambda db: image_store.get_image(db, image.id))

    async def _layers(self, lease: str, image: ArchivedImage) -> tuple[Layer, ...]:
        """Hold and return the image's layers; without a manifest to keep, in the form that they are here already."""
        stated = tuple(
            Layer(descriptor, diff_id)
            for (descriptor, _), diff_id in zip(image.layers, image.parsed.diff_ids, strict=True)
        )
        others: dict[Digest, Layer] = {}
        if not image.documents:
            diff_ids = {layer.diff_id for layer in stated}
            others = await self._store.read(lambda db: image_store.layers_of(db, diff_ids))
        wanted = [layer.descriptor.digest for layer in (*stated, *others.values())]
        here = await self._leases.hold(lease, wanted)
        usable = {
            diff_id: layer
            for diff_id, layer in others.items()
            if layer.descriptor.digest in here and not self._content.is_damaged(layer.descriptor.digest)
        }
        return tuple(usable.get(layer.diff_id, layer) for layer in stated)

    async def existing_head(self, lease: str, digest: Digest, size: int) -> bytes | None:
        """Hold content; return its first bytes if it is here in full."""
        here = await self._leases.hold(lease, [digest])
        if here.get(digest) != size or not await asyncio.to_thread(self._content.is_whole, digest, size):
            return None
        async for piece in self._content.read(digest, 0, min(size, HEAD_BYTES)):
            return piece
        return b""

    async def begin(self, stack: AsyncExitStack) -> Ingest:
        """Begin a write that ends with ``stack``, if not before."""
        ingest = await stack.enter_async_context(self._ingests.open(f"load-{secrets.token_hex(8)}"))
        stack.callback(self._ingests.discard, ingest)
        return ingest

    async def publish(self, lease: str, ingest: Ingest) -> None:
        """Make what was written a blob, unless it is here."""
        here = await self._leases.hold(lease, [ingest.digest])
        whole = here.get(ingest.digest) == ingest.offset
        if whole and await asyncio.to_thread(self._content.is_whole, ingest.digest, ingest.offset):
            self._ingests.discard(ingest)
            return
        await self._ingests.publish(ingest)


class _Sink:
    """Satisfies ``archive.files.Sink``."""

    def __init__(self, loader: Loader, bridge: Bridge, lease: str, stack: AsyncExitStack) -> None:
        self._loader = loader
        self._bridge = bridge
        self._lease = lease
        self._stack = stack

    def existing(self, digest: Digest, size: int) -> bytes | None:
        return self._bridge.wait(lambda: self._loader.existing_head(self._lease, digest, size))

    def write(self, pieces: Iterable[bytes | memoryview]) -> Digest:
        ingest = self._bridge.wait(lambda: self._loader.begin(self._stack))
        for piece in pieces:
            ingest.write_now(bytes(piece))
        digest = ingest.digest
        self._bridge.wait(lambda: self._loader.publish(self._lease, ingest))
        return digest
