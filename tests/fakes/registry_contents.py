"""A content store in memory, and a list of images, for the registry: behaves as ``registryd.protocol`` says."""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field

from registryd.repositories.model import EngineImage, Held, Unkept, UploadState
from registryd.repositories.roots import ROOT_PREFIX
from registryd.repositories.uploads import REF_PREFIX
from sampan.errors import ConflictError, NotFoundError
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference


@dataclass
class FakeContents:
    """Blobs with the labels that keep them; one without any is gone."""

    blobs: dict[Digest, bytes] = field(default_factory=dict)
    labels: dict[Digest, dict[str, str]] = field(default_factory=dict)
    ingests: dict[str, bytes] = field(default_factory=dict)
    grown_ns: int = 0

    def add(self, data: bytes, label: str = "an-image") -> Digest:
        """Have a blob that something else keeps."""
        digest = Digest.of(data)
        self.blobs[digest] = data
        self.labels.setdefault(digest, {})[label] = "engine"
        return digest

    async def size(self, digest: Digest) -> int:
        return len(self._get(digest))

    def _get(self, digest: Digest) -> bytes:
        if digest not in self.blobs:
            raise NotFoundError(f"content {digest}: not found")
        return self.blobs[digest]

    async def keep(self, digest: Digest, root: str, owner: str) -> int:
        size = len(self._get(digest))
        self.labels[digest][root] = owner
        return size

    async def put(self, digest: Digest, data: bytes, root: str, owner: str) -> None:
        if Digest.of(data) != digest:
            raise ConflictError(f"unexpected commit digest {Digest.of(data)}, expected {digest}")
        self.blobs[digest] = data
        self.labels.setdefault(digest, {})[root] = owner

    async def let_go(self, unkept: Collection[Unkept]) -> None:
        for each in unkept:
            labels = self.labels.get(each.digest, {})
            if labels.pop(each.root, None) is not None and not labels:
                del self.blobs[each.digest], self.labels[each.digest]

    async def read(self, digest: Digest, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes, None]:
        data = self._get(digest)[offset:]
        yield data[:size] if size else data

    async def begin(self, ref: str) -> None:
        self.ingests[ref] = b""

    async def offset(self, ref: str) -> int:
        return (await self.state(ref)).offset

    async def state(self, ref: str) -> UploadState:
        if ref not in self.ingests:
            raise NotFoundError(f"ingest ref {ref}: not found")
        return UploadState(len(self.ingests[ref]), Digest.of(self.ingests[ref]))

    async def append(self, ref: str, offset: int, pieces: AsyncIterator[bytes]) -> UploadState:
        assert offset == len(self.ingests[ref])
        async for piece in pieces:
            self.ingests[ref] += piece
        return await self.state(ref)

    async def commit(self, ref: str, digest: Digest, root: str, owner: str) -> int:
        data = self.ingests.pop(ref)
        assert Digest.of(data) == digest
        await self.put(digest, data, root, owner)
        return len(data)

    async def abort(self, ref: str) -> None:
        await self.state(ref)
        del self.ingests[ref]

    async def held(self) -> AsyncIterator[Held]:
        for digest, data in self.blobs.items():
            labels = self.labels[digest].items()
            roots = {label: owner for label, owner in labels if label.startswith(ROOT_PREFIX)}
            yield Held(digest, len(data), roots)

    async def roots(self) -> AsyncIterator[Unkept]:
        async for held in self.held():
            for root in held.roots:
                yield Unkept(held.digest, root)

    async def writes(self) -> list[tuple[str, int]]:
        return [(ref, self.grown_ns) for ref in self.ingests if ref.startswith(REF_PREFIX)]


@dataclass
class FakeCatalog:
    """The engine's images; ``asked`` counts how often somebody wanted to know."""

    listed: tuple[EngineImage, ...] = ()
    asked: int = 0
    becomes: dict[str, EngineImage] = field(default_factory=dict)  # what images are when they are completed, by ID

    def add(self, name: Reference, target: Descriptor, contents: Mapping[Digest, int]) -> None:
        """Have an image of one platform."""
        self.listed = (*self.listed, EngineImage((name,), target, target, contents))

    async def images(self) -> tuple[EngineImage, ...]:
        self.asked += 1
        return self.listed

    async def complete(self, image: str) -> None:
        if image not in {each.id for each in self.listed}:
            raise NotFoundError(f"No such image: {image}")
        self.listed = tuple(self.becomes.get(each.id, each) if each.id == image else each for each in self.listed)
