"""Graphs of operations: how they are put together and rewritten."""

from buildd.llb.graph import Change, change_files, local, substitute
from buildd.llb.graph import LocalDirectory as Directory
from buildd.llb.ops import Copy, FileAction, FileOp, MakeDirectory, Metadata, Node, Owner, SourceOp, UserName


def test_changes_build_on_each_other_and_the_last_one_is_the_result() -> None:
    base, source = Node(SourceOp("a")).output(), Node(SourceOp("b")).output()
    edge = change_files(base, [Change(MakeDirectory("/d", 0o755)), Change(Copy("/x", "/d"), source)], Metadata())
    assert edge.node.inputs == (base, source)
    assert edge.node.op == FileOp(
        (
            FileAction(MakeDirectory("/d", 0o755), input=0),
            FileAction(Copy("/x", "/d"), input=2, secondary_input=1, output=0),
        )
    )


def test_names_of_users_are_looked_up_in_the_base() -> None:
    owner = Owner(UserName("app"), UserName(number=5))
    op = change_files(Node(SourceOp("a")).output(), [Change(MakeDirectory("/d", 0, owner=owner))], Metadata()).node.op
    assert isinstance(op, FileOp)
    assert op.actions[0].action == MakeDirectory("/d", 0, owner=Owner(UserName("app", input=0), UserName(number=5)))


def test_a_replacement_reaches_every_step_above_it_and_leaves_the_others_as_they_are() -> None:
    old, kept = Node(SourceOp("old")), Node(SourceOp("kept"))
    edge = kept.output()
    side = change_files(None, [Change(Copy("/", "/"), kept.output())], Metadata("side"))
    for _ in range(3000):  # deeper than Python's stack
        edge = change_files(edge, [Change(Copy("/", "/"), old.output())], Metadata())
    top = change_files(edge, [Change(Copy("/", "/"), side)], Metadata())
    new = local(Directory("new", "new"), Metadata())
    result = substitute(top, {old: new})
    assert result is not None
    assert result.node.inputs[1] == side
    assert result.node.inputs[0].node.inputs[1] == new
    assert substitute(old.output(), {old: new}) == new
    assert substitute(side, {old: new}) == side
    assert substitute(None, {old: new}) is None
