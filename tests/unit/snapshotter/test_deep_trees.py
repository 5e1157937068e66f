"""Trees of any depth are compared and copied with a few descriptors; what no layer can hold is refused by name."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.errors import InvalidArgumentError
from sampan.resource.snapshot import ChangeKind
from sampan.sys.measuring import measure
from sampan.sys.trees import AbandonedError, Descent, remove_tree
from sampan.tar.entry import Entry, EntryType
from sampan.tar.writer import TarWriter
from snapshotter.diff.comparison import changes_between, compare
from snapshotter.diff.copying import copy_merged
from snapshotter.model import Piece


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory in memory, for a disk takes long to make many."""
    path = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    yield path
    remove_tree(path)


def deep(root: Path, depth: int) -> Path:
    root.mkdir()
    fd = os.open(root, os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    return root


@pytest.fixture
def descriptors(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many were open at every hundredth step down."""
    seen: list[int] = []
    enter = Descent.enter

    def entering(self: Descent, name: bytes) -> None:
        enter(self, name)
        if self.depth % 100 == 0:
            seen.append(len(os.listdir("/proc/self/fd")))

    monkeypatch.setattr(Descent, "enter", entering)
    return seen


def test_a_deep_tree_is_all_told_with_descriptors_that_do_not_grow(base: Path, descriptors: list[int]) -> None:
    lower, upper = deep(base / "lower", 700), deep(base / "upper", 1400)
    changes = changes_between((Piece(lower),), (Piece(upper), Piece(lower)))
    paths = {change.path: change.kind for change in changes}
    assert paths[b"/".join([b"d"] * 1400) + b"/file"] is ChangeKind.ADDED
    assert paths[b"/".join([b"d"] * 700)] is ChangeKind.MODIFIED
    assert len(changes) == 1401
    assert max(descriptors) - descriptors[0] <= 4  # those of earlier tests may go meanwhile


def test_a_path_that_no_layer_can_hold_is_refused_by_its_ends(base: Path) -> None:
    tree = deep(base / "tree", 5000)
    with pytest.raises(
        InvalidArgumentError, match=r"^path d/d/d/.*\.\.\..*/d/d has 4097 bytes, .* at most 4095$"
    ) as error:
        changes_between((), (Piece(tree),))
    assert len(str(error.value)) < 250


def test_a_comparison_ends_when_nobody_waits_for_it(base: Path) -> None:
    tree = deep(base / "tree", 100)
    asked = iter(range(1000))
    with pytest.raises(AbandonedError):
        list(compare((), (Piece(tree),), stop=lambda: next(asked) > 10))
    assert next(asked) < 15


def test_a_tree_of_twenty_thousand_levels_is_copied(base: Path, descriptors: list[int]) -> None:
    tree = deep(base / "tree", 20_000)
    (tree / "one").write_text("linked")
    (tree / "d/two").hardlink_to(tree / "one")
    target = base / "copy"
    target.mkdir()
    copy_merged((Piece(tree),), target)
    assert measure(target) == measure(tree)
    assert (target / "one").samefile(target / "d/two")
    assert (target / "one").stat().st_nlink == 2
    assert sorted(path.name for path in base.iterdir()) == ["copy", "tree"]
    assert max(descriptors) - descriptors[0] <= 4  # those of earlier tests may go meanwhile


def test_a_directory_moved_during_a_comparison_only_hides_what_is_in_it(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, outside = base / "tree", base / "outside"
    (tree / "a/b/c").mkdir(parents=True)
    (tree / "z").mkdir()
    (outside / "secret").mkdir(parents=True)
    enter = Descent.enter

    def entering(self: Descent, name: bytes) -> None:
        enter(self, name)
        if name == b"b" and (tree / "a").exists():
            (tree / "a/b").rename(outside / "b")

    monkeypatch.setattr(Descent, "enter", entering)
    paths = [difference.path for difference in compare((), (Piece(tree),))]
    assert b"z" in paths
    assert not any(b"secret" in path for path in paths)


def test_the_writer_of_archives_refuses_a_name_that_no_reader_takes() -> None:
    with pytest.raises(InvalidArgumentError, match="has 4096 bytes"):
        TarWriter(lambda _: None).add(Entry(b"n" * 4096, EntryType.DIRECTORY, 0o755, 0, 0, 0, 0))
