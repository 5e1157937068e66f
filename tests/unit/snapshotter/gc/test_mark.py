"""Which stacks go: what no image, no lease, no snapshot and no label needs, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from sampan.disk import IMAGE, SNAPSHOT, Holder, Root
from sampan.oci.chain import chain_ids
from sampan.oci.digest import Digest
from snapshotter.gc.mark import Node, doomed, layer_holders

A, B, C = (str(Digest.of(letter)) for letter in (b"a", b"b", b"c"))
WEB = Holder(IMAGE, "web")


def stack(*diff_ids: str) -> tuple[str, ...]:
    return tuple(map(str, chain_ids(map(Digest, diff_ids))))


def rows(*diff_ids: str, first: int = 1) -> list[Node]:
    """The snapshots of one stack."""
    return [
        Node(first + at, key, first + at - 1 if at else None, diff_id, None)
        for at, (key, diff_id) in enumerate(zip(stack(*diff_ids), diff_ids, strict=True))
    ]


def test_a_stack_goes_from_the_top_down() -> None:
    assert doomed(rows(A, B, C), []) == list(reversed(stack(A, B, C)))


def test_a_root_keeps_its_stack_and_not_what_is_on_top_of_it() -> None:
    assert doomed(rows(A, B, C), [Root(WEB, (A, B))]) == [stack(A, B, C)[-1]]


def test_an_active_snapshot_keeps_what_it_stands_on() -> None:
    container = Node(9, "container", 2, None, None)
    assert doomed([*rows(A, B, C), container], []) == [stack(A, B, C)[-1]]


def test_what_a_containerd_has_committed_never_goes() -> None:
    assert doomed([Node(1, "k8s/1", None, None, None), Node(2, "k8s/2", 1, None, None)], []) == []


def test_a_label_keeps_a_stack() -> None:
    base, top = rows(A, B)
    assert doomed([base, Node(top.id, top.key, top.parent, B, "containerd.io/gc.root")], []) == []


def test_everyone_who_needs_a_layer_is_named_once() -> None:
    nodes = [*rows(A, B), Node(9, "container", 2, None, None), Node(10, "view", 2, None, None)]
    holders = layer_holders(nodes, [Root(WEB, (A, A))], {C: 7})
    assert holders[A] == [WEB, Holder(SNAPSHOT, "container"), Holder(SNAPSHOT, "view")]
    assert holders[B] == [Holder(SNAPSHOT, "container"), Holder(SNAPSHOT, "view")]
    assert [(one.kind, one.expires_ns) for one in holders[C]] == [("hold", 7)]


@st.composite
def forests(draw: st.DrawFn) -> tuple[list[Node], list[Root]]:
    """Stacks that share their bases, snapshots on some of them, and roots for some others."""
    letters = st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=4).map(tuple)
    nodes: dict[str, Node] = {}
    for diff_ids in draw(st.lists(letters, max_size=6)):
        for at, key in enumerate(stack(*diff_ids)):
            parent = nodes[stack(*diff_ids)[at - 1]].id if at else None
            label = "containerd.io/gc.root" if draw(st.integers(0, 9)) == 0 else None
            nodes.setdefault(key, Node(len(nodes) + 1, key, parent, diff_ids[at], label))
    stacked = list(nodes.values())
    for number in range(draw(st.integers(0, 3))):
        parent = draw(st.sampled_from(stacked)).id if stacked else None
        nodes[f"own-{number}"] = Node(len(nodes) + 1, f"own-{number}", parent, None, None)
    return list(nodes.values()), [Root(WEB, diff_ids) for diff_ids in draw(st.lists(letters, max_size=3))]


@given(forests())
def test_what_goes_is_exactly_what_nothing_leads_to(forest: tuple[list[Node], list[Root]]) -> None:
    nodes, roots = forest
    by_id = {node.id: node for node in nodes}
    rooted = {key for root in roots for key in stack(*root.diff_ids)}
    gone = doomed(nodes, roots)
    kept = [node for node in nodes if node.key not in gone]
    assert all(node.parent is None or by_id[node.parent].key not in gone for node in kept), "a parent before its child"
    assert not rooted & set(gone)
    assert all(node.diff_id is not None and node.label is None for node in nodes if node.key in gone)
    leaves = [node for node in kept if not any(other.parent == node.id for other in kept)]
    assert all(node.diff_id is None or node.label or node.key in rooted for node in leaves), "nothing is left over"
    children: dict[int | None, set[str]] = {}
    for node in nodes:
        children.setdefault(node.parent, set()).add(node.key)
    order = {key: at for at, key in enumerate(gone)}
    for node in nodes:
        if node.key in order:
            assert all(order[child] < order[node.key] for child in children.get(node.id, ()))
