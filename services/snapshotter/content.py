"""What the snapshotter needs of a content store."""

from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Protocol

from sampan.oci.digest import Digest


class ContentStore(Protocol):
    """Blobs by digest."""

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
