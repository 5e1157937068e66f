"""The builder's wiring and life; the only file that knows every room."""

import asyncio
import contextlib
import os
import secrets
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from buildd.assembly import SERVICE, Assembled, Settings, assemble
from buildd.build.builds import Builds, Parts
from buildd.build.caching import Caches
from buildd.build.capabilities import LLB, describe
from buildd.build.frontends import FrontendParts
from buildd.cache.collector import BuildCache
from buildd.configuration import Config
from buildd.exporters.exporters import BuildExporters
from buildd.exporters.layers import LayerConverter
from buildd.frontend.frontend import DockerfileFrontend
from buildd.history.history import History
from buildd.metrics import BuildMetrics
from buildd.remote_cache.exports import CacheExports
from buildd.remote_cache.imports import CacheImports
from buildd.remote_cache.proofs import LayerProofs
from buildd.session.attached import AttachedSessions
from buildd.session.clients import Clients
from buildd.sources.sources import BuildSources, Stores, open_sources
from buildd.wire.front import Front
from buildd.wire.llb.graphs import Graphs
from buildd.wire.services.content_servicer import HistoryContentServicer
from buildd.wire.services.control_servicer import ControlServicer
from buildd.wire.services.errors import error_status
from buildd.wire.services.gateway_servicer import GatewayServicer
from buildd.wire.services.history import UpdatesCodec
from buildd.wire.session.session import ServedSession
from sampan.build.request import NETWORK_HOST, SECURITY_INSECURE
from sampan.client.services import Services
from sampan.client.storage.content import ContentClient
from sampan.docker.options.namespaces import BRIDGE
from sampan.engine import publish
from sampan.errors import DatabaseDamagedError, DataLossError, SampanError
from sampan.handing.desk import Desk
from sampan.log import log
from sampan.service.check_servicer import DamagedHandler
from sampan.service.harness import Service, run
from sampan.store.database import Store
from sampan.sys.files import sync_directory

_REACH_S: Final = 20.0  # the services that this one needs start before it
_LOOK_S: Final = 1.0  # for the end, which somebody waits for


async def build(service: Service[Config]) -> None:
    """Build, recover and register everything.

    While the database of a service that this one needs is damaged, it serves nothing and says why: an engine has to
    start for `sampan system check --repair`.
    """
    try:
        await _build(service)
    except DatabaseDamagedError:  # its own
        raise
    except DataLossError as error:
        log.error("cannot work", error=str(error))
        service.server.add_generic_rpc_handlers((DamagedHandler(error),))
        engine = await service.stack.enter_async_context(Services.connect(service.layout))
        await engine.reach(_REACH_S)
        waiting = asyncio.create_task(_begin_anew(engine, service.stopping), name="wait for repair")
        service.stack.push_async_callback(asyncio.wait, {waiting})
        service.stack.callback(waiting.cancel)


async def _begin_anew(engine: Services, stopping: asyncio.Event) -> None:
    """Let this service begin anew when another one has, as each does whose database was repaired."""
    await engine.gone()
    stopping.set()


async def _build(service: Service[Config]) -> None:
    config, layout, stack = service.config, service.layout, service.stack
    config.name_proxies(os.environ)
    data = layout.data(SERVICE)
    last_words = _LastWords(layout.empty(SERVICE))
    stack.callback(last_words.leave)  # when everything is closed
    engine = await stack.enter_async_context(Services.connect(layout, waits=True))
    await engine.reach(_REACH_S)
    store = await service.open_store(data / "cache.db", "buildd.schema")
    stack.push_async_callback(last_words.find)  # while that is open, and nothing else that could add to it
    sessions = AttachedSessions(ServedSession)
    base = _Base(
        engine, ContentClient(engine.channels["imaged"]), store, sessions, Clients(sessions),
        BuildMetrics(service.metrics),
    )  # fmt: skip
    parts = await stack.enter_async_context(_assemble(service, base))
    last_words.cache = parts.cache
    driver = (await engine.layers.drivers()).driver
    bridge = await engine.runtime.networks.get(BRIDGE)
    layers = LayerConverter(base.content, engine, parts.files, data / "converted")
    await layers.recover()
    desk = Desk(layout.desk(SERVICE))
    stack.push_async_callback(desk.close)
    front = Front(sessions, desk)
    worker = describe(_identity(data / "id"), driver, bridge.pools[0].gateway, parts.platforms.runnable)
    builds = Builds(_parts(config, base, parts, layers, FrontendParts(parts.executor, front.serve_frontend, worker)))
    stack.push_async_callback(builds.close)
    service.end_when_idle(config.idle_s, lambda: bool(parts.solver.running) or parts.cache.is_due)
    service.serve(ControlServicer(builds))
    service.stand_before(front.listening)
    service.serve(GatewayServicer(builds))
    service.serve(HistoryContentServicer(builds))


@dataclass(frozen=True, slots=True)
class _Base:
    """What everything else is made of."""

    engine: Services
    content: ContentClient
    store: Store
    sessions: AttachedSessions
    clients: Clients
    metrics: BuildMetrics


def _assemble(service: Service[Config], base: _Base) -> AbstractAsyncContextManager[Assembled[BuildSources]]:
    config, engine = service.config, base.engine
    stores = Stores(engine.images, base.content, engine.layers)
    place = service.layout.data(SERVICE) / "sources"
    return assemble(
        engine,
        service.layout,
        base.store,
        base.sessions,
        lambda files, keeper: open_sources(place, stores, files, base.sessions, keeper, base.metrics),
        Settings(config.max_parallelism, config.bounds, config.defer_bytes, config.max_processes),
        base.metrics,
    )


def _parts(
    config: Config,
    base: _Base,
    parts: Assembled[BuildSources],
    layers: LayerConverter,
    frontends: FrontendParts,
) -> Parts:
    engine, content, clients = base.engine, base.content, base.clients
    proofs = LayerProofs(parts.trees, layers)
    return Parts(
        solver=parts.solver,
        sources=parts.sources,
        files=parts.files,
        exporters=BuildExporters(
            content,
            engine.images,
            parts.trees,
            parts.files,
            layers,
            clients,
            lambda image, names: publish.built(engine.runtime.events, image, names),
        ),
        cache=parts.cache,
        created=parts.created,
        caches=Caches(
            lambda: CacheImports(parts.sources.images, content, clients, engine.images.kept, proofs.prove),
            CacheExports(content, engine.images, layers, clients, time.time_ns),
        ),
        sessions=base.sessions,
        history=History(base.store, UpdatesCodec()),
        frontend=DockerfileFrontend(),
        frontends=frontends,
        graphs=lambda: Graphs(LLB),
        worker=frontends.worker,
        allowed=_allowed(config),
        failure=error_status,
        now_ns=time.time_ns,
        meter=base.metrics,
        ahead=parts.sources.local.ahead,
    )


class _LastWords:
    """Says, while the builder does not run, that it has nothing: it need not be started to be asked for that.

    Taken back before it has anything, and for good: a power cut does not bring it up again.
    """

    def __init__(self, path: Path) -> None:
        self.cache: BuildCache | None = None
        self._path = path
        self._has_nothing = False
        if path.exists():
            path.unlink()
            sync_directory(path.parent)

    async def find(self) -> None:
        """Find out what there is, at the end; what takes long to look through is something."""
        # A damaged database, or files that cannot be read, are the next start's to tell of.
        with contextlib.suppress(SampanError, OSError, TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                self._has_nothing = self.cache is not None and await self.cache.is_empty()

    def leave(self) -> None:
        """Say it, if it is so."""
        if self._has_nothing:
            with contextlib.suppress(OSError):  # a full disk: the builder is asked, then
                self._path.touch(0o600)


def _allowed(config: Config) -> frozenset[str]:
    asked = {NETWORK_HOST: config.allow_network_host, SECURITY_INSECURE: config.allow_security_insecure}
    return frozenset(name for name, allowed in asked.items() if allowed)


def _identity(path: Path) -> str:
    """Return the ID of this builder, made up when it starts for the first time."""
    if not path.exists():
        temporary = path.with_suffix(".tmp")
        temporary.write_text(secrets.token_hex(12))
        temporary.rename(path)
    return path.read_text().strip()


def main() -> int:
    """Run the service."""
    return run("buildd", Config, build)
