"""imaged's cores behind their servicers, and what the fakes have of them, keep the same contracts."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from prometheus_client import CollectorRegistry

from imaged.archive.load import Loader
from imaged.archive.save import Saver
from imaged.images.commit import Committer
from imaged.images.deferred import Completer
from imaged.push.metrics import PushMetrics
from imaged.push.push import Pusher, UploadMeans
from imaged.registry.auth import Tokens
from imaged.registry.endpoints import Endpoints
from imaged.registry.manifests import Manifests
from imaged.registry.referrers import Referrers
from imaged.registry.retry import RetryPolicy
from imaged.registry.source import Sources
from imaged.registry.transport import Transport
from imaged.wire.images_servicer import ImagesServicer, Traffic
from registryd.protocol import Catalog
from registryd.wire.client import ImagesClient as CatalogClient
from sampan.api.image.v1.images_pb2_grpc import add_ImagesServicer_to_server
from sampan.client.storage.images import ImagesClient
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.reference import parse_reference
from tests.contract.images import ImageParts, ImagesContract
from tests.contract.registry_contents import CatalogContract, CatalogParts
from tests.contract.served import served
from tests.fakes.engine import FakeImages, image
from tests.fakes.push_registry import PushRegistry
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_contents import FakeCatalog
from tests.unit.imaged.parts import Parts, imaged_parts

if TYPE_CHECKING:
    from imaged.registry.lookup import Lookup


Asked = tuple[Manifests | None, Referrers | None]  # what is asked of registries


@pytest.fixture
async def imaged(tmp_path: Path) -> AsyncIterator[Parts]:
    async with imaged_parts(tmp_path / "imaged") as parts:
        yield parts


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry().running() as registry:
        yield registry


@pytest.fixture
async def pusher(imaged: Parts) -> AsyncIterator[Pusher]:
    transport = Transport(stall_timeout_s=5)
    retry, tokens = RetryPolicy(attempts=3, base_s=0.001), Tokens(transport)
    means = UploadMeans(transport, tokens, retry, PushMetrics(CollectorRegistry()))
    sources = Sources(Endpoints(), transport, tokens, retry)
    pusher = Pusher(imaged.store, imaged.content, imaged.leases, sources, means)
    yield pusher
    await pusher.close()
    await transport.close()


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    transport = Transport(stall_timeout_s=5)
    retry, tokens = RetryPolicy(attempts=3, base_s=0.001), Tokens(transport)
    sources = Sources(Endpoints(), transport, tokens, retry)
    yield Manifests(sources, transport, tokens, retry), Referrers(sources)
    await transport.close()


def images_servicer(parts: Parts, pusher: Pusher | None = None, asked: Asked = (None, None)) -> ImagesServicer:
    """What imaged serves, but for what registries are asked."""
    traffic = Traffic(
        cast("Pusher", pusher),
        Saver(parts.images, parts.content, parts.leases),
        Loader(parts.store, parts.content, parts.ingests, parts.leases),
        Committer(parts.images, parts.store, parts.content, parts.leases),
        cast("Lookup", None),
        Completer(parts.store, parts.content),
        cast("Manifests", asked[0]),
        cast("Referrers", asked[1]),
    )
    return ImagesServicer(
        parts.images, parts.puller, parts.importer, parts.leases, parts.login, traffic, asyncio.Event()
    )


async def add(parts: Parts, name: str) -> str:
    parts.clock.advance(1)
    return (await parts.import_image(name, name.encode(), ["LABEL of=test"])).image_id


class TestImagesOverGrpc(ImagesContract):
    @pytest.fixture
    async def parts(
        self, imaged: Parts, registry: FakeRegistry, pusher: Pusher, asked: Asked
    ) -> AsyncIterator[ImageParts]:
        registry.add_image("some/app", "1", b"layer")
        servicer = images_servicer(imaged, pusher, asked)
        async with (
            PushRegistry().running() as taking,
            served(lambda server: add_ImagesServicer_to_server(servicer, server)) as channel,
        ):
            offered, pushed = f"{registry.address}/some/app:1", f"{taking.address}/app:1"
            yield ImageParts(ImagesClient(channel), lambda name: add(imaged, name), offered, pushed)


class TestFakeImagesOverGrpc(ImagesContract):
    @pytest.fixture
    async def parts(self) -> AsyncIterator[ImageParts]:
        fake = FakeImages(  # type: ignore[abstract]  # what it has not is unimplemented
            remote={"registry.test/some/app:1": image("registry.test/some/app:1")}
        )

        async def put(name: str) -> str:
            return fake.add(image(name, created_s=1_700_000_000 + len(fake.images), labels={"of": "test"})).id

        async with served(lambda server: add_ImagesServicer_to_server(fake, server)) as channel:
            yield ImageParts(ImagesClient(channel), put, "registry.test/some/app:1", "registry.test/app:1")


class TestCatalogOverGrpc(CatalogContract):
    @pytest.fixture
    async def parts(self, imaged: Parts) -> AsyncIterator[CatalogParts]:
        async with served(lambda server: add_ImagesServicer_to_server(images_servicer(imaged), server)) as channel:
            yield CatalogParts(CatalogClient(channel, channel), lambda name: add(imaged, name))


class TestFakeCatalog(CatalogContract):
    @pytest.fixture
    def parts(self) -> CatalogParts:
        fake = FakeCatalog()

        async def put(name: str) -> str:
            made, manifest = Digest.of(f"config of {name}".encode()), Digest.of(f"manifest of {name}".encode())
            fake.add(parse_reference(name), Descriptor("", manifest, 500), {made: 300})
            return made

        catalog: Catalog = fake
        return CatalogParts(catalog, put)
