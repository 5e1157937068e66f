"""Places to mount at: made where they are missing, and gone again unless somebody uses them."""

import os
from pathlib import Path

import pytest

from runtimed.steps.stubs import Stubs
from sampan.errors import StartError

USUAL = ["dev", "etc", "etc/hostname", "etc/hosts", "etc/resolv.conf", "proc", "sys"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


def below(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


def test_they_are_made_and_removed(root: Path) -> None:
    stubs = Stubs(root)
    stubs.make(["/a/b"], ["/run/secrets/x"])
    assert below(root) == sorted([*USUAL, "a", "a/b", "run", "run/secrets", "run/secrets/x"])
    stubs.remove()
    assert below(root) == []


def test_what_was_there_stays(root: Path) -> None:
    (root / "etc").mkdir()
    (root / "etc/hosts").touch()
    (root / "a").mkdir()
    stubs = Stubs(root)
    stubs.make(["/a"], [])
    stubs.remove()
    assert below(root) == ["a", "etc", "etc/hosts"]


def test_what_was_filled_or_replaced_stays(root: Path) -> None:
    stubs = Stubs(root)
    stubs.make(["/a/b", "/c"], ["/f", "/g"])
    (root / "a/own").touch()
    (root / "f").write_text("x")
    (root / "g").unlink()
    (root / "g").mkdir()
    (root / "c").rmdir()
    (root / "c").symlink_to("a")
    stubs.remove()
    assert below(root) == ["a", "a/own", "c", "f", "g"]


def test_links_are_followed_inside_and_never_out(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (root / "etc").mkdir()
    (root / "etc/resolv.conf").symlink_to("../run/systemd/stub.conf")
    (root / "etc/hosts").symlink_to(f"{tmp_path}/outside/hosts")
    (root / "mnt").symlink_to("../../../../outside")
    stubs = Stubs(root)
    stubs.make(["/mnt/deep"], [])
    assert list((tmp_path / "outside").iterdir()) == []
    assert (root / "run/systemd/stub.conf").is_file()
    assert (root / f"{tmp_path}/outside/hosts".lstrip("/")).is_file()
    assert (root / "outside/deep").is_dir()
    stubs.remove()
    assert below(root) == ["etc", "etc/hosts", "etc/resolv.conf", "mnt"]


def test_a_directory_that_was_moved_away_leads_a_removal_nowhere(root: Path, tmp_path: Path) -> None:
    stubs = Stubs(root)
    stubs.make(["/a/b"], [])
    (root / "a").rename(root / "moved")
    (tmp_path / "outside/b").mkdir(parents=True)
    (root / "a").symlink_to(tmp_path / "outside")
    stubs.remove()
    assert (tmp_path / "outside/b").is_dir()


def test_times_are_put_back(root: Path) -> None:
    (root / "etc").mkdir()
    os.utime(root / "etc", ns=(10**9, 2 * 10**9))
    os.utime(root, ns=(10**9, 3 * 10**9))
    stubs = Stubs(root)
    stubs.make([], [])
    assert (root / "etc").stat().st_mtime_ns == 2 * 10**9
    stubs.remove()
    assert (root / "etc").stat().st_mtime_ns == 2 * 10**9
    assert root.stat().st_mtime_ns == 3 * 10**9


def test_two_steps_of_one_root_share_them(root: Path) -> None:
    stubs = Stubs(root)
    stubs.make(["/a"], [])
    stubs.make(["/a/b"], [])
    stubs.remove()
    assert below(root) == []


def test_a_file_in_the_way_of_a_directory_is_told(root: Path) -> None:
    (root / "proc").touch()
    with pytest.raises(StartError, match="cannot make /proc in the root of the step"):
        Stubs(root).make([], [])


def test_links_that_go_round_are_told(root: Path) -> None:
    (root / "etc").mkdir()
    (root / "etc/hosts").symlink_to("hosts")
    with pytest.raises(StartError, match="cannot make /etc/hosts"):
        Stubs(root).make([], [])
