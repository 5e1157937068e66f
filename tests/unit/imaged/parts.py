"""imaged's parts put together in a temporary directory, as ``main.py`` does it, without gRPC."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from imaged.archive.importer import Importer
from imaged.content.blobs import ContentStore
from imaged.content.ingest import Ingests
from imaged.content.leases import Leases
from imaged.content.partial import Partials
from imaged.images.names import Images
from imaged.metrics import PullMetrics
from imaged.registry.auth import Tokens
from imaged.registry.endpoints import Endpoints, RegistryConfig
from imaged.registry.login import Login
from imaged.registry.retry import RetryPolicy
from imaged.registry.source import Sources
from imaged.registry.transport import Transport
from imaged.transfer.blob_fetch import Means
from imaged.transfer.download import Downloads
from imaged.transfer.pull import Puller
from imaged.transfer.slots import Slots
from sampan.oci.platform import Platform
from sampan.oci.reference import parse_reference
from sampan.resource.image import ANONYMOUS, Credentials, Imported
from sampan.resource.transfer import Fetched, FetchResolved, FetchStep
from sampan.store.database import Store
from tests.fakes.registry import FakeRegistry
from tests.support.images import Entry, tar


@dataclass
class Clock:
    """Time that passes when a test says so."""

    ns: int = 1_700_000_000 * 10**9

    def __call__(self) -> int:
        return self.ns

    def advance(self, seconds: float) -> None:
        self.ns += int(seconds * 1e9)


@dataclass
class Parts:
    """Everything, ready to use."""

    root: Path
    clock: Clock
    store: Store
    content: ContentStore
    ingests: Ingests
    leases: Leases
    puller: Puller
    images: Images
    importer: Importer
    login: Login
    metrics: CollectorRegistry
    partials: Partials
    downloads: Downloads
    sources: Sources

    async def fetch(
        self,
        reference: str,
        platform: Platform | None = None,
        credentials: Credentials = ANONYMOUS,
        *,
        any_single: bool = False,
    ) -> tuple[FetchResolved, list[FetchStep], Fetched]:
        """Fetch and return all steps."""
        name = parse_reference(reference).with_default_tag()
        async with aclosing(self.puller.fetch(name, platform, credentials, any_single=any_single)) as running:
            steps = [step async for step in running]
        resolved, *layers, fetched = steps
        assert isinstance(resolved, FetchResolved)
        assert isinstance(fetched, Fetched)
        return resolved, [step for step in layers if isinstance(step, FetchStep)], fetched

    async def pull(self, reference: str) -> Fetched:
        """Fetch and name."""
        resolved, _, fetched = await self.fetch(reference)
        await self.images.create(resolved.reference, fetched.target, resolved.lease, None)
        return fetched

    async def pull_image(self, registry: FakeRegistry, repository: str, tag: str, content: bytes = b"layer") -> Fetched:
        """Put an image of one layer into a registry and pull it."""
        registry.add_image(repository, tag, content)
        return await self.pull(f"{registry.address}/{repository}:{tag}")

    async def import_image(self, reference: str, content: bytes = b"hello", changes: Sequence[str] = ()) -> Imported:
        """Make an image of a tar with one file, and name it if ``reference`` is not empty."""

        async def chunks() -> AsyncIterator[bytes]:
            yield tar(Entry("file", content))

        imported = await self.importer.run(chunks(), changes, "", None)
        name = parse_reference(reference) if reference else None
        await self.images.create(name, imported.target, imported.lease, None)
        return imported

    def blobs(self) -> set[str]:
        """Digests of the files that are there."""
        return {f"sha256:{path.name}" for path in (self.root / "blobs/sha256").iterdir()}

    def leftovers(self) -> list[str]:
        """Files of writes that are not over."""
        return [path.name for kind in ("ingests", "partials") for path in (self.root / kind).iterdir()]


@asynccontextmanager
async def imaged_parts(
    root: Path,
    registries: Iterable[RegistryConfig] = (),
    *,
    stall_timeout_s: float = 5.0,
    slots: tuple[int, int] = (16, 8),
    attempts: int = 3,
    certs_dirs: Iterable[Path] = (),
    lease_s: float = 3600.0,
) -> AsyncIterator[Parts]:
    """Start like the service: recover first."""
    root.mkdir(exist_ok=True)
    clock = Clock()
    async with Store(root / "metadata.db", "imaged.schema", durable=False) as store:
        content = ContentStore(root, store, clock)
        ingests = Ingests(root, content, clock)
        partials = Partials(root, 24 * 3600.0, lambda: clock() / 1e9)
        leases = Leases(store, content, lease_s, clock)
        await ingests.recover()
        await leases.recover()
        await content.recover()
        await partials.recover()
        transport = Transport(stall_timeout_s=stall_timeout_s)
        retry = RetryPolicy(attempts=attempts, base_s=0.001)
        registry = CollectorRegistry()
        metrics = PullMetrics(registry)
        sources = Sources(Endpoints(registries, certs_dirs), transport, Tokens(transport), retry, metrics.retry)
        means = Means(Slots(*slots), retry, metrics)

        async def make_room() -> bool:
            freed = await partials.reclaim()
            return bool((await leases.end_abandoned())[0]) or freed

        downloads = Downloads(content, partials, make_room, means)
        try:
            async with leases, partials:
                yield Parts(
                    root,
                    clock,
                    store,
                    content,
                    ingests,
                    leases,
                    Puller(sources, content, leases, downloads, metrics),
                    Images(store, content, clock),
                    Importer(content, ingests, leases, clock),
                    Login(sources),
                    registry,
                    partials,
                    downloads,
                    sources,
                )
        finally:
            await transport.close()
