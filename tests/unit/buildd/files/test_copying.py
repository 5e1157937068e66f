"""Copies among plain directories; what needs root is in the integration tests."""

import os
import socket
import stat
from pathlib import Path

import pytest

from buildd.files.copying import copy
from buildd.llb.ops import Copy
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.sys.trees import remove_tree
from tests.unit.buildd.files.places import EPOCH_NS, fill, like_dockerfile, roots, run

FILES: dict[str, str | None] = {"a": "A", "d/b": "B", "d/e/c": "C", "d/link": "-> ../a", "empty": None}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return fill(tmp_path / "source", FILES)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return fill(tmp_path / "target", {})


@pytest.mark.parametrize(
    ("src", "dest", "found"),
    [
        ("/a", "/x", {"x": "A"}),
        ("/a", "/x/", {"x/a": "A"}),
        ("/a", "/x/.", {"x/a": "A"}),
        ("/a", "/", {"a": "A"}),
        ("/a", "/new/deep/x", {"new/deep/x": "A"}),
        ("/d", "/x", {"x/b": "B", "x/e/c": "C", "x/link": "-> ../a"}),
        ("/d/", "/x/", {"x/b": "B", "x/e/c": "C", "x/link": "-> ../a"}),
        ("/d/../a", "/x", {"x": "A"}),
        ("../../a", "/x", {"x": "A"}),
        ("/d/link", "/x/", {"x/link": "A"}),
        ("/empty", "/x", {"x": "/"}),
        ("/d/[be]", "/x/", {"x/b": "B", "x/c": "C"}),
        ("/no*", "/x/", {}),
        ("/?", "/x/", {"x/a": "A", "x/b": "B", "x/e/c": "C", "x/link": "-> ../a"}),
    ],
)
def test_copy_as_a_dockerfile_asks(source: Path, target: Path, src: str, dest: str, found: dict[str, str]) -> None:
    assert run(source, target, like_dockerfile(src, dest)) == found


def test_directory_as_a_whole_goes_below_one_that_is_there(source: Path, target: Path) -> None:
    fill(target, {"x/old": "O"})
    assert run(source, target, Copy("/d", "/x")) == {
        "x/old": "O", "x/d/b": "B", "x/d/e/c": "C", "x/d/link": "-> ../a",
    }  # fmt: skip
    assert run(source, target, Copy("/d", "/y"))["y/b"] == "B"


@pytest.mark.parametrize("src", ["/none", "/a/b", "/d/none"])
def test_a_source_that_is_not_there(source: Path, target: Path, src: str) -> None:
    with pytest.raises(NotFoundError, match=f'failed to calculate checksum of ref source: "{src}": not found'):
        run(source, target, like_dockerfile(src, "/x"))


def test_wildcard_that_must_stand_for_something(source: Path, target: Path) -> None:
    with pytest.raises(NotFoundError, match=r"/no\* not found"):
        run(source, target, like_dockerfile("/no*", "/x", allow_empty_wildcard=False))


def test_required_path(source: Path, target: Path) -> None:
    with pytest.raises(NotFoundError, match='"/d/none": not found'):
        run(source, target, like_dockerfile("/", "/x", required_paths=("/a", "/d/none")))


def test_destination_that_is_not_to_be_made(source: Path, target: Path) -> None:
    with pytest.raises(NotFoundError, match="failed to stat /x/y: no such file or directory"):
        run(source, target, like_dockerfile("/a", "/x/y", create_dest_path=False))


@pytest.mark.parametrize(
    ("there", "src", "dest", "words"),
    [
        ({"x": "file"}, "/d", "/x", "mkdir /x: not a directory|cannot copy to non-directory: /x"),
        ({"x/e": "file"}, "/d", "/x", "cannot copy to non-directory: /x/e"),
        ({"x/e": "-> /etc"}, "/d", "/x", "cannot copy to non-directory: /x/e"),
        ({"x/b/y": "file"}, "/d", "/x", "cannot replace to directory /x/b with file"),
        ({"x": "file"}, "/a", "/x/y", "mkdir /x: not a directory"),
        ({"x/a/b": "file"}, "/a", "/x/", "cannot replace to directory /x/a with file"),
    ],
)
def test_what_is_in_the_way(
    source: Path, target: Path, there: dict[str, str | None], src: str, dest: str, words: str
) -> None:
    fill(target, there)
    with pytest.raises(InvalidArgumentError, match=words):
        run(source, target, like_dockerfile(src, dest))


def test_what_is_in_the_way_is_replaced_if_that_is_asked_for(source: Path, target: Path) -> None:
    fill(target, {"x/e": "file", "x/b/y": "file"})
    found = run(source, target, like_dockerfile("/d", "/x", always_replace=True))
    assert found == {"x/b": "B", "x/e/c": "C", "x/link": "-> ../a"}


def test_links_in_the_destination_lead_nowhere_else(tmp_path: Path, source: Path, target: Path) -> None:
    outside = fill(tmp_path / "outside", {"a": "mine"})
    fill(target, {"up": "-> ../outside", "abs": f"-> {outside}", "way/out": "-> ../../../..", "a": f"-> {outside}/a"})
    run(source, target, like_dockerfile("/a", "/up/"))
    run(source, target, like_dockerfile("/a", "/abs/"))
    run(source, target, like_dockerfile("/a", "/way/out/a2"))
    run(source, target, like_dockerfile("/a", "/a"))
    run(source, target, like_dockerfile("/", "/"))
    assert [(each.name, each.read_text()) for each in outside.iterdir()] == [("a", "mine")]
    assert (target / "outside/a").read_text() == "A"
    assert (target / "a2").read_text() == "A"


def test_links_in_the_source_lead_nowhere_else(tmp_path: Path, target: Path) -> None:
    fill(tmp_path / "outside", {"secret": "S"})
    source = fill(tmp_path / "s", {"up": "-> ../outside/secret", "abs": f"-> {tmp_path}/outside", "loop": "-> loop"})
    for path in ("/up", "/abs/secret"):
        with pytest.raises(NotFoundError):
            run(source, target, like_dockerfile(path, "/x"))
    with pytest.raises(InvalidArgumentError, match="too many links"):
        run(source, target, like_dockerfile("/loop", "/x"))
    assert run(source, target, like_dockerfile("/", "/x"))["x/up"] == "-> ../outside/secret"


def test_modes_and_times_are_the_source_s(source: Path, target: Path) -> None:
    (source / "d/b").chmod(0o6751)
    (source / "d/e").chmod(0o1700)
    os.utime(source / "d/e", ns=(5, 7))
    fill(target, {"x/e/old": "O"})
    os.utime(target / "x", ns=(1, 1))
    run(source, target, like_dockerfile("/d", "/x"))
    assert stat.S_IMODE((target / "x/b").stat().st_mode) == 0o6751
    assert (target / "x/b").stat().st_mtime_ns == EPOCH_NS
    assert stat.S_IMODE((target / "x/e").stat().st_mode) == 0o1700
    assert (target / "x/e").stat().st_mtime_ns == 7
    assert (target / "x/link").lstat().st_mtime_ns == EPOCH_NS


def test_what_was_there_keeps_its_mode_where_it_is_what_is_copied_to(source: Path, target: Path) -> None:
    (source / "d").chmod(0o700)
    fill(target, {"x": None})
    (target / "x").chmod(0o711)
    run(source, target, like_dockerfile("/d", "/x"))
    run(source, target, Copy("/d", "/new"))
    assert stat.S_IMODE((target / "x").stat().st_mode) == 0o711
    assert stat.S_IMODE((target / "new").stat().st_mode) == 0o700


def test_mode_and_time_that_are_asked_for(source: Path, target: Path) -> None:
    run(source, target, like_dockerfile("/", "/x/", mode=0o750, timestamp_ns=EPOCH_NS + 1))
    for path in (target / "x", *(target / "x").rglob("*")):
        if not path.is_symlink() and path != target / "x":
            assert stat.S_IMODE(path.stat().st_mode) == 0o750
            assert path.stat().st_mtime_ns == EPOCH_NS + 1
    run(source, target, like_dockerfile("/", "/y/", mode_text="go-rx,a+X"))
    assert stat.S_IMODE((target / "y/a").stat().st_mode) == 0o600
    assert stat.S_IMODE((target / "y/d").stat().st_mode) == 0o711


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({"exclude_patterns": ("*.txt",)}, {"keep", "d/keep", "d/x.txt", "e/x.txt", "e/y"}),
        ({"exclude_patterns": ("**/*.txt",)}, {"keep", "d/keep", "e/y"}),
        ({"exclude_patterns": ("d", "!d/keep")}, {"keep", "x.txt", "d/keep", "e/x.txt", "e/y"}),
        ({"exclude_patterns": ("/d/",)}, {"keep", "x.txt", "e/x.txt", "e/y"}),
        ({"include_patterns": ("d/*.txt",)}, {"d/x.txt"}),
        ({"include_patterns": ("**/*.txt",), "exclude_patterns": ("d",)}, {"x.txt", "e/x.txt"}),
        ({"include_patterns": ("d",)}, {"d/keep", "d/x.txt"}),
        ({"include_patterns": ("none",)}, set()),
    ],
)
def test_patterns(tmp_path: Path, target: Path, more: dict[str, object], found: set[str]) -> None:
    files: dict[str, str | None] = dict.fromkeys(("keep", "x.txt", "d/keep", "d/x.txt", "e/x.txt", "e/y"), "X")
    source = fill(tmp_path / "source", files)
    assert set(run(source, target, like_dockerfile("/", "/", **more))) == found


def test_directories_on_the_way_get_an_octal_mode_and_not_a_symbolic_one(source: Path, target: Path) -> None:
    (source / "a").write_bytes(b"")
    run(source, target, like_dockerfile("/a", "/x/y/", mode=0o4750))
    run(source, target, like_dockerfile("/a", "/z/", mode_text="go-rx"))
    run(source, target, like_dockerfile("/a", "/w/"))
    modes = {name: stat.S_IMODE((target / name).stat().st_mode) for name in ("x", "x/y", "x/y/a", "z", "w")}
    assert modes == {"x": 0o750, "x/y": 0o750, "x/y/a": 0o4750, "z": 0o755, "w": 0o755}


def test_directory_on_the_way_to_what_is_included_is_like_its_source(tmp_path: Path, target: Path) -> None:
    source = fill(tmp_path / "source", {"a/b/c": "C", "a/x/y": "Y"})
    (source / "a/b").chmod(0o700)
    assert run(source, target, like_dockerfile("/", "/", include_patterns=("a/*/c",))) == {"a/b/c": "C"}
    assert stat.S_IMODE((target / "a/b").stat().st_mode) == 0o700
    assert (target / "a/b").stat().st_mtime_ns == EPOCH_NS


def test_hard_links_stay_hard_links(source: Path, target: Path) -> None:
    os.link(source / "a", source / "d/again")
    os.link(source / "a", source / "zz")
    run(source, target, like_dockerfile("/", "/x"))
    inodes = {(target / "x" / name).stat().st_ino for name in ("a", "d/again", "zz")}
    assert len(inodes) == 1
    assert (target / "x/a").stat().st_nlink == 3


def test_holes_stay_holes(source: Path, target: Path) -> None:
    size = 64 << 20
    with (source / "sparse").open("wb") as file:
        file.truncate(size)
        file.seek(32 << 20)
        file.write(b"data")
    run(source, target, like_dockerfile("/sparse", "/x"))
    copied = (target / "x").stat()
    assert copied.st_size == size
    assert copied.st_blocks * 512 < 1 << 20
    with (target / "x").open("rb") as file:
        file.seek(32 << 20)
        assert file.read(5) == b"data\0"


def test_large_file(source: Path, target: Path) -> None:
    data = os.urandom(3 << 20)
    (source / "large").write_bytes(data)
    with_roots = like_dockerfile("/large", "/x")

    with roots(source, target) as (first, second):
        copy(first, second, with_roots, None)
    assert (target / "x").read_bytes() == data


def test_fifos_are_made_and_sockets_left_out(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(source / "fifo", 0o620)
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(source)  # the whole path may be too long for a socket's
        listening.bind("socket")
        found = run(source, target, like_dockerfile("/", "/x"))
    assert stat.S_ISFIFO((target / "x/fifo").stat().st_mode)
    assert stat.S_IMODE((target / "x/fifo").stat().st_mode) == 0o620
    assert "x/socket" not in found


def test_names_that_are_no_text(source: Path, target: Path) -> None:
    name = b"caf\xe9\n \xff"
    (source / os.fsdecode(name)).write_text("X")
    run(source, target, like_dockerfile("/", "/x"))
    run(source, target, like_dockerfile("/c*", "/y/"))
    assert name in os.listdir(os.fsencode(target / "x"))
    assert os.listdir(os.fsencode(target / "y")) == [name]


def test_attributes_of_a_user_are_copied(source: Path, target: Path) -> None:
    try:
        os.setxattr(source / "a", "user.note", b"\0x")
        os.setxattr(source / "d", "user.note", b"dir")
    except OSError:
        pytest.skip("no attributes on this file system")
    run(source, target, like_dockerfile("/", "/x"))
    assert os.getxattr(target / "x/a", "user.note") == b"\0x"
    assert os.getxattr(target / "x/d", "user.note") == b"dir"


def test_a_tree_deeper_than_any_path(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "source"
    deep(source, 2_500)
    try:
        with roots(source, target) as (first, second):
            copy(first, second, like_dockerfile("/", "/x"), None)
        assert depth(target / "x") == 2_500
    finally:
        remove_tree(source)
        remove_tree(target)


def deep(path: Path, levels: int) -> None:
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


def depth(path: Path) -> int:
    fd = os.open(path, os.O_RDONLY)
    levels = 0
    while True:
        try:
            below = os.open("d", os.O_RDONLY, dir_fd=fd)
        except FileNotFoundError:
            os.close(fd)
            return levels
        os.close(fd)
        fd = below
        levels += 1
