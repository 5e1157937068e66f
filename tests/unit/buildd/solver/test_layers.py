import pytest

from buildd.llb.graph import Change, change_files
from buildd.llb.ops import NO_INPUT, Copy, DiffOp, MakeFile, MergeOp, Metadata, Node
from buildd.protocol import Tree
from buildd.solver.layers import diff, merge, with_history
from sampan.errors import InvalidArgumentError, UnimplementedError
from tests.fakes.buildd import image, layer, run
from tests.unit.buildd.solver.solving import Bench

A, B, C = (layer({name: b""}) for name in "abc")


@pytest.mark.parametrize(
    ("trees", "merged"),
    [
        ([(A,), (B, C)], (A, B, C)),
        ([(A, B), (A, C)], (A, B, C)),
        ([(A, B), (A, B)], (A, B)),
        ([(A,), ()], (A,)),
        ([(A, B), (B,)], (A, B, B)),
    ],
)
def test_a_merge_has_the_layers_of_all_and_a_common_base_once(trees: list[tuple], merged: tuple) -> None:  # type: ignore[type-arg]
    assert merge(MergeOp((0, 1)), [Tree(each) for each in trees]) == Tree(merged)


def test_a_diff_is_what_stands_on_the_lower_tree() -> None:
    assert diff(DiffOp(0, 1), [Tree((A,)), Tree((A, B, C))]) == Tree((B, C))
    assert diff(DiffOp(NO_INPUT, 0), [Tree((A,))]) == Tree((A,))


def test_a_diff_of_trees_apart_is_refused() -> None:
    with pytest.raises(UnimplementedError, match="does not stand on the lower"):
        diff(DiffOp(0, 1), [Tree((A, B)), Tree((A, C))])
    with pytest.raises(UnimplementedError):
        diff(DiffOp(0, 1), [Tree((A, B)), Tree((A,))])


def test_an_input_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="invalid input index 2"):
        merge(MergeOp((0, 2)), [Tree(), Tree()])


async def test_a_merge_in_a_graph_runs_nothing_and_records_nothing(solving: Bench) -> None:
    edge = Node(MergeOp((0, 1)), (image(), run(None, "alone")), metadata=Metadata("LINK")).output()
    files, shown = await solving.solve(edge)
    assert files == {"bin/sh": b"shell", "out/alone": b"alone"}
    assert shown.last["LINK"].completed_ns
    assert len(await solving.results.records()) == 2


async def test_what_follows_a_merge_is_a_hit_if_the_merge_is_the_same(solving: Bench) -> None:
    def merged() -> Node:
        return Node(MergeOp((0, 1)), (image(), run(None, "alone")), metadata=Metadata("LINK"))

    _, shown = await solving.solve(run(merged().output(), "after"))
    assert not shown.last["LINK"].cached
    _, shown = await solving.solve(run(merged().output(), "after"))
    assert shown.last["LINK"].cached
    assert solving.executor.ran == ["alone", "after"]
    by_name = {each.description: each for each in await solving.results.records()}
    assert set(by_name["RUN after"].parents) == {by_name[name].id for name in ("FROM docker-image://base", "RUN alone")}
    assert not any(each.in_use for each in await solving.results.records())


async def test_a_directory_is_merged_as_a_layer(solving: Bench) -> None:
    files, _ = await solving.solve(Node(MergeOp((0, 1)), (image(), image("local://context"))).output())
    assert set(files) == {"bin/sh", "app/main.py", "README"}


def test_steps_without_effect_stay_in_the_history_of_what_follows() -> None:
    op = run(image(), "true").node.op
    (first,) = with_history(op, [Tree((A,))], [Tree((A,))])
    assert first.unchanged == (1,)
    (second,) = with_history(op, [first], [Tree((A,), unchanged=(7, 8))])  # what a cache says of it is another graph's
    assert second.unchanged == (1, 1)
    (third,) = with_history(op, [second], [Tree((A, B))])
    assert third.unchanged == (1, 1)
    assert merge(MergeOp((0, 1)), [third, Tree((C,))]).unchanged == (1, 1)
    assert merge(MergeOp((0, 1)), [third, Tree((), (0,))]).unchanged == (1, 1, 2)


def test_the_history_of_copies_is_that_of_what_they_are_put_on() -> None:
    changes = [Change(Copy("a", "/"), image("local://context")), Change(MakeFile("/b", 0o644, b""))]
    op = change_files(image(), changes, Metadata()).node.op
    (made,) = with_history(op, [Tree((A,), (0, 1)), Tree((C,), (9,))], [Tree((A, B))])
    assert made.unchanged == (0, 1)


async def test_a_hit_has_the_history_of_its_own_graph(solving: Bench) -> None:
    async def nothing(files, context):  # type: ignore[no-untyped-def]
        return {}

    solving.executor.behaviours["true"] = nothing
    async with solving.build() as (build, _):
        one = await build.solve(run(run(image(), "true"), "make"))
        other = await build.solve(run(image(), "make"))
    assert one == other
    assert isinstance(one, Tree)
    assert isinstance(other, Tree)
    assert (one.unchanged, other.unchanged) == ((1,), ())
    assert solving.executor.ran == ["true", "make"]
