"""An executor with fakes behind it."""

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from buildd.cache.mounts import CacheMounts
from buildd.executor.executor import StepExecutor
from buildd.executor.granted import Granted
from buildd.executor.mounts import Makers
from buildd.executor.platforms import HostPlatforms
from buildd.llb.ops import ExecOp, Mount, Process
from buildd.protocol import Output, Tree
from buildd.session.protocol import SessionInfo
from buildd.solver.context import VertexProgress, Work
from sampan.build.progress import Vertex
from sampan.build.step import SnapshotSource, StepMount, StepSpec
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.store.database import Store
from tests.fakes.build_sessions import FakeSession, FakeSessions
from tests.fakes.buildd import FakeFileWorker, FakeProgress, FakeTrees, FakeWorld
from tests.fakes.steps import FakeSteps, Program, RunningStep

ROOT = Mount("/", input=0, output=0)


@dataclass(slots=True)
class Yard:
    """An executor, and all that it works with. Programs find what they write into in ``trees.written``."""

    store: Store
    path: Path
    max_parallelism: int = 2
    reached: int = 0  # how often the other services were waited for
    programs: dict[str, Program] = field(default_factory=dict)
    world: FakeWorld = field(default_factory=FakeWorld)
    max_processes: int = 500
    client: FakeSession = field(default_factory=lambda: FakeSession(SessionInfo("client")))
    progress: FakeProgress = field(default_factory=FakeProgress)
    trees: FakeTrees = field(init=False)
    files: FakeFileWorker = field(init=False)
    steps: FakeSteps = field(init=False)
    caches: CacheMounts = field(init=False)
    executor: StepExecutor = field(init=False)
    base: Tree = field(init=False)

    def __post_init__(self) -> None:
        self.base = self.world.tree({"bin/sh": b"shell"})
        self.trees = FakeTrees(self.world)
        self.files = FakeFileWorker(self.world)
        self.steps = FakeSteps(self.trees.snapshots, self.programs)
        times = itertools.count(1)
        self.caches = CacheMounts(self.path / "mounts", self.store, self.files, lambda: next(times))
        granted = Granted(FakeSessions(self.client), self.path / "ssh")
        makers = Makers(self.trees, self.files, granted, self.caches)
        platforms = HostPlatforms(Platform("linux", "amd64"), self.path / "binfmt")
        self.executor = StepExecutor(
            self.steps, makers, platforms, self.max_parallelism, self._reach, self.max_processes
        )

    async def _reach(self) -> None:
        self.reached += 1

    def context(self) -> Work:
        work = Work()
        work.join(VertexProgress(Vertex(Digest.of(b"step"), "RUN"), self.progress, lambda: 1), ["gone", "client"])
        return work

    async def run(
        self, op: ExecOp, inputs: Sequence[Output] | None = None, platform: Platform | None = None
    ) -> Sequence[Tree]:
        work = self.context()
        try:
            return await self.executor.run(op, [self.base] if inputs is None else inputs, platform, work)
        finally:
            await work.holding.release()

    @property
    def spec(self) -> StepSpec:
        """What ran last."""
        return self.steps.ran[-1]

    def mount(self, target: str) -> StepMount:
        """A mount of what ran last."""
        (found,) = [each for each in self.spec.mounts if each.target == target]
        return found


def op(*mounts: Mount, command: str = "true", **process: object) -> ExecOp:
    return ExecOp(Process(tuple(command.split()), **process), (ROOT, *mounts))  # type: ignore[arg-type]


@asynccontextmanager
async def yard(path: Path) -> AsyncIterator[Yard]:
    async with Store(path / "cache.db", "buildd.schema", durable=False) as store:
        made = Yard(store, path)
        await made.caches.recover()
        yield made
        assert made.trees.snapshots == {}
        assert made.client.sockets == []


def writes(executing: Yard, name: str, data: bytes, into: str = "/") -> None:
    """Let the program ``write`` write a file where a mount is."""

    async def program(step: RunningStep) -> int:
        key = step.spec.root
        for mount in step.spec.mounts:
            if mount.target == into:
                assert isinstance(mount.source, SnapshotSource)
                key = mount.source.key
        executing.trees.written[key][name] = data
        return 0

    executing.steps.programs["write"] = program
