"""A registry over a content store in memory."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registryd.check.upkeep import Upkeep
from registryd.repositories.blobs import Blobs
from registryd.repositories.engine_images import EngineImages
from registryd.repositories.manifests import Manifests
from registryd.repositories.roots import Roots
from registryd.repositories.uploads import Uploads, Visits
from sampan.oci.descriptor import OCI_MANIFEST
from sampan.oci.digest import Digest
from sampan.store.database import Store
from tests.fakes.registry_contents import FakeCatalog, FakeContents

OWN = "127.0.0.1:5000"
UNUSED_S = 100.0
MAX_BLOB_BYTES = 1000


@dataclass
class Clock:
    """Time that passes when it is told to."""

    now_s: float = 1000.0

    def seconds(self) -> float:
        return self.now_s

    def nanoseconds(self) -> int:
        return int(self.now_s * 1e9)


@dataclass
class Parts:
    store: Store
    contents: FakeContents
    catalog: FakeCatalog
    clock: Clock
    engine: EngineImages
    blobs: Blobs
    manifests: Manifests
    uploads: Uploads
    upkeep: Upkeep

    async def push(self, repository: str, data: bytes) -> dict[str, Any]:
        """Upload a blob; return its descriptor."""
        upload = await self.uploads.begin(repository)
        await self.uploads.append(repository, upload, pieces(data))
        digest = Digest.of(data)
        await self.uploads.finish(repository, upload, digest)
        return descriptor(data)

    async def push_image(self, repository: str, tag: str, layer: bytes = b"layer", **more: object) -> Digest:
        """Push an image of one layer; return its manifest's digest."""
        config = await self.push(repository, b"{}")
        data = document(config=config, layers=[await self.push(repository, layer)], **more)
        return (await self.manifests.put(repository, tag, OCI_MANIFEST, data)).descriptor.digest


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def descriptor(data: bytes, media_type: str = "text/plain") -> dict[str, Any]:
    return {"mediaType": media_type, "digest": Digest.of(data), "size": len(data)}


def document(**fields: object) -> bytes:
    return json.dumps({"schemaVersion": 2, **fields}).encode()


@contextlib.asynccontextmanager
async def registry_parts(directory: Path) -> AsyncIterator[Parts]:
    clock, contents, catalog = Clock(), FakeContents(), FakeCatalog()
    async with Store(directory / "registry.db", "registryd.schema", durable=False) as store:
        engine = EngineImages(catalog, contents, {OWN}, clock.seconds)
        roots, visits = Roots(), Visits()
        blobs = Blobs(store, contents, engine, UNUSED_S, clock.nanoseconds, roots)
        manifests = Manifests(store, contents, blobs, engine)
        uploads = Uploads(contents, blobs, MAX_BLOB_BYTES, visits)
        upkeep = Upkeep(store, contents, UNUSED_S, roots, visits, clock.nanoseconds)
        yield Parts(store, contents, catalog, clock, engine, blobs, manifests, uploads, upkeep)
