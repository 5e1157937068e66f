"""What of a directory is told to a receiver."""

from pathlib import Path

import pytest

from sampan.errors import InvalidArgumentError
from sampan.fsutil.selection import Selection, follow_links
from sampan.fsutil.sender import TreeSender


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a/b/c.go", "a/b/d.txt", "a/e.go", "lib/x", "node_modules/p/keep.js", "node_modules/q.js", "top"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "link").symlink_to("a/b")
    (tmp_path / "absolute").symlink_to("/lib/x")
    (tmp_path / "out").symlink_to("../../../etc/passwd")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


def told(root: Path, selection: Selection | None) -> list[str]:
    sender = TreeSender(root, selection)
    try:
        found = []
        while entries := sender.entries(2):
            found += [entry.path.decode() for entry in entries]
        return found
    finally:
        sender.close()


def test_everything_without_patterns(tree: Path) -> None:
    assert told(tree, Selection()) == told(tree, None)
    assert "a/b/c.go" in told(tree, None)


def test_what_is_excluded_is_not_looked_into(tree: Path) -> None:
    found = told(tree, Selection(exclude=["node_modules", "**/*.txt"]))
    assert not [name for name in found if name.startswith("node_modules") or name.endswith(".txt")]
    assert "a/b/c.go" in found


def test_an_exception_brings_its_directories_back(tree: Path) -> None:
    found = told(tree, Selection(exclude=["node_modules", "!node_modules/p/keep.js"]))
    assert [name for name in found if name.startswith("node_modules")] == [
        "node_modules",
        "node_modules/p",
        "node_modules/p/keep.js",
    ]


def test_what_is_included_comes_with_the_way_to_it(tree: Path) -> None:
    assert told(tree, Selection(include=["a/b/c.go", "top"])) == ["a", "a/b", "a/b/c.go", "top"]
    assert told(tree, Selection(include=["a/b"])) == ["a", "a/b", "a/b/c.go", "a/b/d.txt"]
    assert told(tree, Selection(include=["**/*.go"])) == ["a", "a/b", "a/b/c.go", "a/e.go"]
    assert told(tree, Selection(include=["a"], exclude=["a/b"])) == ["a", "a/e.go"]


def test_links_are_followed_inside(tree: Path) -> None:
    assert follow_links(tree, ["top"]) == ["top"]
    assert set(follow_links(tree, ["link/c.go"])) == {"link", "a/b/c.go"}
    assert set(follow_links(tree, ["absolute"])) == {"absolute", "lib/x"}
    assert set(follow_links(tree, ["out"])) == {"out", "etc/passwd"}, "as if the directory were the root"
    assert follow_links(tree, ["loop"]) == ["loop"]
    assert set(follow_links(tree, ["a/*.go", "l?b"])) == {"a/e.go", "lib"}
    assert follow_links(tree, ["gone"]) == ["gone"]
    assert follow_links(tree, ["."]) == [], "everything"
    assert set(follow_links(tree, ["link/*.go"])) == {"link", "a/b/c.go"}


def test_patterns_that_cannot_be_are_named() -> None:
    with pytest.raises(InvalidArgumentError, match="a\\[b"):
        Selection(exclude=["a[b"])
