"""What a checksum is of, and what spares reading files."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from buildd.files.checksum import checksum, checksum_of_directory
from buildd.files.index import Index, give_stamp, read_stamp, take_stamp
from buildd.files.root import Root
from buildd.protocol import Selection
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.oci.digest import Digest
from tests.unit.buildd.files.places import fill

FILES: dict[str, str | None] = {"a": "A", "d/b": "B", "d/e/c": "C", "d/link": "-> ../a", "empty": None}
ALL = Selection()


def of(directory: Path, selection: Selection = ALL) -> Digest:
    with Root.open(directory) as root:
        return checksum(root, selection)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return fill(tmp_path / "files", FILES)


def replace_with_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("b")


@pytest.mark.parametrize(
    "change",
    [
        lambda files: (files / "d/e/c").write_text("c"),
        lambda files: (files / "d/e/c").rename(files / "d/e/x"),
        lambda files: (files / "d/e/c").rename(files / "d/c"),
        lambda files: (files / "d/e/c").chmod(0o600),
        lambda files: (files / "empty").rmdir(),
        lambda files: (files / "empty").chmod(0o700),
        lambda files: replace_with_link(files / "d/link"),
        lambda files: replace_with_link(files / "d/e/c"),
        lambda files: (files / "d/e/new").mkdir(),
        lambda files: os.mkfifo(files / "d/e/fifo"),
        lambda files: os.setxattr(files / "a", "user.x", b"1"),
    ],
)
def test_every_change_counts(files: Path, change: Callable[[Path], object]) -> None:
    before = of(files)
    change(files)
    assert of(files) != before


def test_times_and_places_do_not_count(files: Path, tmp_path: Path) -> None:
    copied = tmp_path / "elsewhere"
    shutil.copytree(files, copied, symlinks=True)
    os.utime(copied / "a", ns=(1, 1))
    os.utime(copied / "d", ns=(1, 1))
    assert of(copied) == of(files)


@pytest.mark.parametrize(
    ("selection", "counts", "does_not"),
    [
        (Selection("/d"), "d/e/c", "a"),
        (Selection("/a"), "a", "d/b"),
        (Selection("d/e/"), "d/e/c", "d/b"),
        (Selection("/d/link", follow_symlink=True), "a", "d/b"),
        (Selection("/d/link"), "d/link", "a"),
        (Selection("/?", wildcard=True), "d/b", "empty/x"),
        (Selection("/d/[b]", wildcard=True), "d/b", "d/e/c"),
        (Selection("/d", exclude_patterns=("e",)), "d/b", "d/e/c"),
        (Selection("/", include_patterns=("d/*/c",)), "d/e/c", "d/b"),
    ],
)
def test_only_what_is_selected_counts(files: Path, selection: Selection, counts: str, does_not: str) -> None:
    before = of(files, selection)
    if (files / does_not).is_symlink():
        (files / does_not).unlink()
    (files / does_not).write_text("changed")
    assert of(files, selection) == before
    (files / counts).unlink()
    (files / counts).write_text("changed, too")
    assert of(files, selection) != before


def test_a_name_counts_if_a_wildcard_found_it(files: Path) -> None:
    single, wild = Selection("/a"), Selection("/[ax]", wildcard=True)
    before = of(files, single), of(files, wild)
    (files / "a").rename(files / "x")
    assert of(files, Selection("/x")) == before[0]
    assert of(files, wild) != before[1]


@pytest.mark.parametrize("path", ["/x", "/a/x", "/d/../x", "/d/none/x"])
def test_what_is_not_there(files: Path, path: str) -> None:
    shown = {"/d/../x": "/x"}.get(path, path)
    with pytest.raises(NotFoundError, match=f'^"{shown}": not found$'):
        of(files, Selection(path))


def test_wildcard_that_stands_for_nothing_is_the_same_everywhere(files: Path, tmp_path: Path) -> None:
    nothing = Selection("/none*", wildcard=True)
    assert of(files, nothing) == of(fill(tmp_path / "other", {"x": "X"}), nothing)


@pytest.mark.parametrize("pattern", ["[", "[a", "a\\"])
def test_pattern_that_cannot_be(files: Path, pattern: str) -> None:
    with pytest.raises(InvalidArgumentError, match="syntax error in pattern"):
        of(files, Selection("/", exclude_patterns=(pattern,)))


def test_links_out_are_not_followed(files: Path, tmp_path: Path) -> None:
    outside = fill(tmp_path / "outside", {"secret": "S"})
    (files / "out").symlink_to(outside)
    before = of(files)
    (outside / "secret").write_text("T")
    assert of(files) == before
    with pytest.raises(NotFoundError):
        of(files, Selection("/out/secret", follow_symlink=True))


def test_an_index_gives_the_same_and_reads_nothing_twice(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = checksum_of_directory(files, ALL)
    assert first == of(files)
    monkeypatch.setattr("buildd.files.checksum._content", lambda *_: pytest.fail("read again"))
    assert checksum_of_directory(files, ALL) == first


def test_an_index_knows_what_has_changed(files: Path) -> None:
    first = checksum_of_directory(files, ALL)
    status = (files / "d/b").stat()
    (files / "d/b").write_text("X")  # of the same size
    os.utime(files / "d/b", ns=(status.st_atime_ns, status.st_mtime_ns))
    second = checksum_of_directory(files, ALL)
    assert first != second == of(files)


def test_an_index_forgets_what_is_gone(files: Path) -> None:
    checksum_of_directory(files, ALL)
    checksum_of_directory(files, Selection("/d"))
    (files / "a").unlink()
    checksum_of_directory(files, ALL)
    assert len(Index.of(files)._known) == 2


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:60] + b"x" * 60])
def test_a_damaged_index_is_as_good_as_none(files: Path, damage: Callable[[bytes], bytes]) -> None:
    first = checksum_of_directory(files, ALL)
    index = files.with_name("files.index")
    index.write_bytes(damage(index.read_bytes()))
    assert checksum_of_directory(files, ALL) == first


def test_stamps(files: Path) -> None:
    assert read_stamp(files) == ""
    give_stamp(files)
    stamp = read_stamp(files)
    assert stamp
    assert take_stamp(files) == stamp
    assert read_stamp(files) == ""
    give_stamp(files, stamp)
    assert read_stamp(files) == stamp
