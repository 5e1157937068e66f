"""Behaviours that the parts of a builder owe each other: for the real ones, and for the fakes of unit tests."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from buildd.build.protocol import Cache, ImportedCaches
from buildd.executor.protocol import Executor, Program
from buildd.exporters.protocol import BuildResult, Exporters
from buildd.llb.ops import Edge, ExecOp, Mount, Process, SourceOp
from buildd.protocol import (
    Bridge,
    Directory,
    Files,
    ImageQuery,
    Output,
    ProcessError,
    Progress,
    Remains,
    SourceFile,
    Sources,
    StepContext,
    Tree,
    Trees,
    WritableTree,
)
from sampan.build.progress import BuildWarning, Update, Vertex, VertexLog
from sampan.build.request import CacheOption, Export, PruneOptions
from sampan.build.step import StepExit, StepStarted
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError
from sampan.oci.chain import chain_ids
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform

AMD64 = Platform("linux", "amd64")
BASE = "docker.io/library/base:latest"
BLOB = b"a blob of the client's"
STEP = Digest.of(b"step")


@dataclass(frozen=True, slots=True)
class ProgressParts:
    progress: Progress
    told: Callable[[], Sequence[Update]]


class ProgressContract:
    """Of ``protocol.Progress``; subclass with a fixture ``parts``."""

    promises: tuple[type, ...] = (Progress,)

    def test_updates_are_kept_in_order(self, parts: ProgressParts) -> None:
        updates: list[Update] = [
            Vertex(STEP, "RUN"),
            VertexLog(STEP, 1, b"said\n", 1),
            Vertex(STEP, "RUN", started_ns=1),
        ]
        for update in updates:
            parts.progress.report(update)
        assert list(parts.told()) == updates


@dataclass(frozen=True, slots=True)
class StepParts:
    context: StepContext  # of the sessions "one" and "other"
    leave: Callable[[], Awaitable[object]]  # the last build needs it no more


class StepContextContract:
    """Of ``protocol.StepContext``; subclass with a fixture ``parts``."""

    promises: tuple[type, ...] = (StepContext,)

    async def test_it_knows_its_vertex_and_its_sessions_the_first_one_s_first(self, parts: StepParts) -> None:
        assert parts.context.vertex == parts.context.vertex
        assert list(parts.context.sessions()) == ["one", "other"]
        parts.context.log(b"said")
        parts.context.status("part", current=1, total=2)
        parts.context.status("part", current=2, total=2, done=True)

    async def test_what_is_held_stays_until_nobody_needs_it(self, parts: StepParts) -> None:
        entered: list[str] = []

        @asynccontextmanager
        async def held() -> AsyncIterator[Output]:
            entered.append("in")
            yield Directory(Path("/held"))
            entered.append("out")

        assert await parts.context.hold(held()) == Directory(Path("/held"))
        assert entered == ["in"]
        await parts.leave()
        assert entered == ["in", "out"]

    async def test_what_a_step_leaves_behind_stays_until_nobody_needs_it(self, parts: StepParts) -> None:
        gone: list[str] = []

        async def let_go() -> None:
            gone.append("gone")

        await parts.context.leave_behind([Remains(Tree(), None)], let_go)
        assert gone == []
        await parts.leave()
        assert gone == ["gone"]

    async def test_what_cannot_be_entered_is_told(self, parts: StepParts) -> None:
        @asynccontextmanager
        async def held() -> AsyncIterator[Output]:
            raise NotFoundError("gone")
            yield Tree()

        with pytest.raises(NotFoundError, match="gone"):
            await parts.context.hold(held())


@dataclass(frozen=True, slots=True)
class BridgeParts:
    bridge: Bridge  # it knows the config of ``BASE``
    context: Edge  # has app/main.py, which is ``print()``
    warned: Callable[[], Sequence[tuple[str, str]]]  # of what, and in which file, clients have been told


class BridgeContract:
    """Of ``protocol.Bridge`` and the ``Files`` that it gives; subclass with a fixture ``parts``."""

    promises: tuple[type, ...] = (Bridge, Files)

    async def test_files_of_a_graph_are_read_whole_or_in_part(self, parts: BridgeParts) -> None:
        files = await parts.bridge.solve(parts.context)
        assert await files.read_file("app/main.py") == b"print()"
        assert await files.read_file("/app/main.py", 5) == b"print"
        with pytest.raises(NotFoundError):
            await files.read_file("app/nosuch")

    async def test_a_config_is_that_of_the_image(self, parts: BridgeParts) -> None:
        found = await parts.bridge.resolve_config(ImageQuery(BASE, AMD64))
        assert found.reference == BASE
        assert b"rootfs" in found.config
        assert found == await parts.bridge.resolve_config(ImageQuery(BASE, AMD64))

    async def test_an_image_that_is_nowhere_is_not_found(self, parts: BridgeParts) -> None:
        with pytest.raises(NotFoundError):
            await parts.bridge.resolve_config(ImageQuery("docker.io/library/nosuch:latest", AMD64))

    async def test_a_warning_is_told_with_the_file_that_it_is_about(self, parts: BridgeParts) -> None:
        await parts.bridge.solve(parts.context)
        await parts.bridge.warn(BuildWarning("Rule", "Rule: beware (line 1)"), SourceFile("Dockerfile", b"FROM base"))
        assert list(parts.warned()) == [("Rule: beware (line 1)", "Dockerfile")]


class SourcesContract:
    """Of ``protocol.Sources``; subclass with ``sources``, which know ``local://context``, and ``step`` with leave."""

    promises: tuple[type, ...] = (Sources,)

    async def test_a_client_s_directory_has_no_pin_and_is_held(self, sources: Sources, step: StepParts) -> None:
        op = SourceOp("local://context")
        pinned = await sources.pin(op, AMD64, step.context)
        assert pinned.key == ""
        assert isinstance(await sources.fetch(op, pinned, AMD64, step.context), Directory)

    async def test_what_is_not_there_is_not_found(self, sources: Sources, step: StepParts) -> None:
        op = SourceOp("local://nosuch")
        with pytest.raises(NotFoundError):
            await sources.fetch(op, await sources.pin(op, AMD64, step.context), AMD64, step.context)


@dataclass(frozen=True, slots=True)
class ExecutorParts:
    executor: Executor
    context: StepContext
    base: Tree
    behave: Callable[[str, dict[str, bytes], int], None]  # what a command writes, and how it exits
    files: Callable[[Tree], dict[str, bytes]]


class ExecutorContract:
    """Of ``executor.protocol.Executor``; subclass with a fixture ``parts``."""

    promises: tuple[type, ...] = (Executor,)

    async def _run(self, parts: ExecutorParts, command: str) -> Tree:
        op = ExecOp(Process((command,)), (Mount("/", input=0, output=0),))
        (made,) = await parts.executor.run(op, [parts.base], None, parts.context)
        return made

    async def test_what_a_process_writes_is_one_more_layer(self, parts: ExecutorParts) -> None:
        parts.behave("write", {"made": b"1"}, 0)
        made = await self._run(parts, "write")
        assert made.layers[: len(parts.base.layers)] == parts.base.layers
        assert len(made.layers) == len(parts.base.layers) + 1
        assert parts.files(made)["made"] == b"1"

    async def test_one_that_writes_nothing_makes_no_layer(self, parts: ExecutorParts) -> None:
        parts.behave("idle", {}, 0)
        assert (await self._run(parts, "idle")).layers == parts.base.layers

    async def test_one_that_fails_says_how(self, parts: ExecutorParts) -> None:
        parts.behave("fail", {}, 7)
        with pytest.raises(ProcessError, match="exit code: 7") as raised:
            await self._run(parts, "fail")
        assert raised.value.exit_code == 7

    async def test_a_container_runs_processes_as_long_as_it_is_held(self, parts: ExecutorParts) -> None:
        op = ExecOp(Process(("unused",)), (Mount("/", input=0, output=0),))
        async with parts.executor.container(op, [parts.base], parts.context) as container:
            process = await container.start(Program(("sleep", "60")))
            outputs = process.outputs()
            assert await anext(outputs) == StepStarted()
        assert [output async for output in outputs][-1] == StepExit(137)
        with pytest.raises(ConflictError, match="the container was released"):
            await container.start(Program(("sleep", "60")))


class ExportersContract:
    """Of ``protocol.Exporters``; subclass with fixtures ``exporters``, ``result`` and ``step``."""

    promises: tuple[type, ...] = (Exporters,)

    def test_what_cannot_be_is_refused_before_anything_is_built(self, exporters: Exporters) -> None:
        exporters.check(Export("image", {"name": "docker.io/library/made:1"}))
        with pytest.raises(InvalidArgumentError, match="nosuch"):
            exporters.check(Export("nosuch", {}))
        with pytest.raises(InvalidArgumentError):
            exporters.check(Export("image", {"nosuch": "1"}))

    async def test_a_client_is_told_the_name(
        self, exporters: Exporters, result: BuildResult, step: StepContext
    ) -> None:
        exported = await exporters.export(result, Export("image", {"name": "docker.io/library/made:1"}), step, {})
        assert exported.told["image.name"] == "docker.io/library/made:1"


class CacheContract:
    """Of ``build.protocol.Cache``; subclass with a fixture ``cache`` that has a record or more."""

    promises: tuple[type, ...] = (Cache,)

    async def test_what_is_pruned_is_told_and_gone(self, cache: Cache) -> None:
        there = {each.id for each in await cache.usage(())}
        assert there
        gone = {each.id async for each in cache.prune(PruneOptions(all=True))}
        assert gone == there
        assert list(await cache.usage(())) == []

    async def test_a_filter_that_cannot_be_is_refused(self, cache: Cache) -> None:
        with pytest.raises(InvalidArgumentError):
            await cache.usage(("colour~=(",))
        with pytest.raises(InvalidArgumentError):
            assert [each async for each in cache.prune(PruneOptions(("colour~=(",)))] == []
        assert await cache.usage(())


class ImportedCachesContract:
    """Of ``build.protocol.ImportedCaches``; subclass with fixtures ``caches`` and ``step``."""

    promises: tuple[type, ...] = (ImportedCaches,)

    async def test_what_nobody_has_is_not_found(self, caches: ImportedCaches, step: StepContext) -> None:
        assert await caches.find(Digest.of(b"key")) is None
        with pytest.raises(NotFoundError):
            await caches.load(CacheOption("registry", {"ref": "gone"}), step)
        assert await caches.find(Digest.of(b"key")) is None

    async def test_of_nothing_everything_is_proven(self, caches: ImportedCaches) -> None:
        assert await caches.proven((Tree(),), ())


@dataclass(frozen=True, slots=True)
class TreeParts:
    trees: Trees
    base: Tree
    write: Callable[[str], Awaitable[None]]  # change something in the snapshot of this key


class TreesContract:
    """Of ``protocol.Trees`` and ``WritableTree``; subclass with a fixture ``parts``."""

    promises: tuple[type, ...] = (Trees, WritableTree)

    async def test_a_tree_that_is_ready_has_the_name_of_its_stack(self, parts: TreeParts) -> None:
        assert await parts.trees.ready(Tree()) == ""
        assert await parts.trees.ready(parts.base) == chain_ids(each.diff_id for each in parts.base.layers)[-1]

    async def test_each_snapshot_has_a_key_of_its_own(self, parts: TreeParts) -> None:
        async with parts.trees.writable(Tree()) as one, parts.trees.writable(Tree()) as other:
            assert one.key != other.key
            async with parts.trees.view(parts.base) as view:
                assert view not in (one.key, other.key)

    async def test_what_was_changed_is_frozen_as_one_more_layer(self, parts: TreeParts) -> None:
        async with parts.trees.writable(parts.base) as active:
            await parts.write(active.key)
            made = await active.freeze()
        assert made.layers[:-1] == parts.base.layers

    async def test_what_was_not_changed_has_no_layer_more(self, parts: TreeParts) -> None:
        async with parts.trees.writable(parts.base) as active:
            assert (await active.freeze()).layers == parts.base.layers
