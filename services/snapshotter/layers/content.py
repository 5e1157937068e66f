"""What the snapshotter needs of a content store."""

from collections.abc import AsyncGenerator, Mapping
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

    async def take(self, pipe: int, ref: str, *, read_soon: bool) -> None:
        """Have all that comes out of a pipe written to the ingest ``ref``, until its other end is closed.

        Unless it is ``read_soon`` it need not stay in memory.

        If this fails, or is cancelled, nothing of it is kept once that end is closed.

        Raises:
            UnavailableError, ResourceExhaustedError: as ``write``.
        """

    def lost(self, ref: str) -> bool:
        """Say whether the store has gone away since it took ``ref``, and what it took with it."""

    async def returned(self) -> None:
        """Return when a store that has gone away is back. Raises UnavailableError: it does not come back."""

    async def commit(self, ref: str, labels: Mapping[str, str], lease: str = "") -> tuple[Digest, int]:
        """Make content of what was taken; that it is there already is as good. Return its digest and size.

        The store keeps it by ``lease``, or for a time of its own.

        Raises:
            UnavailableError, ResourceExhaustedError: as ``write``; then nothing is kept.
            ServiceGoneError: the store has gone away, perhaps with what it had taken.
        """

    async def abort(self, ref: str) -> None:
        """Forget what was taken, as far as the store still knows it and answers."""
