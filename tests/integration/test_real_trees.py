"""Images of real trees against GNU tar: what the kernel shows of one is what ``tar --extract`` makes, file by file.

They are what people ship: Debian has set-user-ID programs, capabilities and hard links, a virtual environment links out
of itself, packages for Node are deep, and the last tree has 100,000 small files.
"""

import stat
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench.pulls import SMALL_FILES, write_small_files
from tests.support.shown import File, convert, look, mounted
from tests.support.tools import cannot_run, need, need_root
from tests.support.trees import debian_tar

pytestmark = pytest.mark.root

KEPT = ("--xattrs", "--xattrs-include=*", "--numeric-owner")


def archived(target: Path, *trees: tuple[Path, str]) -> Path:
    """Pack of each directory the entry named."""
    places = [argument for directory, name in trees for argument in ("--directory", directory, name)]
    command = ["tar", "--create", *KEPT, "--format=pax", "--sort=name", "--file", target, *places]
    # 1: a file changed meanwhile. The archive is whole, and all that is compared comes out of it.
    assert subprocess.run(command, capture_output=True).returncode < 2
    return target


def debian(_: Path) -> Path:
    need("debootstrap")
    return debian_tar()


def python(directory: Path) -> Path:
    library = Path(sysconfig.get_path("stdlib")).resolve()
    return archived(directory / "tar", (library, "."), (Path(sys.prefix).resolve(), "bin"))


def node(directory: Path) -> Path:
    # npm as it comes from nodejs.org, and what Debian's Node brings.
    trees = [tree for tree in (Path("/usr/lib/node_modules"), Path("/usr/share/nodejs")) if tree.exists()]
    if not trees:
        cannot_run("not installed: nodejs (make test-needs)")
    return archived(directory / "tar", (trees[0], "."))


def small_files(directory: Path) -> Path:
    write_small_files(directory / "tar")
    return directory / "tar"


LEAST = {debian: 6000, python: 1000, node: 100, small_files: SMALL_FILES}


@pytest.mark.parametrize("make", LEAST, ids=lambda make: make.__name__)
def test_a_real_tree_reads_as_gnu_tar_extracts_it(make: Callable[[Path], Path], tmp_path: Path) -> None:
    need_root()
    need("tar")
    if "erofs" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no EROFS")
    archive = make(tmp_path)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    subprocess.run(["tar", "--extract", *KEPT, "--preserve-permissions", "-C", theirs, "--file", archive], check=True)
    convert(archive, tmp_path / "image")
    with mounted(tmp_path / "image", tmp_path / "ours") as ours:
        found = look(ours)
    expected = look(theirs)
    assert len(expected) > LEAST[make]
    assert {path: seen(file) for path, file in found.items()} == {
        path: seen(file, implied=found[path].mtime_ns == 0) for path, file in expected.items() if path in found
    }
    assert found.keys() == expected.keys()


def seen(file: File, *, implied: bool = False) -> File:
    """Take the time off a directory that the archive does not name: GNU tar gives it the time of the day, we none."""
    return replace(file, mtime_ns=0) if implied and stat.S_ISDIR(file.mode) else file
