"""An image as an archive: what ``docker load`` reads, and an OCI image layout.

Reference: OCI image spec 1.1, "Image Layout"; Docker image spec 1.2, "Combined Image JSON + Filesystem Changeset
Format".
"""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from buildd.content import Content
from buildd.exporters.image import AssembledImage
from buildd.session.protocol import ClientContent
from sampan.json_types import JsonObject
from sampan.oci.descriptor import OCI_INDEX, Descriptor
from sampan.oci.manifest_document import descriptor_members
from sampan.oci.reference import parse_reference
from sampan.tar.buffer import TarBuffer

# Where containerd and Docker look for an image's whole name in an index.
_NAME: Final = "io.containerd.image.name"
_REF: Final = "org.opencontainers.image.ref.name"
_CREATED: Final = "org.opencontainers.image.created"


async def archive(
    content: Content, image: AssembledImage, names: Sequence[str], created: str, *, loadable: bool
) -> AsyncGenerator[bytes, None]:
    """Yield the archive, in pieces. What says what is in it comes first, for readers that cannot seek.

    ``loadable``: with what Docker's own format needs beside an OCI layout, which is of the first image alone.
    """
    tar = TarBuffer()
    tar.file("oci-layout", _dump({"imageLayoutVersion": "1.0.0"}))
    tar.file("index.json", _dump(_index(image, names, created)))
    if loadable:
        tar.file("manifest.json", _dump([_loadable(image, names)]))
    tar.directory("blobs")
    tar.directory("blobs/sha256")
    for blob in blobs(image):
        tar.begin(f"blobs/sha256/{blob.digest.hex}", blob.size)
        async with aclosing(content.read(blob.digest)) as pieces:
            async for piece in pieces:
                tar.data(piece)
                yield tar.take()
    tar.close()
    yield tar.take()


async def copy(content: Content, image: AssembledImage, store: ClientContent) -> None:
    """Write the blobs to a client's OCI layout, documents last: what refers to others comes after them."""
    for blob in reversed(blobs(image)):
        async with aclosing(content.read(blob.digest)) as pieces:
            await store.write(blob.digest, blob.size, pieces)


def blobs(image: AssembledImage) -> list[Descriptor]:
    """Return all that an image consists of, each once, documents first."""
    found = {document.digest: document for document in (*reversed(tuple(image.documents)), *image.layers)}
    return list(found.values())


def _index(image: AssembledImage, names: Sequence[str], created: str) -> JsonObject:
    entry = descriptor_members(image.target)
    plain = {**image.annotations, _CREATED: created}
    entries = [
        {**entry, "annotations": {**plain, _NAME: name, _REF: parse_reference(name).tag or ""}} for name in names
    ] or [{**entry, "annotations": plain}]
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}


def _loadable(image: AssembledImage, names: Sequence[str]) -> JsonObject:
    first = image.images[0]
    return {
        "Config": f"blobs/sha256/{first.config.digest.hex}",
        "RepoTags": [parse_reference(name).familiar for name in names] or None,
        "Layers": [f"blobs/sha256/{layer.descriptor.digest.hex}" for layer in first.tree.layers],
    }


def _dump(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
