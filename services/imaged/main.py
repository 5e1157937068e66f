"""Put imaged together and run it."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from imaged.archive.importer import Importer
from imaged.archive.load import Loader
from imaged.archive.save import Saver
from imaged.check.check import ContentCheck
from imaged.check.rebuild import Rebuilder
from imaged.check.repair import Repairer
from imaged.content.blobs import ContentStore
from imaged.content.fd_passing import FdServer
from imaged.content.ingest import Ingests
from imaged.content.lasting import LastingLeases
from imaged.content.leases import Leases
from imaged.content.partial import Partials
from imaged.gc.collector import ContentCollector
from imaged.gc.usage import ContentUsage
from imaged.images.commit import Committer
from imaged.images.deferred import Completer
from imaged.images.names import Images
from imaged.metrics import PullMetrics
from imaged.push.metrics import PushMetrics
from imaged.push.push import Pusher, UploadMeans
from imaged.registry.auth import Tokens
from imaged.registry.endpoints import DOCKER_IO_HOST, Endpoints, RegistryConfig
from imaged.registry.login import Login
from imaged.registry.lookup import Lookup
from imaged.registry.manifests import Manifests
from imaged.registry.referrers import Referrers
from imaged.registry.retry import RetryPolicy
from imaged.registry.source import Sources
from imaged.registry.transport import Transport
from imaged.transfer.blob_fetch import Means
from imaged.transfer.download import Downloads
from imaged.transfer.pull import Puller
from imaged.transfer.slots import Slots
from imaged.wire.content_servicer import ContentServicer
from imaged.wire.images_servicer import ImagesServicer, Traffic
from imaged.wire.leases_servicer import LeasesServicer
from sampan.errors import InvalidArgumentError
from sampan.service import harness
from sampan.service.config import ProxyConfig, option, tables
from sampan.service.disk_servicer import DiskServicer
from sampan.service.passes import Passes
from sampan.store.database import Store


@dataclass(frozen=True, slots=True)
class ImagedConfig(ProxyConfig):
    """What imaged can be told."""

    parallel_uploads: int = option(5, "blobs that one push uploads at a time")
    parallel_downloads: int = option(3, "layers that one pull downloads at a time")
    connections_per_blob: int = option(3, "connections that share the download of one large blob, if they are free")
    connections_per_registry: int = option(8, "connections that download from one registry; see also [[registries]]")
    max_connections: int = option(16, "connections that download at the same time")
    download_attempts: int = option(5, "how often a broken download is tried")
    retry_base_s: float = option(1.0, "seconds before the second try; doubled for each further one")
    connect_timeout_s: float = option(10.0, "seconds to wait for a connection to a registry")
    stall_timeout_s: float = option(30.0, "seconds to wait for a registry that sends nothing")
    lease_s: float = option(120.0, "seconds that content without a name is kept for a client that has left")
    resume_s: float = option(86400.0, "seconds that what a broken pull fetched is kept for the next one")
    gc_interval_s: float = option(
        600.0, "seconds between passes of garbage collection; 0: at the start, and when asked"
    )
    certs_dirs: tuple[str, ...] = option(
        ("/etc/sampan/certs.d", "/etc/docker/certs.d"), "directories that hold <host>/*.crt, *.cert and *.key"
    )
    docker_io_host: str = option(DOCKER_IO_HOST, "the host behind the name docker.io")
    insecure_networks: tuple[str, ...] = option(
        (), "networks whose registries, if they are named by their addresses, are taken as insecure ones: 10.0.0.0/8"
    )
    registries: tuple[RegistryConfig, ...] = tables("what is special about a registry")


@dataclass(frozen=True, slots=True)
class _Stores:
    """What is on disk, recovered."""

    rows: Store
    content: ContentStore
    ingests: Ingests
    partials: Partials
    leases: Leases


async def _recover(service: harness.Service[ImagedConfig], root: Path) -> _Stores:
    config = service.config
    store = await service.open_store(root / "metadata.db", "imaged.schema")
    content = ContentStore(root, store)
    ingests = Ingests(root, content)
    partials = Partials(root, config.resume_s)
    leases = Leases(store, content, config.lease_s, abandoned_s=config.resume_s)
    set_aside = service.set_aside
    set_aside.count_in(service.metrics, ("lease", "blob", "ingest", "partial", "leftover"))
    await ingests.recover(set_aside)
    with set_aside.guard("lease", "all"):
        await leases.recover()
    if store.restored is not None and store.restored.lossy:
        await Rebuilder(store, content).run()
    await content.recover(set_aside)
    await partials.recover(set_aside)
    await service.stack.enter_async_context(leases)
    await service.stack.enter_async_context(partials)
    return _Stores(store, content, ingests, partials, leases)


async def build(service: harness.Service[ImagedConfig]) -> None:
    """Recover, and register what is served."""
    config, root = service.config, service.layout.data("imaged")
    _check(config)
    config.name_proxies(os.environ)
    endpoints = _endpoints(config)
    stores = await _recover(service, root)
    store, content, leases = stores.rows, stores.content, stores.leases
    ingests, partials = stores.ingests, stores.partials

    fd_server = FdServer(service.layout.blobs_socket, content, ingests)
    service.stack.push_async_callback(fd_server.close)
    transport = Transport(connect_timeout_s=config.connect_timeout_s, stall_timeout_s=config.stall_timeout_s)
    service.stack.push_async_callback(transport.close)
    retry = RetryPolicy(config.download_attempts, config.retry_base_s)
    tokens = Tokens(transport)
    metrics = PullMetrics(service.metrics)
    sources = Sources(endpoints, transport, tokens, retry, metrics.retry)
    slots = Slots(config.max_connections, config.connections_per_registry)
    means = Means(slots, retry, metrics, config.connections_per_blob)

    async def make_room() -> bool:
        freed = await partials.reclaim()
        ended, _ = await leases.end_abandoned()
        return bool(ended) or freed

    downloads = Downloads(content, partials, make_room, means)
    puller = Puller(sources, content, leases, downloads, metrics, parallel=config.parallel_downloads)
    service.stack.push_async_callback(puller.close)
    importer = Importer(content, ingests, leases)
    images = Images(store, content)
    pusher = Pusher(
        store,
        content,
        leases,
        sources,
        UploadMeans(transport, tokens, retry, PushMetrics(service.metrics)),
        parallel=config.parallel_uploads,
    )
    service.stack.push_async_callback(pusher.close)

    def reload(anew: ImagedConfig) -> None:
        _check(anew)
        endpoints.become(_endpoints(anew))
        transport.reread_certificates()
        puller.parallel, pusher.parallel = anew.parallel_downloads, anew.parallel_uploads

    service.reloads.append(reload)
    traffic = Traffic(
        pusher,
        Saver(images, content, leases),
        Loader(store, content, ingests, leases),
        Committer(images, store, content, leases),
        Lookup(sources, endpoints, transport),
        Completer(store, content),
        Manifests(sources, transport, tokens, retry),
        Referrers(sources),
    )
    repairer = Repairer(store, content, leases, sources, downloads)
    service.checkers.append(ContentCheck(store, content, repairer))
    servicer = ImagesServicer(images, puller, importer, leases, Login(sources), traffic, service.stopping)

    usage = ContentUsage(root, store, content, ingests, partials, keep_s=config.resume_s, now_ns=time.time_ns)
    collector = ContentCollector(store, content, ingests, partials, leases, usage, keep_s=config.resume_s)
    passes = await service.stack.enter_async_context(Passes(collector, service.metrics, config.gc_interval_s))

    lasting = LeasesServicer(LastingLeases(store, content))
    for each in (DiskServicer(collector, passes), ContentServicer(content, ingests), servicer, lasting):
        service.serve(each)


def _endpoints(config: ImagedConfig) -> Endpoints:
    return Endpoints(
        config.registries,
        [Path(path) for path in config.certs_dirs],
        config.docker_io_host,
        config.insecure_networks,
    )


def _check(config: ImagedConfig) -> None:
    """Raise InvalidArgumentError for numbers that make no sense."""
    for name in (
        "parallel_downloads",
        "connections_per_blob",
        "connections_per_registry",
        "max_connections",
        "parallel_uploads",
        "download_attempts",
    ):
        if getattr(config, name) < 1:
            raise InvalidArgumentError(f"{name} is {getattr(config, name)}, the least is 1")
    for name in ("retry_base_s", "connect_timeout_s", "stall_timeout_s", "lease_s", "resume_s"):
        if getattr(config, name) <= 0:
            raise InvalidArgumentError(f"{name} is {getattr(config, name)}: it must be more than 0")
    if config.gc_interval_s < 0:
        raise InvalidArgumentError(f"gc_interval_s is {config.gc_interval_s}, the least is 0")


def main() -> int:
    """Run the service."""
    return harness.run("imaged", ImagedConfig, build)
