import pytest

from sampan.errors import InvalidArgumentError
from sampan.resource.snapshot import Kind
from snapshotter.model import Snapshot
from snapshotter.snapshots.filters import parse

WEB = Snapshot("web", Kind.ACTIVE, "sha256:1", 0, 0, {"a.b/c": "x y", "role": "db"})


@pytest.mark.parametrize(
    "text",
    [
        "name==web",
        "kind==active",
        "parent~=sha256",
        'labels."a.b/c"=="x y"',
        "labels.role==db",
        "labels.role",
        "kind==active,labels.role!=web",
        'name~="^w"',
        "",
    ],
)
def test_a_filter_that_holds_lets_pass(text: str) -> None:
    assert parse([text])(WEB)


@pytest.mark.parametrize("text", ["name==we", "kind!=active", "labels.other", "kind==active,name==x"])
def test_a_filter_that_does_not_hold_keeps_out(text: str) -> None:
    assert not parse([text])(WEB)


def test_one_of_several_filters_is_enough_and_none_is_no_restriction() -> None:
    assert parse(["name==x", "name==web"])(WEB)
    assert parse([])(WEB)


@pytest.mark.parametrize("text", ["colour==red", "labels==x", 'name=="unclosed', "name~=(", "name=web", "name.x==1"])
def test_malformed_filters_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="filter"):
        parse([text])
