"""The builder's wiring and life; the only file that knows every room."""

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from buildd.build.builds import Builds, Parts
from buildd.build.caching import Caches
from buildd.build.capabilities import LLB, describe
from buildd.cache.collector import Bounds, BuildCache
from buildd.cache.keeper import LeaseKeeper
from buildd.cache.mounts import CacheMounts
from buildd.cache.results import Results
from buildd.executor.executor import StepExecutor
from buildd.executor.granted import Granted
from buildd.executor.mounts import Makers
from buildd.executor.platforms import HostPlatforms
from buildd.exporters.exporters import BuildExporters
from buildd.fileworker.conversation import Workers
from buildd.fileworker.files import Files
from buildd.frontend.frontend import DockerfileFrontend
from buildd.remote_cache.exports import CacheExports
from buildd.remote_cache.imports import CacheImports
from buildd.session.registry import AttachedSessions
from buildd.solver import shared
from buildd.solver.build import NETWORK_HOST, SECURITY_INSECURE
from buildd.solver.solver import Solver
from buildd.sources.sources import Stores, open_sources
from buildd.trees import SnapshotTrees
from buildd.wire.llb.graphs import Graphs
from buildd.wire.services.control_servicer import ControlServicer
from buildd.wire.services.gateway_servicer import GatewayServicer
from buildd.wire.session.session import ServedSession
from sampan.client.content import ContentClient
from sampan.client.leases import LeasesClient
from sampan.client.services import Services
from sampan.oci.platform import host_platform
from sampan.service.config import ServiceConfig, option
from sampan.service.harness import Service, run

_REACH_S: Final = 20.0  # the services that this one needs start before it


@dataclass(frozen=True, slots=True)
class Config(ServiceConfig):
    """What the builder can be told."""

    allow_network_host: bool = option(default=True, help="let a build's client grant it the host's network")
    allow_security_insecure: bool = option(default=False, help="let a build's client grant it all rights on the host")
    max_parallelism: int = option(8, "most processes of steps that run at the same time")
    cache_reserved_bytes: int = option(0, "bytes of build cache that stay in any case; 0: by the disk's size")
    cache_max_bytes: int = option(0, "most bytes of build cache; 0: by the disk's size")
    cache_min_free_bytes: int = option(0, "bytes of the disk that the build cache leaves free; 0: by its size")


async def build(service: Service[Config]) -> None:
    """Build, recover and register everything."""
    config, layout, stack = service.config, service.layout, service.stack
    data, run_root = layout.data("buildd"), layout.run("buildd")
    engine = await stack.enter_async_context(Services.connect(layout))
    await engine.reach(_REACH_S)
    store = await service.open_store(data / "cache.db", "buildd.schema")
    sessions = AttachedSessions(ServedSession)
    trees = SnapshotTrees(engine)
    await trees.recover()
    stack.push_async_callback(trees.close)
    workers = Workers(_directory(run_root / "scratch"))
    stack.push_async_callback(workers.close)
    files = Files(trees, workers)
    results = Results(store, LeaseKeeper(LeasesClient(engine.channels["imaged"]), engine.layers), time.time_ns)
    await results.recover()
    content = ContentClient(engine.channels["imaged"])
    mounts = CacheMounts(data / "mounts", store, files, time.time_ns)
    await mounts.recover()
    sources, directories = await stack.enter_async_context(
        open_sources(data / "sources", Stores(engine.images, content, engine.layers), files, sessions)
    )
    bounds = Bounds(config.cache_reserved_bytes, config.cache_max_bytes, config.cache_min_free_bytes)
    cache = BuildCache((results, mounts, directories), engine.layers, engine.images, data, time.time_ns, bounds)
    await stack.enter_async_context(cache)
    platforms = HostPlatforms(host_platform())
    makers = Makers(trees, files, Granted(sessions, _directory(run_root / "agents")), mounts)
    solver = Solver(
        shared.Parts(
            sources=sources,
            files=files,
            trees=trees,
            executor=StepExecutor(engine.runtime.steps, makers, platforms, config.max_parallelism),
            results=results,
            platform=host_platform(),
            now_ns=time.time_ns,
        ),
        cache.poke,
    )
    stack.push_async_callback(solver.close)
    driver = (await engine.layers.drivers()).driver
    builds = Builds(
        Parts(
            solver=solver,
            sources=sources,
            files=files,
            exporters=BuildExporters(content, engine.images, trees, files, sessions),
            cache=cache,
            caches=Caches(
                lambda: CacheImports(sources.images, content, sessions),
                CacheExports(content, engine.images, sessions, time.time_ns),
            ),
            frontend=DockerfileFrontend(),
            graphs=lambda: Graphs(LLB),
            worker=describe(_identity(data / "id"), driver, platforms.runnable),
            allowed=_allowed(config),
            now_ns=time.time_ns,
        )
    )
    service.serve(ControlServicer(builds, sessions))
    service.serve(GatewayServicer(builds))


def _allowed(config: Config) -> frozenset[str]:
    asked = {NETWORK_HOST: config.allow_network_host, SECURITY_INSECURE: config.allow_security_insecure}
    return frozenset(name for name, allowed in asked.items() if allowed)


def _directory(path: Path) -> Path:
    path.mkdir(mode=0o700, exist_ok=True)
    return path


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
