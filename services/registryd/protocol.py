"""What the registry needs of the engine. ``client.py`` has it over gRPC; tests have it in memory."""

from collections.abc import AsyncGenerator, AsyncIterator, Collection
from typing import Protocol

from registryd.repositories.model import EngineImage, Held, Unkept, UploadState
from sampan.oci.digest import Digest


class Contents(Protocol):
    """The engine's content store.

    A *root* is a label that keeps a blob from garbage collection until it is taken back. Every use has a root of its
    own, so that two uses of one blob never meet.
    """

    async def size(self, digest: Digest) -> int:
        """Return a blob's size. Raises NotFoundError."""

    async def keep(self, digest: Digest, root: str, owner: str) -> int:
        """Keep a blob that is here; return its size. Raises NotFoundError."""

    async def put(self, digest: Digest, data: bytes, root: str, owner: str) -> None:
        """Store a small blob, kept as by ``keep``."""

    async def let_go(self, unkept: Collection[Unkept]) -> None:
        """Take labels back; a blob that nothing else keeps goes. One that is gone already is no error."""

    def read(self, digest: Digest, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield a blob's bytes from ``offset``, ``size`` of them or all; none is read ahead of whoever asks.

        Raises:
            NotFoundError: it is not here.
            DataLossError: it is damaged.
        """

    async def begin(self, ref: str) -> None:
        """Begin a write that is empty."""

    async def offset(self, ref: str) -> int:
        """Return how many bytes a write has, while somebody is writing too. Raises NotFoundError."""

    async def state(self, ref: str) -> UploadState:
        """Return how far a write is.

        Raises:
            NotFoundError: there is none.
            UnavailableError: somebody is writing it.
        """

    async def append(self, ref: str, offset: int, pieces: AsyncIterator[bytes]) -> UploadState:
        """Write ``pieces`` at ``offset``, where the write is; what arrived stays written if they break off.

        Raises:
            UnavailableError: somebody else is writing it.
        """

    async def commit(self, ref: str, digest: Digest, root: str, owner: str) -> int:
        """Make a blob of a write that has this digest, kept as by ``keep``; return its size."""

    async def abort(self, ref: str) -> None:
        """Drop a write. Raises NotFoundError."""

    def held(self) -> AsyncIterator[Held]:
        """Yield all content."""

    def roots(self) -> AsyncIterator[Unkept]:
        """Yield every label that a registry has set."""

    async def writes(self) -> list[tuple[str, int]]:
        """Return the registry's writes in progress: ref, and when it last grew, in nanoseconds since the epoch."""


class Catalog(Protocol):
    """The engine's images."""

    async def images(self) -> tuple[EngineImage, ...]:
        """Return all of them."""

    async def complete(self, image: str) -> None:
        """Have blobs made of those layers of an image, by its ID, that have none; it has another manifest then.

        Raises:
            NotFoundError: it is not there any more.
            DataLossError: a layer is not what it was.
            UnavailableError: the engine does not answer.
        """
