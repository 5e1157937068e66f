import pytest

from buildd.fileworker.plan import plan
from buildd.llb.ops import Copy, FileAction, MakeFile
from sampan.errors import InvalidArgumentError

MAKE = MakeFile("/a", 0o644, b"")
COPY = Copy("/a", "/b")


def runs(*actions: FileAction, inputs: int = 2) -> list[tuple[int, int, int]]:
    return [(run.base, len(run.actions), run.state) for run in plan(actions, inputs)]


def test_what_only_follows_is_one_run() -> None:
    actions = (FileAction(MAKE, 0), FileAction(COPY, 2, 1), FileAction(MAKE, 3, output=0))
    assert runs(*actions) == [(0, 3, 4)]
    assert plan(actions, 2)[0].reads == {1}


def test_what_has_an_output_ends_a_run() -> None:
    assert runs(FileAction(MAKE, 0, output=0), FileAction(MAKE, 2, output=1)) == [(0, 1, 2), (2, 1, 3)]


def test_what_two_actions_need_is_made_once() -> None:
    first, second = FileAction(MAKE, 0), FileAction(COPY, 2, 2, output=0)
    assert runs(first, second) == [(0, 1, 2), (2, 1, 3)]


def test_sources_are_made_before_those_who_copy_them() -> None:
    actions = (FileAction(MAKE, 0), FileAction(MAKE), FileAction(MAKE, 3), FileAction(COPY, 2, 4, output=0))
    assert runs(*actions) == [(-1, 2, 4), (0, 2, 5)]


@pytest.mark.parametrize(
    "actions",
    [
        (FileAction(MAKE, 0),),
        (FileAction(MAKE, 2, output=0),),
        (FileAction(COPY, 0, 7, output=0),),
        (FileAction(MAKE, -2, output=0),),
        (FileAction(MAKE, 0, output=1),),
        (FileAction(MAKE, 0, output=0), FileAction(MAKE, 0, output=0)),
    ],
)
def test_what_cannot_be(actions: tuple[FileAction, ...]) -> None:
    with pytest.raises(InvalidArgumentError):
        plan(actions, 2)
