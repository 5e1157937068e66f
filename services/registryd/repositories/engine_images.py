"""Images that the engine has under this registry's own name, served without a push.

``docker tag debian 127.0.0.1:5000/debian:12`` is enough to pull that name from a registry on 127.0.0.1:5000. Names are
configured, never taken from a request's ``Host``: what a client writes there must not decide what it may see.
"""

import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from typing import Final

from registryd.protocol import Catalog, Contents
from registryd.repositories.document import MAX_MANIFEST_BYTES, parse_manifest
from registryd.repositories.model import EngineImage
from registryd.repositories.refusal import RefusedError
from sampan.errors import DataLossError, NotFoundError
from sampan.oci.descriptor import INDEXES, MANIFESTS, Descriptor
from sampan.oci.digest import Digest

# A pull asks for one blob after the other: what was just listed is looked at first. That something is not there is
# never concluded from it.
_FRESH_S: Final = 5.0

# Indexes in indexes; nobody nests them deeper.
_MAX_DEPTH: Final = 4


async def load_document(contents: Contents, digest: Digest) -> bytes:
    """Return a manifest's bytes, verified.

    Raises:
        NotFoundError: it is not here, or is too large to be a manifest.
        DataLossError: it is damaged.
    """
    if await contents.size(digest) > MAX_MANIFEST_BYTES:
        raise NotFoundError(f"content {digest} is no manifest")
    data = b"".join([piece async for piece in contents.read(digest)])
    if Digest.of(data) != digest:
        raise DataLossError(f"manifest {digest} is damaged: push it again")
    return data


class EngineImages:
    """The engine's images whose names begin with one of ``registries``."""

    def __init__(
        self,
        catalog: Catalog,
        contents: Contents,
        registries: Collection[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._contents = contents
        self._registries = frozenset(registries)
        self._clock = clock
        self._images: tuple[EngineImage, ...] = ()
        self._listed_at = float("-inf")

    async def find(self, repository: str, target: Digest | str) -> Descriptor | None:
        """Return the manifest or index of a tag or digest.

        A tag of an index of which other platforms are missing here is the one platform's manifest that is here: what a
        tag leads to can be pulled whole, by anybody.
        """
        for image in await self._completed(repository, target):
            for name in self._names(image, repository):
                if isinstance(target, Digest):
                    found = await self._document(image, target)
                    if found is not None:
                        return found
                elif name == target:
                    return image.target if await self._is_whole(image) else image.manifest
        return None

    async def _completed(self, repository: str, target: Digest | str) -> tuple[EngineImage, ...]:
        """Return all images; those that somebody asks for have all their blobs."""
        listed = await self._list()
        lacking = [
            image
            for image in listed
            if not image.complete
            and any(target in (name, image.target.digest) for name in self._names(image, repository))
        ]
        for image in lacking:
            try:
                await self._catalog.complete(image.id)
            except NotFoundError:  # removed meanwhile
                continue
        return await self._list() if lacking else listed

    async def _document(self, image: EngineImage, digest: Digest) -> Descriptor | None:
        for own in (image.target, image.manifest):
            if own.digest == digest:
                return own
        async for part in self._of_index(image):
            if part.digest == digest and part.media_type in INDEXES | MANIFESTS and await self._is_here(digest):
                return part
        return None

    async def _is_whole(self, image: EngineImage) -> bool:
        async for part in self._of_index(image):
            if not await self._is_here(part.digest):
                return False
        return True

    async def _of_index(self, image: EngineImage) -> AsyncIterator[Descriptor]:
        """Yield all that an image's index leads to, other platforms too, as far as its documents are here to say so."""
        left = [(image.target, 0)] if image.target.media_type in INDEXES else []
        while left:
            document, depth = left.pop()
            try:
                data = await load_document(self._contents, document.digest)
                parsed = parse_manifest(data, document.media_type)
            except (NotFoundError, RefusedError):
                continue
            for part in (*parsed.children, *parsed.blobs):
                yield part
                if part.media_type in INDEXES | MANIFESTS and depth < _MAX_DEPTH:
                    left.append((part, depth + 1))

    async def _is_here(self, digest: Digest) -> bool:
        try:
            await self._contents.size(digest)
        except NotFoundError:
            return False
        return True

    async def size(self, repository: str, digest: Digest) -> int | None:
        """Return the size of a blob that an image in the repository is made of."""
        if self._clock() - self._listed_at < _FRESH_S:
            size = self._size(repository, digest)
            if size is not None:
                return size
        await self._list()
        size = self._size(repository, digest)
        return size if size is not None else await self._size_in_an_index(repository, digest)

    def _size(self, repository: str, digest: Digest) -> int | None:
        for image in self._images:
            if any(True for _ in self._names(image, repository)):
                documents = {own.digest: own.size for own in (image.target, image.manifest)}
                size = image.contents.get(digest, documents.get(digest))
                if size is not None:
                    return size
        return None

    async def _size_in_an_index(self, repository: str, digest: Digest) -> int | None:
        for image in self._images:
            if any(True for _ in self._names(image, repository)):
                async for part in self._of_index(image):
                    if part.digest == digest and await self._is_here(digest):
                        return part.size
        return None

    async def tags(self, repository: str) -> set[str] | None:
        """Return a repository's tags, None if no image is in it."""
        names = [name for image in await self._list() for name in self._names(image, repository)]
        return {name for name in names if name} if names else None

    async def repositories(self) -> set[str]:
        """Return the repositories that an image is in."""
        return {
            name.repository for image in await self._list() for name in image.names if name.registry in self._registries
        }

    def _names(self, image: EngineImage, repository: str) -> Iterator[str]:
        """Yield the image's tags in the repository, empty text for a name by digest."""
        for name in image.names:
            if name.registry in self._registries and name.repository == repository:
                yield name.tag or ""

    async def _list(self) -> tuple[EngineImage, ...]:
        if self._registries:
            self._images = await self._catalog.images()
            self._listed_at = self._clock()
        return self._images
