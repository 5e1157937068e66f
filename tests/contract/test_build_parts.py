"""The parts of a builder, on fakes, and the fakes themselves keep the contracts."""

from collections.abc import AsyncIterator, Collection
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from buildd.build.bridge import BuildBridge, ImageConfigs
from buildd.build.capabilities import LLB
from buildd.build.judging import SourceJudge
from buildd.build.protocol import Cache, ImportedCaches
from buildd.build.updates import Updates
from buildd.exporters.protocol import BuildResult, Exporters
from buildd.protocol import Directory, FileWorker, ProcessError, Sources, StepContext, Tree
from buildd.remote_cache.imports import CacheImports
from buildd.session.clients import Clients
from buildd.session.protocol import SessionInfo
from buildd.solver.context import VertexProgress, Work
from buildd.sources.sources import Stores, open_sources
from buildd.wire.llb.graphs import Graphs
from sampan.build.policy import SourcePolicy
from sampan.build.progress import Vertex, VertexWarning
from sampan.errors import NotFoundError
from sampan.resource.image import Layer
from tests.contract.build_files import FileParts, FileWorkerContract
from tests.contract.build_parts import (
    BASE,
    STEP,
    BridgeContract,
    BridgeParts,
    CacheContract,
    ExecutorContract,
    ExecutorParts,
    ExportersContract,
    ImportedCachesContract,
    ProgressContract,
    ProgressParts,
    SourcesContract,
    StepContextContract,
    StepParts,
    TreeParts,
    TreesContract,
)
from tests.fakes.build_bridge import FakeBuildBridge, image_config
from tests.fakes.build_sessions import FakeSession, FakeSessions
from tests.fakes.build_stores import FakeStep, FakeStore
from tests.fakes.buildd import (
    FakeExecutor,
    FakeFileWorker,
    FakeKeeper,
    FakeProgress,
    FakeSources,
    FakeTrees,
    FakeWorld,
    image,
)
from tests.fakes.exporters import FakeExporters
from tests.fakes.steps import RunningStep
from tests.unit.buildd.build.building import FakeCache, FakeCaches, ImageSources
from tests.unit.buildd.cache.test_prune import BASE as BASE_RECORD
from tests.unit.buildd.cache.test_prune import FakeShelf, cache
from tests.unit.buildd.executor.executing import yard
from tests.unit.buildd.exporters.exporting import Room
from tests.unit.buildd.solver.solving import bench
from tests.unit.buildd.sources.clients import FakeContext, FlattenedFiles
from tests.unit.buildd.sources.imaged import FakeImaged

if TYPE_CHECKING:
    from buildd.build.bridge import Forwarder
    from buildd.remote_cache.imports import RemoteImages


def work() -> StepParts:
    made, view = Work(), VertexProgress(Vertex(STEP, "RUN"), FakeProgress(), lambda: 1)
    made.join(view, ["one", "other"])
    return StepParts(made, lambda: made.leave(view))


class TestUpdates(ProgressContract):
    @pytest.fixture
    def parts(self) -> ProgressParts:
        updates = Updates(lambda: 1)
        return ProgressParts(updates, lambda: updates.kept)


class TestFakeProgress(ProgressContract):
    @pytest.fixture
    def parts(self) -> ProgressParts:
        progress = FakeProgress()
        return ProgressParts(progress, lambda: progress.updates)


class TestWork(StepContextContract):
    @pytest.fixture
    async def parts(self) -> StepParts:
        return work()


class TestFakeContext(StepContextContract):
    @pytest.fixture
    def parts(self) -> StepParts:
        context = FakeContext("one", "other")
        return StepParts(context, context.__aexit__)


class TestBuildBridge(BridgeContract):
    @pytest.fixture
    async def parts(self, tmp_path: Path) -> AsyncIterator[BridgeParts]:
        async with bench(tmp_path) as made, made.build() as (build, progress):
            images = ImageConfigs(build, ImageSources(made.world), SourceJudge(SourcePolicy()).allowed)
            graphs = Graphs(LLB)
            bridge = BuildBridge(build, graphs, made.files, images, progress, cast("Forwarder", None), ())
            updates = progress.updates

            def warned() -> list[tuple[str, str]]:
                return [(each.warning.message, each.file_name) for each in updates if isinstance(each, VertexWarning)]

            yield BridgeParts(bridge, image("local://context"), warned)


class TestFakeBuildBridge(BridgeContract):
    @pytest.fixture
    def parts(self) -> BridgeParts:
        fake = FakeBuildBridge({"local://context": {"app/main.py": b"print()"}}, {BASE: image_config()})

        def warned() -> list[tuple[str, str]]:
            files = sorted(each.name for each in fake.sources_warned_of)
            return list(zip((each.message for each in fake.warnings), files, strict=True))

        return BridgeParts(fake, image("local://context"), warned)


class TestBuildSources(SourcesContract):
    @pytest.fixture
    def step(self) -> StepParts:
        context = FakeContext("s1")
        return StepParts(context, context.__aexit__)

    @pytest.fixture
    async def sources(self, tmp_path: Path, step: StepParts) -> AsyncIterator[Sources]:
        imaged = FakeImaged()
        sessions = FakeSessions(FakeSession(SessionInfo("s1"), {"context": {"a": "A"}}))
        stores = Stores(imaged, imaged, imaged)  # type: ignore[arg-type]  # the parts that are used
        files = cast("FileWorker", FlattenedFiles())
        async with open_sources(tmp_path, stores, files, sessions, FakeKeeper()) as (sources, _):
            yield sources
            await step.leave()


class TestFakeSources(SourcesContract):
    @pytest.fixture
    def step(self) -> StepParts:
        return work()

    @pytest.fixture
    async def sources(self, step: StepParts) -> AsyncIterator[Sources]:
        sources = FakeSources(FakeWorld(), directories={"local://context": Path("/context")})
        yield sources
        await step.leave()
        assert sources.held == []


class TestStepExecutor(ExecutorContract):
    @pytest.fixture
    async def parts(self, tmp_path: Path) -> AsyncIterator[ExecutorParts]:
        async with yard(tmp_path) as made:

            def behave(command: str, written: dict[str, bytes], code: int) -> None:
                async def program(step: RunningStep) -> int:
                    made.trees.written[step.spec.root].update(written)
                    return code

                made.steps.programs[command] = program

            context = made.context()
            yield ExecutorParts(made.executor, context, made.base, behave, made.world.files)
            await context.holding.release()


class TestFakeExecutor(ExecutorContract):
    @pytest.fixture
    def parts(self) -> ExecutorParts:
        world = FakeWorld()
        fake = FakeExecutor(world)

        def behave(command: str, written: dict[str, bytes], code: int) -> None:
            async def behaviour(_files: object, _context: StepContext) -> dict[str, bytes]:
                if code:
                    raise ProcessError(f"it did not complete successfully: exit code: {code}", code)
                return written

            fake.behaviours[command] = behaviour

        return ExecutorParts(fake, work().context, world.tree({"bin/sh": b"shell"}), behave, world.files)


class TestBuildExporters(ExportersContract):
    @pytest.fixture
    def room(self, tmp_path: Path) -> Room:
        return Room(tmp_path)

    @pytest.fixture
    def exporters(self, room: Room) -> Exporters:
        return room.exporters

    @pytest.fixture
    def result(self, room: Room) -> BuildResult:
        return BuildResult({"": room.store.add("base")}, {"containerimage.config": image_config()})

    @pytest.fixture
    def step(self, room: Room) -> StepContext:
        return room.step


class TestFakeExporters(ExportersContract):
    @pytest.fixture
    def exporters(self) -> Exporters:
        return FakeExporters()

    @pytest.fixture
    def result(self) -> BuildResult:
        return BuildResult({"": None})

    @pytest.fixture
    def step(self) -> StepContext:
        return FakeStep()


class TestBuildCache(CacheContract):
    @pytest.fixture
    def cache(self, tmp_path: Path) -> Cache:
        return cache(tmp_path, FakeShelf([BASE_RECORD]))


class TestFakeCache(CacheContract):
    @pytest.fixture
    def cache(self) -> Cache:
        return FakeCache()


class Nowhere:
    """A registry that has no caches."""

    async def bring(self, reference: str, *_: object) -> object:
        raise NotFoundError(f"{reference}: not found")


async def believe(tree: Tree, trusted: Collection[Layer]) -> None:
    assert not tree.layers or trusted is not None


class TestCacheImports(ImportedCachesContract):
    @pytest.fixture
    def step(self) -> StepContext:
        return FakeStep()

    @pytest.fixture
    async def caches(self) -> AsyncIterator[ImportedCaches]:
        async with CacheImports(
            cast("RemoteImages", Nowhere()),
            FakeStore(),
            Clients(FakeSessions()),
            lambda: nullcontext("lease"),
            believe,
        ) as made:
            yield made


class TestFakeCaches(ImportedCachesContract):
    @pytest.fixture
    def step(self) -> StepContext:
        return FakeStep()

    @pytest.fixture
    def caches(self) -> ImportedCaches:
        return FakeCaches()


class TestFakeTrees(TreesContract):
    @pytest.fixture
    def parts(self) -> TreeParts:
        world = FakeWorld()
        trees = FakeTrees(world)

        async def write(key: str) -> None:
            trees.written[key]["made"] = b"1"

        return TreeParts(trees, world.tree({"base": b""}), write)


class TestFakeFileWorker(FileWorkerContract):
    @pytest.fixture
    def parts(self) -> FileParts:
        world = FakeWorld()

        def directory(files: dict[str, bytes]) -> Directory:
            made = Directory(Path(f"/directory-{len(world.directories)}"))
            world.directories[made.path] = files
            return made

        return FileParts(FakeFileWorker(world), directory, work().context)
