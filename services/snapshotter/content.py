"""What the snapshotter needs of a content store."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path
from typing import Protocol

from sampan.oci.digest import Digest


class ContentStore(Protocol):
    """Blobs by digest."""

    async def open(self, digest: Digest) -> int | None:
        """Return a descriptor to read a blob from, or None if that cannot be had: then there is ``read``."""

    def read(self, digest: Digest) -> AsyncGenerator[bytes, None]:
        """Yield a blob's bytes, unverified.

        Raises:
            NotFoundError: it is not there.
            UnavailableError: the store does not answer.
        """

    async def write(self, path: Path, digest: Digest, ref: str, labels: Mapping[str, str]) -> None:
        """Add a file's bytes, by way of the ingest ``ref``; that they are there already is as good.

        Raises:
            UnavailableError: the store does not answer.
            ResourceExhaustedError: its disk is full.
        """

    async def write_pieces(self, pieces: AsyncIterator[bytes], ref: str, digest_label: str) -> tuple[Digest, int]:
        """Add bytes whose digest is not known before, as they come; return it, and how many they were.

        The content has its own digest as the label ``digest_label``. If ``pieces`` fails, nothing is added.

        Raises:
            UnavailableError, ResourceExhaustedError: as ``write``.
        """
