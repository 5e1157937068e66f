"""A solver with fakes behind it."""

import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from buildd.cache.results import Results
from buildd.llb.ops import Edge
from buildd.meter import UNMETERED, Meter
from buildd.solver.build import Asker, Build, Imports
from buildd.solver.shared import Parts
from buildd.solver.solver import Solver
from sampan.oci.platform import Platform
from sampan.store.database import Store
from tests.fakes.buildd import FakeExecutor, FakeFileWorker, FakeKeeper, FakeProgress, FakeSources, FakeTrees, FakeWorld


@dataclass(slots=True)
class Bench:
    """A solver, and all that it works with. ``docker-image://base`` and ``local://context`` are known."""

    store: Store
    meter: Meter = UNMETERED
    world: FakeWorld = field(default_factory=FakeWorld)
    keeper: FakeKeeper = field(default_factory=FakeKeeper)
    times: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    reached: int = 0  # how often the solver has waited for a service to be back
    sources: FakeSources = field(init=False)
    files: FakeFileWorker = field(init=False)
    executor: FakeExecutor = field(init=False)
    results: Results = field(init=False)
    solver: Solver = field(init=False)

    def __post_init__(self) -> None:
        base = self.world.tree({"bin/sh": b"shell"})
        self.world.directories[Path("/context")] = {"app/main.py": b"print()", "README": b"read me"}
        self.sources = FakeSources(self.world, {"docker-image://base": base}, {"local://context": Path("/context")})
        self.files = FakeFileWorker(self.world)
        self.executor = FakeExecutor(self.world)
        self.results = Results(self.store, self.keeper, lambda: next(self.times))
        parts = Parts(
            sources=self.sources,
            files=self.files,
            trees=FakeTrees(self.world),
            executor=self.executor,
            results=self.results,
            platform=Platform("linux", "amd64"),
            now_ns=lambda: next(self.times),
            reach=self.reach,
            meter=self.meter,
        )
        self.solver = Solver(parts)

    async def reach(self) -> None:
        self.reached += 1

    @asynccontextmanager
    async def build(
        self,
        ref: str = "build",
        *,
        entitlements: Sequence[str] = (),
        ignore_cache: bool = False,
        imports: Imports | None = None,
    ) -> AsyncIterator[tuple[Build, FakeProgress]]:
        progress = FakeProgress()
        granted = frozenset(entitlements)
        asker = Asker(ref, progress, (f"session of {ref}",), granted, ignore_cache, imports=imports)
        async with self.solver.open(asker) as build:
            yield build, progress

    async def solve(
        self, edge: Edge, *, entitlements: Sequence[str] = (), ignore_cache: bool = False
    ) -> tuple[dict[str, bytes], FakeProgress]:
        """Build once; return the files, and what progress has shown."""
        async with self.build(entitlements=entitlements, ignore_cache=ignore_cache) as (build, progress):
            output = await build.solve(edge)
            return self.world.files(output), progress


@asynccontextmanager
async def bench(path: Path, meter: Meter = UNMETERED) -> AsyncIterator[Bench]:
    async with Store(path / "cache.db", "buildd.schema", durable=False) as store:
        made = Bench(store, meter)
        try:
            yield made
        finally:
            await made.solver.close()
