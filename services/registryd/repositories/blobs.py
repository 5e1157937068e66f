"""Blobs of repositories: found, taken over from another repository, removed."""

import sqlite3
from collections.abc import AsyncGenerator, Callable
from typing import Final

from registryd.protocol import Contents
from registryd.repositories import store as rows
from registryd.repositories.engine_images import EngineImages
from registryd.repositories.model import Unkept
from registryd.repositories.refusal import Code, RefusedError, blob_unknown
from registryd.repositories.roots import Roots
from sampan.errors import NotFoundError, SampanError
from sampan.oci.digest import Digest
from sampan.store.database import Store

# Seconds for which a blob stays that a push has asked for, and of which a manifest was removed.
_SEEN_S: Final = 3600


class Blobs:
    """The blobs of all repositories."""

    def __init__(
        self,
        store: Store,
        contents: Contents,
        engine: EngineImages,
        unused_s: float,
        now_ns: Callable[[], int],
        roots: Roots,
    ) -> None:
        self.roots = roots
        self._store = store
        self._contents = contents
        self._engine = engine
        self._unused_s = unused_s
        self._now_ns = now_ns

    def later_ns(self, seconds: float) -> int:
        """Return the time in so many seconds."""
        return self._now_ns() + int(seconds * 1e9)

    def seen_until_ns(self) -> int:
        """Return until when a blob stays that somebody has just seen."""
        return self.later_ns(min(_SEEN_S, self._unused_s))

    async def size(self, repository: str, digest: Digest, *, counted_on: bool = False) -> int:
        """Return the size of a blob of the repository; if it is ``counted_on``, it stays for a while.

        Raises:
            RefusedError: BLOB_UNKNOWN; also if its bytes are gone, so that a push restores them.
        """
        until_ns = self.seen_until_ns()

        def find(db: sqlite3.Connection) -> bool:
            own = rows.blob_size(db, repository, digest) is not None
            return own or rows.find_manifest(db, repository, digest) is not None

        if await self._store.read(find):
            try:
                size = await self._contents.size(digest)
            except NotFoundError:
                raise blob_unknown(digest, repository) from None
            # A client that asks what it must push will not push this, and may take its time for the rest.
            if counted_on:
                await self._store.write(lambda db: rows.keep_blob(db, repository, digest, until_ns))
            return size
        size_of_engine = await self._engine.size(repository, digest)
        if size_of_engine is None:
            raise blob_unknown(digest, repository)
        return size_of_engine

    def read(self, digest: Digest, offset: int, size: int) -> AsyncGenerator[bytes, None]:
        """Yield bytes of a blob that ``size`` was told of."""
        return self._contents.read(digest, offset, size)

    async def mount(self, repository: str, digest: Digest, source: str | None) -> bool:
        """Take a blob over from ``source``, or from whichever repository has it; return whether there was one."""
        if source is None:
            here = await self._store.read(lambda db: rows.is_held(db, digest))
        else:
            here = await self._is_in(source, digest)
        return here and await self.adopt(repository, digest)

    async def _is_in(self, repository: str, digest: Digest) -> bool:
        if await self._store.read(lambda db: rows.blob_size(db, repository, digest)) is not None:
            return True
        return await self._engine.size(repository, digest) is not None

    async def adopt(self, repository: str, digest: Digest) -> bool:
        """Put content that is here into the repository; return whether it is here."""
        with self.roots.issued() as root:
            try:
                size = await self._contents.keep(digest, root, repository)
            except NotFoundError:
                return False
            await self.record(repository, digest, size, root)
        return True

    async def record(self, repository: str, digest: Digest, size: int, root: str) -> None:
        """Record a blob of the repository that ``root`` keeps already."""
        until_ns = self.later_ns(self._unused_s)
        try:
            unkept = await self._store.write(lambda db: rows.put_blob(db, repository, digest, size, root, until_ns))
        except (SampanError, sqlite3.Error):  # not when cancelled: then the row may be there, and upkeep decides by it
            await self._contents.let_go([Unkept(digest, root)])
            raise
        await self._contents.let_go(unkept)

    async def delete(self, repository: str, digest: Digest) -> None:
        """Remove a blob from the repository.

        Raises:
            RefusedError: BLOB_UNKNOWN; UNSUPPORTED while a manifest of the repository, or an image of the engine,
                needs it.
        """

        def forget(db: sqlite3.Connection) -> bool:
            try:
                unkept.extend(rows.delete_blob(db, repository, digest))
            except sqlite3.IntegrityError:
                raise RefusedError(
                    Code.UNSUPPORTED, f"blob {digest} is part of a manifest in {repository}: remove that first"
                ) from None
            return bool(unkept)

        unkept: list[Unkept] = []
        if await self._store.write(forget):
            await self._contents.let_go(unkept)
        elif await self._engine.size(repository, digest) is None:
            raise blob_unknown(digest, repository)
        else:
            raise RefusedError(Code.UNSUPPORTED, f"blob {digest} is part of an image of the engine: remove the image")
