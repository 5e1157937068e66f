"""What runs builds, put together and recovered: trees, files, cache, executor and solver.

<data>/cache-mounts/     directories of cache mounts
<run>/files/             where file workers mount, each for itself
<run>/ssh/               sockets that lead to clients' agents, while steps run
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from buildd.cache.bounds import Bounds
from buildd.cache.collector import BuildCache
from buildd.cache.keeper import Keeper, LeaseKeeper
from buildd.cache.model import Shelf
from buildd.cache.mounts import CacheMounts
from buildd.cache.results import Results
from buildd.executor.executor import StepExecutor
from buildd.executor.granted import AttachedSessions, Granted
from buildd.executor.mounts import Makers
from buildd.executor.platforms import HostPlatforms
from buildd.fileworker.conversation import Workers
from buildd.fileworker.files import Files
from buildd.freezes import Freezes
from buildd.meter import UNMETERED, Meter
from buildd.protocol import Sources
from buildd.solver.shared import Parts
from buildd.solver.solver import Solver
from buildd.trees import SnapshotTrees
from sampan.layout import Layout
from sampan.oci.platform import host_platform
from sampan.resource.protocols import Steps
from sampan.resource.storage.images import Images, Leases
from sampan.resource.storage.snapshots import Differ, Layers, Snapshots
from sampan.services import RESTART_S
from sampan.store.database import Store
from sampan.sys.processes import most_processes

SERVICE = "buildd"

S = TypeVar("S", bound=Sources)


class Runtime(Protocol):
    """What is needed of runtimed."""

    @property
    def steps(self) -> Steps:
        """Processes of steps."""


class Engine(Protocol):
    """The engine's other services, as ``sampan.client.services.Services`` has them."""

    @property
    def images(self) -> Images:
        """Images."""

    @property
    def leases(self) -> Leases:
        """Lasting leases."""

    @property
    def layers(self) -> Layers:
        """Layers."""

    @property
    def snapshots(self) -> Snapshots:
        """Snapshots."""

    @property
    def differ(self) -> Differ:
        """What makes layers of snapshots."""

    @property
    def runtime(self) -> Runtime:
        """runtimed."""

    async def reach(self, deadline_s: float) -> None:
        """Return when all of them can be called. UnavailableError: one cannot by the deadline."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How much builds may take."""

    max_parallelism: int = 0  # processes of steps at the same time; 0: twice the processors, four at least
    bounds: Bounds | None = None  # of the build cache; None: nothing is pruned by itself
    defer_bytes: int = 0  # layers of that size get a blob when somebody needs one; 0: all get one at once
    max_processes: int = 0  # of one step, threads among them; 0: half of what the system allows; -1: any number

    def executor(
        self, steps: Steps, makers: Makers, platforms: HostPlatforms, reach: Callable[[], Awaitable[None]]
    ) -> StepExecutor:
        """Return what runs steps within these bounds."""
        parallelism = self.max_parallelism or max(4, 2 * len(os.sched_getaffinity(0)))
        most = self.max_processes or most_processes() // 2
        return StepExecutor(steps, makers, platforms, parallelism, reach, most)


# Says when records of the cache were made, by their IDs: see ``Results``.
Created: TypeAlias = Callable[[Collection[str]], Awaitable[Mapping[str, int]]]


@dataclass(frozen=True, slots=True)
class Assembled(Generic[S]):
    """What builds are made with."""

    solver: Solver
    cache: BuildCache
    files: Files
    trees: SnapshotTrees
    sources: S
    executor: StepExecutor
    platforms: HostPlatforms
    created: Created


@asynccontextmanager
async def assemble(
    engine: Engine,
    layout: Layout,
    store: Store,
    sessions: AttachedSessions,
    open_sources: Callable[[Files, Keeper], AbstractAsyncContextManager[tuple[S, Sequence[Shelf]]]],
    settings: Settings,
    meter: Meter = UNMETERED,
) -> AsyncIterator[Assembled[S]]:
    """Put everything together, recover what the last life of the service has left, and yield it until it is closed.

    Args:
        engine: the services that this one needs.
        layout: where its directories are.
        store: its rows, with the schema ``buildd.schema``.
        sessions: those of builds' clients.
        open_sources: yields the sources of builds, and what they keep as a part of the build cache.
        settings: how much builds may take.
        meter: is told what they do.

    Raises:
        UnavailableError: another service does not answer.
    """

    def reach() -> Awaitable[None]:
        return engine.reach(RESTART_S)

    data, run = layout.data(SERVICE), layout.run(SERVICE)
    scratch = run / "files"
    await asyncio.to_thread(scratch.mkdir, parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:  # closes in reverse: builds first, rows last
        keeper = await stack.enter_async_context(LeaseKeeper(engine.leases, engine.layers, reach))
        freezes = Freezes(engine, settings.defer_bytes)
        trees = SnapshotTrees(engine, freezes)
        stack.push_async_callback(trees.close)
        workers = Workers(scratch)
        stack.push_async_callback(workers.close)
        files = Files(trees, workers)
        results = Results(store, keeper, time.time_ns)
        mounts = CacheMounts(data / "cache-mounts", store, files, time.time_ns)
        granted = Granted(sessions, run / "ssh")
        await asyncio.to_thread(granted.recover)
        await trees.recover()
        await results.recover()
        await mounts.recover()
        sources, kept = await stack.enter_async_context(open_sources(files, keeper))
        shelves: tuple[Shelf, ...] = (results, mounts, *kept)

        cache = BuildCache(
            shelves, engine.layers, engine.images, data, time.time_ns, settings.bounds, meter=meter, reach=reach
        )
        await stack.enter_async_context(cache)
        platforms = HostPlatforms(host_platform())
        makers = Makers(trees, files, granted, mounts)
        executor = settings.executor(engine.runtime.steps, makers, platforms, reach)
        parts = Parts(
            sources=sources, files=files, trees=trees, executor=executor, results=results, platform=platforms.host,
            now_ns=time.time_ns, reach=reach, meter=meter,
        )  # fmt: skip

        def after_build() -> None:
            cache.poke()
            if not solver.running:
                files.forget()
                freezes.give_up_rest()

        solver = Solver(parts, after_build)
        stack.push_async_callback(solver.close)
        yield Assembled(solver, cache, files, trees, sources, executor, platforms, results.created)
