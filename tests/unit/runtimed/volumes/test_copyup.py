"""Filling a volume from an image: trees of any depth, files with several names, and copies that were interrupted."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtimed.oci.rootfs import RootFs
from runtimed.volumes.copyup import copy_up
from sampan.errors import StartError
from sampan.sys.measuring import measure
from sampan.sys.trees import Descent, remove_tree


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory in memory, for a disk takes long to make many."""
    path = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    (path / "root/data").mkdir(parents=True)
    (path / "volume").mkdir()
    yield path
    remove_tree(path)


def copy(base: Path) -> bool:
    with RootFs(base / "root") as root:
        return copy_up(root, "/data", base / "volume")


def test_a_tree_of_five_thousand_levels_is_copied_with_a_few_descriptors(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = os.open(base / "root/data", os.O_DIRECTORY)
    for _ in range(5000):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    before, most = len(os.listdir("/proc/self/fd")), 0
    enter = Descent.enter

    def entering(self: Descent, name: bytes) -> None:
        nonlocal most
        enter(self, name)
        if self.depth % 500 == 0:
            most = max(most, len(os.listdir("/proc/self/fd")))

    monkeypatch.setattr(Descent, "enter", entering)
    assert copy(base)
    assert measure(base / "volume") == measure(base / "root/data")
    assert most <= before + 8


def test_files_with_several_names_keep_them_and_directories_their_times(base: Path) -> None:
    source = base / "root/data"
    (source / "a/b").mkdir(parents=True)
    (source / "a/one").write_text("linked")
    (source / "a/b/two").hardlink_to(source / "a/one")
    (source / "three").hardlink_to(source / "a/one")
    os.utime(source / "a/b", (1, 2))
    os.utime(source, (3, 4))
    assert copy(base)
    volume = base / "volume"
    assert (volume / "a/one").samefile(volume / "a/b/two")
    assert (volume / "a/one").samefile(volume / "three")
    assert (volume / "a/one").stat().st_nlink == 3
    assert (volume / "a/b").stat().st_mtime == 2
    assert volume.stat().st_mtime == 4


def test_an_interrupted_copy_is_finished_by_the_next(base: Path) -> None:
    source = base / "root/data"
    (source / "a").mkdir()
    (source / "a/one").write_text("linked")
    (source / "a/two").hardlink_to(source / "a/one")
    (base / "volume/a").mkdir()
    (base / "volume/a/one").write_text("ha")
    assert copy(base)
    assert copy(base)
    assert (base / "volume/a/two").read_text() == "linked"
    assert (base / "volume/a/one").stat().st_nlink == 2


def test_a_link_in_a_directorys_place_in_the_volume_leads_nowhere(base: Path) -> None:
    (base / "root/data/a").mkdir()
    (base / "root/data/a/file").write_text("new")
    (base / "outside").mkdir()
    (base / "volume/a").symlink_to(base / "outside")
    with pytest.raises(StartError):
        copy(base)
    assert not any((base / "outside").iterdir())
