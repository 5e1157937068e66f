import os
import stat
from pathlib import Path

import pytest

from buildd.files.making import make_directory, make_file, make_link, remove_path
from buildd.files.root import Root
from buildd.llb.ops import MakeDirectory, MakeFile, MakeSymlink, Remove
from sampan.errors import InvalidArgumentError, NotFoundError, SampanError
from tests.unit.buildd.files.places import EPOCH_NS, fill, shown


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return fill(tmp_path / "files", {"a": "A", "d/b": "B", "out": "-> ..", "l": "-> d", "to": "-> /a"})


@pytest.fixture
def root(files: Path) -> Root:
    return Root.open(files)


def test_make_file(files: Path, root: Root) -> None:
    make_file(root, MakeFile("/d/new", 0o640, b"N", timestamp_ns=EPOCH_NS), None)
    make_file(root, MakeFile("/to", 0o600, b"over"), None)
    make_file(root, MakeFile("/l/c", 0o4755, b"C"), None)
    status = (files / "d/new").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o640, EPOCH_NS)
    assert (files / "a").read_text() == "over"
    assert stat.S_IMODE((files / "a").stat().st_mode) == 0o644
    assert stat.S_IMODE((files / "d/c").stat().st_mode) == 0o755


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/none/x", NotFoundError), ("/d", InvalidArgumentError), ("/a/x", SampanError), ("/", SampanError)],
)
def test_make_file_where_it_cannot_be(root: Root, path: str, kind: type[SampanError]) -> None:
    with pytest.raises(kind):
        make_file(root, MakeFile(path, 0o644, b""), None)


def test_make_file_writes_into_no_fifo(files: Path, root: Root) -> None:
    os.mkfifo(files / "fifo")
    with pytest.raises(InvalidArgumentError, match="not a regular file"):
        make_file(root, MakeFile("/fifo", 0o644, b"x"), None)


def test_make_directory(files: Path, root: Root) -> None:
    make_directory(root, MakeDirectory("/x/y/z", 0o750, make_parents=True, timestamp_ns=EPOCH_NS), None)
    make_directory(root, MakeDirectory("/l/n", 0o700), None)
    make_directory(root, MakeDirectory("/d", 0o700), None)
    make_directory(root, MakeDirectory("/", 0o700, make_parents=True), None)
    assert [stat.S_IMODE((files / name).stat().st_mode) for name in ("x", "x/y/z", "d/n", "d")] == [
        0o750, 0o750, 0o700, 0o755,
    ]  # fmt: skip
    assert (files / "x/y/z").stat().st_mtime_ns == EPOCH_NS
    with pytest.raises(NotFoundError, match="mkdir /none/x: no such file or directory"):
        make_directory(root, MakeDirectory("/none/x", 0o700), None)
    with pytest.raises(InvalidArgumentError, match="mkdir /a: not a directory"):
        make_directory(root, MakeDirectory("/a/x", 0o700, make_parents=True), None)


def test_remove(files: Path, root: Root) -> None:
    remove_path(root, Remove("/l", allow_wildcard=False, allow_not_found=False))
    assert (files / "d/b").exists()
    remove_path(root, Remove("/out/d", allow_wildcard=False, allow_not_found=False))
    remove_path(root, Remove("/?", allow_wildcard=True, allow_not_found=False))
    remove_path(root, Remove("/none", allow_wildcard=False, allow_not_found=True))
    assert shown(files) == {"out": "-> ..", "to": "-> /a"}
    with pytest.raises(NotFoundError):
        remove_path(root, Remove("/none", allow_wildcard=False, allow_not_found=False))
    for path in ("/", "", "/..", "/."):
        with pytest.raises(InvalidArgumentError):
            remove_path(root, Remove(path, allow_wildcard=False, allow_not_found=False))


def test_make_link(files: Path, root: Root) -> None:
    make_link(root, MakeSymlink("/a", "/l/s", timestamp_ns=EPOCH_NS), None)
    assert (files / "d/s").readlink() == Path("/a")
    assert (files / "d/s").lstat().st_mtime_ns == EPOCH_NS
    with pytest.raises(SampanError, match="symlink /a: file exists"):
        make_link(root, MakeSymlink("x", "/a"), None)
