import asyncio
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.sys import trees
from sampan.sys.beneath import OPEN_DIRECTORY
from sampan.sys.measuring import measure, measure_any
from sampan.sys.trees import AbandonedError, Descent, Names, empty, remove_tree, shortened

DEPTH = 20_000


def make_deep(root: Path, depth: int, name: str = "d") -> None:
    """Make a chain of directories; the caller's working directory stays."""
    fd = os.open(root, OPEN_DIRECTORY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, OPEN_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)


@pytest.fixture
def tree() -> Iterator[Path]:
    """A directory in memory, for a disk takes long to make many; it is removed by other means than those under test."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as base:
        root = Path(base) / "tree"
        root.mkdir()
        yield root
        subprocess.run(["rm", "-rf", base], check=True)
        Path(base).mkdir()


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], object]], None]:
    """Have something done once, just before the walk enters a directory of that name."""

    def arrange(name: str, act: Callable[[], object]) -> None:
        enter = Descent.enter
        done: list[bool] = []

        def entering(self: Descent, found: bytes) -> None:
            if found == os.fsencode(name) and not done:
                done.append(True)
                act()
            enter(self, found)

        monkeypatch.setattr(Descent, "enter", entering)

    return arrange


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("depth", [1000, 5000, DEPTH])
def test_a_tree_of_any_depth_is_measured_and_removed_with_a_few_descriptors(
    tree: Path, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_deep(tree, depth)
    before, most = open_files(), 0
    enter = Descent.enter

    def entering(self: Descent, name: bytes) -> None:
        nonlocal most
        enter(self, name)
        if self.depth % 500 == 0:
            most = max(most, open_files())

    monkeypatch.setattr(Descent, "enter", entering)
    assert measure(tree).inodes == depth + 1
    remove_tree(tree)
    assert not tree.exists()
    assert most <= before + 4
    assert open_files() <= before


def test_the_way_back_from_a_deep_place_is_the_way_there(tree: Path) -> None:
    make_deep(tree, DEPTH)
    fd = os.open(tree, OPEN_DIRECTORY)
    with Descent(fd) as descent:
        for _ in range(DEPTH):
            descent.enter(b"d")
        assert (descent.depth, len(descent.path)) == (DEPTH, 2 * DEPTH - 1)
        while descent.depth:
            descent.leave()
        assert os.path.sameopenfile(descent.fd, fd)
    os.close(fd)


def test_a_link_is_removed_and_never_followed(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (tree / "link").symlink_to(outside)
    assert measure(tree).inodes == 1
    remove_tree(tree)
    assert not tree.exists()
    assert (outside / "kept").exists()


def test_a_link_put_in_a_directorys_place_during_the_walk_leads_nowhere(
    tree: Path, tmp_path: Path, at: Callable[[str, Callable[[], object]], None]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (tree / "a" / "swapped").mkdir(parents=True)

    def swap() -> None:
        (tree / "a" / "swapped").rmdir()
        (tree / "a" / "swapped").symlink_to(outside)

    at("swapped", swap)
    remove_tree(tree)
    assert not tree.exists()
    assert (outside / "kept").exists()


def test_a_directory_moved_out_during_the_walk_takes_no_neighbour_with_it(
    tree: Path, at: Callable[[str, Callable[[], object]], None]
) -> None:
    outside = tree.parent / "outside"
    (outside / "kept").mkdir(parents=True)
    (tree / "a" / "moved" / "inner").mkdir(parents=True)
    (tree / "b").mkdir()
    at("inner", lambda: (tree / "a" / "moved").rename(outside / "moved"))
    remove_tree(tree)
    assert not tree.exists()
    assert (outside / "kept").exists()


def test_a_walk_goes_on_where_it_still_knows_the_way(
    tree: Path, at: Callable[[str, Callable[[], object]], None]
) -> None:
    (tree / "a" / "b" / "c").mkdir(parents=True)
    (tree / "z").mkdir()
    (tree / "z" / "file").touch()
    at("c", lambda: (tree / "a" / "b").rename(tree / "elsewhere"))
    assert measure(tree).inodes >= 4
    remove_tree(tree)
    assert not tree.exists()


def test_a_directory_filled_again_and_again_is_given_up_by_name(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "busy").mkdir()
    (tree / "other").mkdir()
    leave = Descent.leave

    def leaving(self: Descent) -> None:
        if self.name == b"busy":
            (tree / "busy" / "again").touch()
        leave(self)

    monkeypatch.setattr(Descent, "leave", leaving)
    with pytest.raises(OSError, match="busy"):
        remove_tree(tree)
    assert [path.name for path in tree.iterdir()] == ["busy"]


def test_what_cannot_be_removed_is_named_and_everything_else_goes(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "fixed").touch()
    (tree / "a" / "loose").touch()
    unlink = os.unlink

    def unlinking(name: bytes, *, dir_fd: int | None = None) -> None:
        if name == b"fixed":
            raise PermissionError(1, "Operation not permitted")
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", unlinking)
    with pytest.raises(PermissionError, match="a/b/fixed"):
        remove_tree(tree)
    assert sorted(path.name for path in tree.rglob("*")) == ["a", "b", "fixed"]


def test_removal_is_no_error_where_nothing_is_and_takes_files_too(tree: Path) -> None:
    remove_tree(tree / "missing")
    remove_tree(tree / "missing" / "inner")
    (tree / "file").touch()
    remove_tree(tree / "file")
    assert not any(tree.iterdir())


def test_emptying_keeps_the_directory_itself(tree: Path) -> None:
    (tree / "a" / "b").mkdir(parents=True)
    fd = os.open(tree, OPEN_DIRECTORY)
    empty(fd)
    os.close(fd)
    assert not any(tree.iterdir())


@pytest.mark.parametrize("walk", [measure, remove_tree, measure_any])
def test_a_walk_ends_when_nobody_waits_for_it(tree: Path, walk: Callable[..., object]) -> None:
    for number in range(50):
        (tree / f"d{number}").mkdir()
    asked = iter(range(1000))
    with pytest.raises(AbandonedError):
        walk(tree, lambda: next(asked) > 10)
    assert next(asked) < 15
    assert len(list(tree.iterdir())) == 50


def test_a_file_with_several_names_counts_once(tree: Path) -> None:
    (tree / "one").write_bytes(bytes(8192))
    once = measure(tree)
    (tree / "two").hardlink_to(tree / "one")
    (tree / "d").mkdir()
    (tree / "d" / "three").hardlink_to(tree / "one")
    assert measure(tree).inodes == once.inodes + 1
    shutil.rmtree(tree / "d")
    assert measure(tree) == once


def test_names_come_back_last_first_and_take_little_memory() -> None:
    names = Names([b"a", b"b c", "\N{SNOWMAN}".encode()])
    assert [names.pop(), names.pop(), names.pop()] == ["\N{SNOWMAN}".encode(), b"b c", b"a"]
    assert not names
    with pytest.raises(IndexError):
        names.pop()
    many = Names(b"%d" % number for number in range(100_000))
    assert len(many._packed) < 700_000  # what it is for


async def test_a_cancelled_caller_stops_the_thread_that_walks_for_it() -> None:
    begun, ended = threading.Event(), threading.Event()

    def walk(stop: trees.Stop) -> None:
        begun.set()
        while not stop():
            pass
        ended.set()

    task = asyncio.create_task(trees.walking(walk))
    await asyncio.to_thread(begun.wait, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(ended.wait, 60)


def test_a_long_path_is_shown_by_its_ends() -> None:
    assert shortened(b"a/b") == "a/b"
    shown = shortened(b"/".join([b"d"] * 5000) + b"/\xff")
    assert len(shown) < 140
    assert shown.endswith("\\xff")
