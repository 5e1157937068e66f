"""Manifests of repositories, and the tags that lead to them."""

import sqlite3
from typing import Final

from registryd.protocol import Contents
from registryd.repositories import store as rows
from registryd.repositories.blobs import Blobs
from registryd.repositories.document import parse_manifest
from registryd.repositories.engine_images import EngineImages, load_document
from registryd.repositories.model import Manifest, Page, Referrer, Unkept
from registryd.repositories.refusal import Code, RefusedError, manifest_unknown
from sampan.errors import NotFoundError, SampanError
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.store.database import Store

# An index may list an index; nobody in the field goes deeper than this.
_MAX_DEPTH: Final = 4


class Manifests:
    """The manifests of all repositories."""

    def __init__(self, store: Store, contents: Contents, blobs: Blobs, engine: EngineImages) -> None:
        self._store = store
        self._contents = contents
        self._blobs = blobs
        self._engine = engine

    async def find(self, repository: str, target: Digest | str) -> Descriptor:
        """Return the manifest of a tag or digest: the repository's own, else one of the engine's images.

        Raises:
            RefusedError: MANIFEST_UNKNOWN.
        """
        found = await self._store.read(lambda db: rows.find_manifest(db, repository, target))
        found = found or await self._engine.find(repository, target)
        if found is None:
            raise manifest_unknown(target, repository)
        return found

    async def load(self, repository: str, target: Digest | str) -> tuple[Descriptor, bytes]:
        """Return a manifest with its bytes, verified.

        Raises:
            RefusedError: MANIFEST_UNKNOWN; also if its bytes are gone, so that a push restores them.
        """
        found = await self.find(repository, target)
        try:
            return found, await load_document(self._contents, found.digest)
        except NotFoundError:
            raise manifest_unknown(target, repository) from None

    async def put(self, repository: str, target: Digest | str, media_type: str, data: bytes) -> Manifest:
        """Store a manifest, and let the tag lead to it.

        Raises:
            RefusedError: DIGEST_INVALID, MANIFEST_INVALID; MANIFEST_BLOB_UNKNOWN unless all that it refers to is in the
                repository, or in an image of the engine of that name. Its subject need not be here.
        """
        manifest = parse_manifest(data, media_type)
        digest = manifest.descriptor.digest
        if isinstance(target, Digest) and target != digest:
            raise RefusedError(Code.DIGEST_INVALID, f"the manifest's digest is {digest}, it was pushed as {target}")
        await self._put(repository, manifest, data, None if isinstance(target, Digest) else target, _MAX_DEPTH)
        return manifest

    async def _put(self, repository: str, manifest: Manifest, data: bytes, tag: str | None, depth: int) -> None:
        await self._adopt(repository, manifest, depth)
        digest = manifest.descriptor.digest
        with self._blobs.roots.issued() as root:
            await self._store_content(repository, digest, data, root)
            try:
                unkept = await self._store.write(lambda db: rows.put_manifest(db, repository, manifest, root, tag))
            except (SampanError, sqlite3.Error):  # not when cancelled: then the row may be there, and upkeep decides
                await self._contents.let_go([Unkept(digest, root)])
                raise
        await self._contents.let_go(unkept)

    async def _adopt(self, repository: str, manifest: Manifest, depth: int) -> None:
        """Take over what the engine's images of that repository have: whoever pushes has been told that it is here."""
        for blob in manifest.blobs:
            if await self._has_blob(repository, blob.digest):
                continue
            if await self._engine.size(repository, blob.digest) is not None:
                await self._blobs.adopt(repository, blob.digest)
        for child in manifest.children:
            if depth and not await self._has_manifest(repository, child.digest):
                found = await self._engine.find(repository, child.digest)
                if found is not None:
                    data = await load_document(self._contents, found.digest)
                    await self._put(repository, parse_manifest(data, found.media_type), data, None, depth - 1)

    async def _has_blob(self, repository: str, digest: Digest) -> bool:
        return await self._store.read(lambda db: rows.blob_size(db, repository, digest)) is not None

    async def _has_manifest(self, repository: str, digest: Digest) -> bool:
        return await self._store.read(lambda db: rows.find_manifest(db, repository, digest)) is not None

    async def _store_content(self, repository: str, digest: Digest, data: bytes, root: str) -> None:
        try:
            await self._contents.keep(digest, root, repository)
        except NotFoundError:
            await self._contents.put(digest, data, root, repository)

    async def delete(self, repository: str, target: Digest | str) -> None:
        """Take a tag away, or remove a manifest with all its tags.

        Raises:
            RefusedError: MANIFEST_UNKNOWN; UNSUPPORTED for one that an index lists, or that only the engine has.
        """
        until_ns = self._blobs.seen_until_ns()

        def forget(db: sqlite3.Connection) -> bool:
            if not isinstance(target, Digest):
                return rows.delete_tag(db, repository, target)
            try:
                unkept.extend(rows.delete_manifest(db, repository, target, until_ns))
            except sqlite3.IntegrityError:
                raise RefusedError(
                    Code.UNSUPPORTED, f"manifest {target} is part of an index in {repository}: remove that first"
                ) from None
            return bool(unkept)

        unkept: list[Unkept] = []
        if await self._store.write(forget):
            await self._contents.let_go(unkept)
        elif await self._engine.find(repository, target) is None:
            raise manifest_unknown(target, repository)
        else:
            raise RefusedError(Code.UNSUPPORTED, f"{repository}: {target} is an image of the engine: remove it there")

    async def tags(self, repository: str, last: str, most: int | None) -> Page:
        """Return a repository's tags after ``last``, in order.

        Raises:
            RefusedError: NAME_UNKNOWN.
        """
        tags = await self._store.read(
            lambda db: rows.list_tags(db, repository) if rows.has_repository(db, repository) else None
        )
        of_engine = await self._engine.tags(repository)
        if tags is None and of_engine is None:
            raise RefusedError(Code.NAME_UNKNOWN, f"repository {repository} is not in this registry")
        return rows.page((tags or set()) | (of_engine or set()), last, most)

    async def repositories(self, last: str, most: int | None) -> Page:
        """Return the repositories after ``last``, in order."""
        names = await self._store.read(rows.list_repositories)
        return rows.page(names | await self._engine.repositories(), last, most)

    async def referrers(self, repository: str, subject: Digest, artifact_type: str) -> list[Referrer]:
        """Return the manifests that are about ``subject``, which need not be here."""
        return await self._store.read(lambda db: rows.list_referrers(db, repository, subject, artifact_type))
