"""What is a hit in the cache, and what is not."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from buildd.llb.graph import Change, change_files
from buildd.llb.ops import Copy, Edge, Metadata, Mount
from buildd.protocol import Output, StepContext, StepError, Tree
from sampan.errors import NotFoundError
from sampan.oci.digest import Digest
from tests.fakes.buildd import Contents, image, run
from tests.unit.buildd.solver.solving import Bench, bench

CONTEXT = Path("/context")


def copied(base: Edge, source: Edge, path: str = "app") -> Edge:
    return change_files(base, [Change(Copy(path, "/"), source)], Metadata(f"COPY {path} /"))


async def test_a_second_build_runs_nothing(solving: Bench) -> None:
    edge = run(copied(run(image(), "first"), image("local://context")), "second")
    files, _ = await solving.solve(edge)
    again, shown = await solving.solve(run(copied(run(image(), "first"), image("local://context")), "second"))
    assert again == files
    assert solving.executor.ran == ["first", "second"]
    assert solving.files.calls.count("change") == 1
    assert {name: vertex.cached for name, vertex in shown.last.items()} == {
        "FROM docker-image://base": True,
        "FROM local://context": False,
        "RUN first": True,
        "COPY app /": True,
        "RUN second": True,
    }


async def test_every_vertex_is_told_complete_with_its_inputs(solving: Bench) -> None:
    _, shown = await solving.solve(run(image(), "first"))
    vertex, base = shown.last["RUN first"], shown.last["FROM docker-image://base"]
    assert vertex.inputs == (base.digest,)
    assert 0 < vertex.started_ns < vertex.completed_ns


async def test_a_change_beside_what_is_copied_is_a_hit(solving: Bench) -> None:
    edge = run(copied(image(), image("local://context")), "after")
    await solving.solve(edge)
    solving.world.directories[CONTEXT] = {"app/main.py": b"print()", "README": b"changed"}
    await solving.solve(edge)
    assert solving.executor.ran == ["after"]
    solving.world.directories[CONTEXT] = {"app/main.py": b"changed", "README": b"changed"}
    await solving.solve(edge)
    assert solving.executor.ran == ["after", "after"]


async def test_a_mounted_path_counts_by_its_files(solving: Bench) -> None:
    mount = Mount("/src", selector="/app", read_only=True)
    edge = run(image(), "make", (mount, image("local://context")))
    await solving.solve(edge)
    solving.world.directories[CONTEXT] = {"app/main.py": b"print()", "README": b"changed"}
    await solving.solve(edge)
    assert solving.executor.ran == ["make"]
    solving.world.directories[CONTEXT] = {"app/main.py": b"changed"}
    await solving.solve(edge)
    assert solving.executor.ran == ["make", "make"]


async def test_a_mount_that_may_be_written_to_counts_whole(solving: Bench) -> None:
    edge = run(image(), "make", (Mount("/src", selector="/app"), image("local://context")))
    await solving.solve(edge)
    solving.world.directories[CONTEXT] = {"app/main.py": b"print()", "README": b"changed"}
    await solving.solve(edge)
    assert solving.executor.ran == ["make", "make"]


async def test_a_copy_from_a_stage_counts_by_its_files_and_reads_them_once(solving: Bench) -> None:
    versions = iter((b"1", b"1"))

    async def build(_files: Contents, _context: StepContext) -> Contents:
        return {"app/binary": next(versions), "log": b"at 10:00"}

    solving.executor.behaviours["build"] = build
    edge = run(copied(image(), run(image(), "build"), "app"), "after")
    await solving.solve(edge)
    await solving.solve(edge)
    assert solving.files.calls.count("checksum app") == 1  # diff IDs said the second time that nothing has changed
    again = run(copied(image(), run(image(), "build", ignore_cache=True), "app"), "after")
    solving.executor.behaviours["build"] = _other_log
    _, shown = await solving.solve(again)
    assert shown.last["COPY app /"].cached
    assert solving.executor.ran == ["build", "after", "build"]


async def _other_log(_files: Contents, _context: StepContext) -> Contents:
    return {"app/binary": b"1", "log": b"at 11:00"}


async def test_no_cache_runs_and_then_records(solving: Bench) -> None:
    await solving.solve(run(image(), "step"))
    await solving.solve(run(image(), "step", ignore_cache=True))
    assert solving.executor.ran == ["step", "step"]
    await solving.solve(run(image(), "step"))
    await solving.solve(run(image(), "step"), ignore_cache=True)
    assert solving.executor.ran == ["step", "step", "step"]
    # What was there before is gone with its leases.
    assert len(solving.keeper.leases) == len(await solving.results.records()) == 2


async def test_a_step_with_the_same_result_as_before_invalidates_nothing_after_it(solving: Bench) -> None:
    await solving.solve(run(run(image(), "step"), "after"))
    _, shown = await solving.solve(run(run(image(), "step", ignore_cache=True), "after"))
    assert solving.executor.ran == ["step", "after", "step"]
    assert shown.last["RUN after"].cached


async def test_another_base_is_no_hit(solving: Bench) -> None:
    edge = run(image(), "step")
    await solving.solve(edge)
    solving.sources.images["docker-image://base"] = solving.world.tree({"bin/sh": b"newer"})
    await solving.solve(edge)
    assert solving.executor.ran == ["step", "step"]


async def test_the_same_image_under_another_name_is_a_hit(solving: Bench) -> None:
    solving.sources.images["docker-image://alias"] = solving.sources.images["docker-image://base"]
    await solving.solve(run(image(), "step"))
    _, shown = await solving.solve(run(image("docker-image://alias"), "step"))
    assert shown.last["RUN step"].cached
    assert shown.last["FROM docker-image://alias"].cached


async def test_a_result_whose_layers_are_lost_is_made_again(solving: Bench) -> None:
    await solving.solve(run(image(), "first"))
    (made,) = [each for each in await solving.results.records() if each.description == "RUN first"]
    solving.world.lost.add(made.layers[-1].diff_id)
    files, shown = await solving.solve(run(run(image(), "first"), "second"))
    assert files["out/second"] == b"second"
    assert solving.executor.ran == ["first", "second", "first", "second"]
    assert not shown.last["RUN second"].error


async def test_what_is_lost_for_good_is_an_error(solving: Bench) -> None:
    await solving.solve(run(image(), "first"))
    solving.world.lost.add(solving.sources.images["docker-image://base"].layers[0].diff_id)
    with pytest.raises(StepError, match="is nowhere"):
        await solving.solve(run(run(image(), "first"), "second"))


async def test_what_a_build_uses_is_in_use_until_it_is_over(solving: Bench) -> None:
    async with solving.build() as (build, _):
        await build.solve(run(image(), "step"))
        assert all(each.in_use for each in await solving.results.records())
        assert not await solving.results.remove([each.id for each in await solving.results.records()])
    assert not any(each.in_use for each in await solving.results.records())
    assert [each.uses for each in await solving.results.records()] == [1, 1]
    assert len(await solving.results.remove([each.id for each in await solving.results.records()])) == 2
    assert solving.keeper.leases == {}


async def test_what_a_cancelled_build_used_is_not_in_use(solving: Bench) -> None:
    async with solving.build():
        pass
    await solving.solve(run(image(), "step"))
    async with solving.build() as (build, _):
        await build.solve(run(image(), "step"))
        async with solving.build() as (other, _):
            await other.solve(run(image(), "step"))
        assert all(each.in_use for each in await solving.results.records())
    assert not any(each.in_use for each in await solving.results.records())


async def test_a_record_names_what_it_was_made_from(solving: Bench) -> None:
    await solving.solve(run(image(), "step"))
    by_name = {each.description: each for each in await solving.results.records()}
    assert by_name["RUN step"].parents == (by_name["FROM docker-image://base"].id,)


LIE = Digest.of(b"lie")


class FakeImports:
    """Results of another builder."""

    def __init__(self, known: dict[Digest, tuple[Tree, ...]]) -> None:
        self.known = known

    async def find(self, key: Digest) -> tuple[Tree, ...] | None:
        return self.known.get(key)

    async def proven(self, outputs: Sequence[Tree], inputs: Sequence[Output]) -> bool:
        return not any(layer.diff_id == LIE for tree in outputs for layer in tree.layers)


async def test_what_another_builder_has_made_is_a_hit_and_stays(solving: Bench, tmp_path: Path) -> None:
    graph = run(copied(run(image(), "first"), image("local://context")), "second")
    (tmp_path / "other").mkdir()
    async with bench(tmp_path / "other") as other, other.build() as (build, _):
        await build.solve(graph)
        lasting = [each for each in build.evaluated() if each.lasting]
        made = {each.key: tuple(tree for tree in each.outputs if isinstance(tree, Tree)) for each in lasting}
        solving.world.layers |= other.world.layers
    assert len(made) == 4  # the base and three steps; a client's directory means nothing to others
    async with solving.build(imports=FakeImports(made)) as (build, shown):
        await build.solve(graph)
    assert solving.executor.ran == []
    assert shown.last["RUN second"].cached
    await solving.solve(graph)
    assert solving.executor.ran == []


async def test_a_result_that_is_not_what_another_builder_says_is_run(solving: Bench, tmp_path: Path) -> None:
    graph = run(image(), "step")
    (tmp_path / "other").mkdir()
    async with bench(tmp_path / "other") as other, other.build() as (build, _):
        await build.solve(graph)
        (*_, last) = build.evaluated()
        (tree,) = last.outputs
        assert isinstance(tree, Tree)
        lie = Tree((*tree.layers[:-1], replace(tree.layers[-1], diff_id=LIE)))
    async with solving.build(imports=FakeImports({last.key: (lie,)})) as (build, _):
        assert await build.solve(graph) == tree
    assert solving.executor.ran == ["step"]
    assert len(await solving.results.records()) == 2


@pytest.mark.parametrize("lie", ["nothing below", "another base", "two layers", "two outputs", "no output"])
async def test_a_result_that_does_not_stand_on_what_the_step_stands_on_is_run(
    solving: Bench, tmp_path: Path, lie: str
) -> None:
    graph = run(image(), "step")
    (tmp_path / "other").mkdir()
    async with bench(tmp_path / "other") as other, other.build() as (build, _):
        await build.solve(graph)
        (base, last) = (each.outputs[0] for each in build.evaluated())
        key = build.evaluated()[-1].key
        solving.world.layers |= other.world.layers
    assert isinstance(base, Tree)
    assert isinstance(last, Tree)
    lies = {
        "nothing below": (Tree(last.layers[-1:]),),
        "another base": (Tree((last.layers[-1], *base.layers)),),
        "two layers": (Tree((*last.layers, last.layers[-1])),),
        "two outputs": (last, last),
        "no output": (),
    }
    async with solving.build(imports=FakeImports({key: lies[lie]})) as (build, _):
        await build.solve(graph)
    assert solving.executor.ran == ["step"]


async def test_an_image_is_what_its_source_says_and_nobody_else(solving: Bench) -> None:
    async with solving.build() as (build, _):
        right = await build.solve(run(image(), "step"))
        (base, _) = build.evaluated()
    assert isinstance(right, Tree)
    await solving.results.remove([each.id for each in await solving.results.records()])
    async with solving.build(imports=FakeImports({base.key: (right,)})) as (build, _):
        assert await build.solve(image()) == base.outputs[0]


async def test_no_cache_asks_no_other_builder(solving: Bench) -> None:
    async with solving.build() as (build, _):
        await build.solve(run(image(), "step"))
        made = {each.key: tuple(each.outputs) for each in build.evaluated()}
    imports = FakeImports(made)  # type: ignore[arg-type]
    async with solving.build(imports=imports, ignore_cache=True) as (build, _):
        await build.solve(run(image(), "step"))
    assert solving.executor.ran == ["step", "step"]


async def test_a_source_without_a_key_is_told_with_what_that_keeps_from_being_known(solving: Bench) -> None:
    async with solving.build() as (build, shown):
        with pytest.raises(StepError, match=r"^failed to load cache key: docker-image://gone: not found$") as caught:
            await build.solve(run(image("docker-image://gone"), "first"))
    assert isinstance(caught.value.cause, NotFoundError)
    assert shown.last["FROM docker-image://gone"].error == "docker-image://gone: not found"


async def test_a_file_that_is_missing_is_told_with_what_that_keeps_from_being_known(solving: Bench) -> None:
    async with solving.build() as (build, shown):
        with pytest.raises(StepError, match=r'^failed to compute cache key: .*"gone": not found$'):
            await build.solve(copied(image(), image("local://context"), "gone"))
    assert shown.last["COPY gone /"].error.startswith("failed to calculate checksum of ref ")
