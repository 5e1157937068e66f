"""An image read from a store of blobs: from what its name points to down to its layers."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol

from sampan.errors import DataLossError, RemoteError
from sampan.oci.chain import chain_ids
from sampan.oci.config_document import parse_config
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.manifest import MAX_CONFIG_BYTES, Manifest, choose, parse_document
from sampan.oci.platform import Platform
from sampan.resource.image import Layer

_MAX_DOCUMENT_BYTES: Final = 8 << 20
_MAX_DEPTH: Final = 4


class Blobs(Protocol):
    """A store of blobs, imaged's or a client's."""

    def read(self, digest: str, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield a blob's bytes. NotFoundError before the first piece."""


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image for one platform."""

    target: Descriptor  # what its name points to: a manifest or an index
    manifest: Descriptor
    config: bytes
    layers: tuple[Layer, ...]  # base first
    documents: tuple[bytes, ...] = ()  # from the target to the manifest, if they were read

    @property
    def key(self) -> str:
        """What is equal for equal files."""
        return chain_ids(layer.diff_id for layer in self.layers)[-1] if self.layers else "scratch"


async def read_document(blobs: Blobs, digest: Digest, most: int = _MAX_DOCUMENT_BYTES) -> bytes:
    """Return a small blob, verified.

    Raises:
        NotFoundError: it is not there.
        DataLossError: it is not what its digest says, or larger than ``most``.
    """
    data = bytearray()
    async with aclosing(blobs.read(digest)) as pieces:
        async for piece in pieces:
            data += piece
            if len(data) > most:
                raise DataLossError(f"{digest} has more than {most} bytes")
    found = Digest.of(bytes(data))
    if found != digest:
        raise DataLossError(f"{digest} is damaged: its bytes have the digest {found}")
    return bytes(data)


async def read_image(blobs: Blobs, target: Descriptor, platform: Platform, what: str) -> FoundImage:
    """Follow a target to the image for ``platform``; layers are not looked at. ``what`` names it in errors.

    Raises:
        NotFoundError: a document is not there, or nothing is for the platform.
        DataLossError, RemoteError, UnimplementedError: documents that cannot be used.
    """
    documents = []
    manifest = target
    for _ in range(_MAX_DEPTH):
        data = await read_document(blobs, manifest.digest)
        documents.append(data)
        parsed = parse_document(data, manifest.media_type, what)
        if isinstance(parsed, Manifest):
            config = await read_document(blobs, parsed.config.digest, MAX_CONFIG_BYTES)
            layers = pair(parsed.layers, parse_config(config, what).diff_ids, what)
            return FoundImage(target, manifest, config, layers, tuple(documents))
        manifest = choose(parsed, platform)
    raise RemoteError(f"{what}: indexes are nested more than {_MAX_DEPTH} deep")


def pair(blobs: Sequence[Descriptor], diff_ids: Sequence[Digest], what: str) -> tuple[Layer, ...]:
    """Return layers of blobs and diff IDs. Raises RemoteError: there are more of one than of the other."""
    if len(blobs) != len(diff_ids):
        raise RemoteError(f"{what}: its config has {len(diff_ids)} diff IDs and its manifest {len(blobs)} layers")
    return tuple(Layer(blob, diff_id) for blob, diff_id in zip(blobs, diff_ids, strict=True))
