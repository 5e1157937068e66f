"""Lookups in an untrusted root: nothing leads out of it."""

import errno
import os
from pathlib import Path

import pytest

from runtimed.oci import rootfs
from runtimed.oci.rootfs import RootFs, furnish_at


def refuse(directory: int, path: str, flags: int, resolve: int) -> int:
    raise OSError(errno.EAGAIN, "something was renamed", path)


@pytest.fixture(params=["openat2", "walk"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param == "walk":
        monkeypatch.setattr(rootfs, "openat2", refuse)
    (tmp_path / "outside").write_text("secret")
    top = tmp_path / "root"
    (top / "etc").mkdir(parents=True)
    (top / "etc/passwd").write_text("inside")
    return top


def read(root: Path, path: str, limit: int = 100) -> bytes:
    with RootFs(root) as inside:
        return inside.read(path, limit)


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../../../../etc/passwd", "/../etc/./passwd", "//etc//passwd", "etc/../etc/passwd"]
)
def test_links_resolve_inside_the_root(root: Path, target: str) -> None:
    (root / "link").symlink_to(target)
    assert read(root, "/link") == b"inside"
    assert read(root, target) == b"inside"


def test_a_link_chain_through_directories_stays_inside(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("/../c/..")
    (root / "c").mkdir()
    assert read(root, "a/etc/passwd") == b"inside"


def test_the_outside_is_not_there(root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(root, "../outside")


def test_a_loop_of_links_is_an_error(root: Path) -> None:
    (root / "x").symlink_to("y")
    (root / "y").symlink_to("x")
    with pytest.raises(OSError, match="Too many levels"):
        read(root, "x")


def test_only_regular_files_of_a_sane_size_are_read(root: Path) -> None:
    os.mkfifo(root / "fifo")
    with pytest.raises(OSError, match="not a regular file"):
        read(root, "/fifo")
    with pytest.raises(OSError, match="not a regular file"):
        read(root, "/etc")
    with pytest.raises(OSError, match="larger than 3 bytes"):
        read(root, "/etc/passwd", 3)


def test_directories_are_made_inside_and_named_as_resolved(root: Path) -> None:
    (root / "out").symlink_to("/../../../new")
    previous = os.umask(0o077)
    try:
        with RootFs(root) as inside:
            assert inside.make_directory("/out/a/b") == "/new/a/b"
            assert inside.make_directory("/") == "/"
    finally:
        os.umask(previous)
    assert (root / "new/a/b").stat().st_mode & 0o777 == 0o755


def test_a_file_in_the_way_of_a_directory_is_an_error(root: Path) -> None:
    with RootFs(root) as inside, pytest.raises(NotADirectoryError):
        inside.make_directory("/etc/passwd")
    with RootFs(root) as inside, pytest.raises(NotADirectoryError):
        inside.make_directory("/etc/passwd/deeper")


def test_no_descriptor_is_left_open(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with RootFs(root) as inside:
        inside.read("/etc/passwd", 100)
        inside.make_directory("/a/b/../c")
        with pytest.raises(FileNotFoundError):
            inside.find("/nosuch")
    assert len(os.listdir("/proc/self/fd")) <= before  # those of earlier tests may go meanwhile


def test_a_file_is_made_where_links_lead_in_the_root(root: Path) -> None:
    (root / "etc/resolv.conf").symlink_to("../../../run/stub.conf")
    told: list[str] = []
    with RootFs(root, lambda _, name, before: told.append(name)) as inside:
        inside.make_file("/etc/resolv.conf", 0o600)
        inside.make_file("/etc/passwd")
    assert (root / "run/stub.conf").stat().st_mode & 0o777 == 0o600
    assert (root / "etc/passwd").read_text() == "inside"
    assert told == ["run", "stub.conf"]
    assert not (root.parent / "run").exists()


@pytest.mark.parametrize("path", ["/", "/etc/.", "/etc/..", ""])
def test_a_file_without_a_name_is_refused(root: Path, path: str) -> None:
    with RootFs(root) as inside, pytest.raises(IsADirectoryError):
        inside.make_file(path)


def test_furniture_is_put_where_nothing_is_and_never_outside(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "etc").mkdir(parents=True)
    outside.mkdir()
    (root / "etc/hosts").write_text("mine")
    (root / "dev").symlink_to(outside)
    furnish_at(root)
    furnish_at(root)
    assert (root / ".dockerenv").read_bytes() == b""
    assert (root / "etc/hosts").read_text() == "mine"
    assert os.readlink(root / "etc/mtab") == "/proc/mounts"
    assert list(outside.iterdir()) == []
