"""Keys are of what a step does and reads, and of nothing else."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildd.llb.digests import Digests, digest_of, operation_digest
from buildd.llb.ops import (
    CacheMount,
    Copy,
    Edge,
    ExecOp,
    FileAction,
    FileOp,
    Metadata,
    Mount,
    MountType,
    NetMode,
    Node,
    Owner,
    Process,
    ProxyEnv,
    SecurityMode,
    SourceOp,
    UserName,
)
from buildd.protocol import Directory, Selection
from buildd.solver.keys import content_key, quick_key, reads_of
from sampan.build.progress import Position
from sampan.errors import NotFoundError
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from tests.fakes.buildd import FakeFileWorker, FakeWorld, image

ROOT = Mount("/", input=0, output=0)
PROCESS = Process(("make",), ("A=1",), "/src", "user")
STEP = Node(ExecOp(PROCESS, (ROOT,)), (image(),), Platform("linux", "amd64"))


async def key(node: Node) -> Digest:
    world = FakeWorld()
    tree = world.tree({"bin/sh": b""})
    return await content_key(
        node.op, operation_digest(node.op, node.platform), [tree] * len(node.inputs), FakeFileWorker(world)
    )


@pytest.mark.parametrize(
    "other",
    [
        replace(STEP, metadata=Metadata("named", ignore_cache=True, positions=(Position(1, 2),))),
        replace(STEP, op=ExecOp(replace(PROCESS, proxy_env=ProxyEnv("http://proxy")), (ROOT,))),
        replace(STEP, op=ExecOp(replace(PROCESS, cgroup_parent="/builds"), (ROOT,))),
    ],
)
async def test_what_changes_no_result_is_in_no_key(other: Node) -> None:
    assert await key(other) == await key(STEP)
    assert Digests()(other) == Digests()(STEP)


@pytest.mark.parametrize(
    "other",
    [
        replace(STEP, platform=Platform("linux", "arm64")),
        replace(STEP, op=ExecOp(replace(PROCESS, args=("make", "")), (ROOT,))),
        replace(STEP, op=ExecOp(replace(PROCESS, env=("A=2",)), (ROOT,))),
        replace(STEP, op=ExecOp(replace(PROCESS, user="root"), (ROOT,))),
        replace(STEP, op=ExecOp(replace(PROCESS, cwd="/"), (ROOT,))),
        replace(STEP, op=ExecOp(PROCESS, (ROOT,), network=NetMode.NONE)),
        replace(STEP, op=ExecOp(PROCESS, (ROOT,), security=SecurityMode.INSECURE)),
        replace(STEP, op=ExecOp(PROCESS, (ROOT, Mount("/t", MountType.TMPFS)))),
        replace(STEP, op=ExecOp(PROCESS, (ROOT, Mount("/c", MountType.CACHE, cache=CacheMount("c"))))),
        replace(STEP, op=ExecOp(PROCESS, (ROOT, Mount("/c", MountType.CACHE, cache=CacheMount("d"))))),
    ],
)
async def test_what_changes_a_result_is_in_the_key(other: Node) -> None:
    assert await key(other) != await key(STEP)
    assert Digests()(other) != Digests()(STEP)


async def test_the_platform_of_a_copy_is_in_no_key() -> None:
    node = Node(FileOp((FileAction(Copy("a", "/"), 0, 0, 0),)), (image(),), Platform("linux", "amd64"))
    assert await key(node) == await key(replace(node, platform=None))


def test_what_is_copied_is_read_there_alone() -> None:
    copy = Copy("src", "/", exclude_patterns=("*.o",), allow_wildcard=True)
    op = FileOp((FileAction(copy, 0, 1, 0),))
    base, source = reads_of(op, 2)
    assert base.whole
    assert not source.whole
    assert source.selections == ((Selection("src", wildcard=True, exclude_patterns=("*.o",)), False),)


def test_a_user_by_name_is_looked_up_in_all_files() -> None:
    named = Copy("src", "/", owner=Owner(UserName("web", input=1)))
    numbered = Copy("src", "/", owner=Owner(UserName(number=7, input=1)))
    assert reads_of(FileOp((FileAction(named, 0, 1, 0),)), 2)[1].whole
    assert not reads_of(FileOp((FileAction(numbered, 0, 1, 0),)), 2)[1].whole


async def test_layers_of_the_same_files_in_another_order_are_another_input() -> None:
    world = FakeWorld()
    files = FakeFileWorker(world)
    one, other = world.tree({"a": b""}, {"b": b""}), world.tree({"b": b""}, {"a": b""})
    does = operation_digest(STEP.op, STEP.platform)
    assert await content_key(STEP.op, does, [one], files) != await content_key(STEP.op, does, [other], files)
    assert quick_key(does, [one]) != quick_key(does, [other])
    assert quick_key(does, [Directory(Path("/context"))]) is None


texts = st.text(max_size=3)


@given(st.lists(texts), st.lists(texts))
def test_different_values_have_different_digests(one: list[str], other: list[str]) -> None:
    assert (digest_of(tuple(one)) == digest_of(tuple(other))) == (one == other)
    assert (digest_of(*one) == digest_of(*other)) == (one == other)


@given(st.dictionaries(texts, texts), st.randoms(use_true_random=False))
def test_the_order_of_attributes_is_in_no_digest(attributes: dict[str, str], order: random.Random) -> None:
    shuffled = list(attributes.items())
    order.shuffle(shuffled)
    one, other = Node(SourceOp("x", attributes)), Node(SourceOp("x", dict(shuffled)))
    assert Digests()(one) == Digests()(other)


@st.composite
def graphs(draw: st.DrawFn) -> list[tuple[str, tuple[int, ...]]]:
    """Steps by their commands, each with inputs among those before it."""
    count = draw(st.integers(1, 8))
    return [
        (draw(st.sampled_from("abc")), tuple(draw(st.lists(st.integers(0, n - 1), max_size=2)) if n else ()))
        for n in range(count)
    ]


def _built(steps: list[tuple[str, tuple[int, ...]]], order: list[int]) -> dict[int, Digest]:
    """Make the nodes as ``order`` has them, inputs first, and return their digests."""
    nodes: dict[int, Node] = {}

    def make(number: int) -> Edge:
        if number not in nodes:
            command, inputs = steps[number]
            edges = tuple(make(each) for each in inputs)
            mounts = tuple(Mount(f"/{n}", input=n) for n in range(len(edges)))
            nodes[number] = Node(ExecOp(Process((command,)), mounts), edges)
        return nodes[number].output()

    for each in order:
        make(each)
    digests = Digests()
    return {each: digests(nodes[each]) for each in order}


@given(graphs(), st.randoms(use_true_random=False))
def test_the_order_in_which_a_graph_is_built_is_in_no_digest(
    steps: list[tuple[str, tuple[int, ...]]], order: random.Random
) -> None:
    numbers = list(range(len(steps)))
    shuffled = numbers.copy()
    order.shuffle(shuffled)
    assert _built(steps, numbers) == _built(steps, shuffled)


def test_a_digest_is_the_same_on_every_machine() -> None:
    assert Digests()(image().node).startswith("sha256:")
    assert digest_of("node", 1, None, ("a", b"b")) == digest_of("node", 1, None, ["a", b"b"])
    with pytest.raises(TypeError, match="float"):
        digest_of(1.5)


async def test_a_path_has_to_be_there_unless_it_has_wildcards_that_may_match_nothing() -> None:
    world = FakeWorld()
    tree = world.tree({"bin/sh": b""})
    copy = Copy("/nothing", "/", allow_wildcard=True, allow_empty_wildcard=True)

    async def made(source: str) -> Digest:
        op = FileOp((FileAction(replace(copy, src=source), input=0, secondary_input=1, output=0),))
        return await content_key(op, operation_digest(op, None), [tree, tree], FakeFileWorker(world))

    with pytest.raises(NotFoundError, match='"/nothing": not found'):
        await made("/nothing")
    assert await made("/noth*") != await made("/noth?")
