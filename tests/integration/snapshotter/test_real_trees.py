"""Images of trees against GNU tar: what the kernel shows of one is what ``tar --extract`` makes, file by file.

They are what people ship: Debian has set-user-ID programs, capabilities and hard links, a virtual environment links out
of itself, packages for Node are deep, and the last tree has 100,000 small files.
"""

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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


LEAST = {debian: 6000, python: 1000, node: 50, small_files: SMALL_FILES}


@pytest.fixture(autouse=True)
def _kernel() -> None:
    need_root()
    need("tar")
    if "erofs" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no EROFS")


@pytest.mark.parametrize("make", LEAST, ids=lambda make: make.__name__)
def test_a_real_tree_reads_as_gnu_tar_extracts_it(make: Callable[[Path], Path], tmp_path: Path) -> None:
    assert compare(make(tmp_path), tmp_path) > LEAST[make]


def compare(archive: Path, directory: Path) -> int:
    """Look at an archive as image and as extracted, and return how many files are in it."""
    theirs = directory / "theirs"
    theirs.mkdir()
    subprocess.run(["tar", "--extract", *KEPT, "--preserve-permissions", "-C", theirs, "--file", archive], check=True)
    convert(archive, directory / "image")
    with mounted(directory / "image", directory / "ours") as ours:
        found = look(ours)
    expected = look(theirs)
    assert found.keys() == expected.keys()
    for path, file in expected.items():
        assert found[path] == seen(file, implied=found[path].mtime_ns == 0), path
    return len(expected)


def seen(file: File, *, implied: bool = False) -> File:
    """Take the time off a directory that the archive does not name: GNU tar gives it the time of the day, we none."""
    return replace(file, mtime_ns=0) if implied and stat.S_ISDIR(file.mode) else file


NAMES = st.one_of(
    st.sampled_from([b"a", b"b", b"n" * 255, b"new\nline", b"\xff\xfe", b"-rf", b"\\", "käse".encode(), b" "]),
    st.binary(min_size=1, max_size=12).filter(lambda name: not {0, ord("/")} & set(name) and name not in (b".", b"..")),
).filter(lambda name: not name.startswith(b".wh."))
XATTRS = st.dictionaries(
    st.sampled_from(["user.a", "user.long" * 20, "trusted.t"]), st.binary(max_size=200), max_size=2
)


@dataclass(frozen=True)
class Facts:
    """What a generated file is beside its name and content."""

    mode: int
    owner: int
    mtime_ns: int
    xattrs: dict[str, bytes]


FACTS = st.builds(
    Facts, st.integers(0, 0o7777), st.sampled_from([0, 1000, 65534, 2**32 - 2]), st.integers(0, 2**32 * 10**9), XATTRS
)
LEAVES = st.one_of(
    st.tuples(st.just("file"), st.tuples(st.sampled_from([0, 1, 4095, 4096, 4097, 9000]), st.integers(0, 3))),
    st.tuples(st.just("symlink"), st.binary(min_size=1, max_size=300).filter(lambda target: 0 not in target)),
    st.tuples(st.just("node"), st.sampled_from([stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK])),
    st.tuples(st.just("again"), st.just(0)),
)
TREES = st.recursive(
    st.tuples(LEAVES, FACTS), lambda inner: st.tuples(st.dictionaries(NAMES, inner, max_size=6), FACTS), max_leaves=25
)


@given(tree=st.tuples(st.dictionaries(NAMES, TREES, max_size=6), FACTS), format=st.sampled_from(["pax", "gnu"]))
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
def test_any_tree_reads_as_gnu_tar_extracts_it(
    tmp_path_factory: pytest.TempPathFactory, tree: Any, format: str
) -> None:
    directory = tmp_path_factory.mktemp("any")
    try:
        grow(os.fsencode(directory / "tree"), tree, [])
        command = ["tar", "--create", *(KEPT if format == "pax" else KEPT[2:]), f"--format={format}", "--sparse"]
        subprocess.run([*command, "-C", directory / "tree", "-f", directory / "tar", "."], check=True)
        compare(directory / "tar", directory)
    finally:
        shutil.rmtree(directory)


def grow(path: bytes, tree: Any, files: list[bytes]) -> None:
    """Make what was generated; ``again`` is one more name of the first regular file."""
    what, facts = tree
    if isinstance(what, dict):
        os.mkdir(path)
        for name, inner in what.items():
            grow(path + b"/" + name, inner, files)
    else:
        kind, how = what
        if kind == "again":
            if files:
                os.link(files[0], path)
            return
        if kind == "symlink":
            os.symlink(how, path)
            os.lchown(path, facts.owner, facts.owner)
            os.utime(path, ns=(0, facts.mtime_ns), follow_symlinks=False)
            return
        if kind == "file":
            size, holes = how
            with open(path, "wb") as file:
                for hole in range(holes):
                    file.seek((hole + 1) * 50_000)
                    file.write(b"x" * size)
            files.append(path)
        else:
            os.mknod(path, how | 0o600, os.makedev(7, 300))
    os.chown(path, facts.owner, facts.owner)
    os.chmod(path, facts.mode)
    if isinstance(what, dict) or what[0] == "file":
        for name, value in facts.xattrs.items():
            os.setxattr(path, name, value)
    os.utime(path, ns=(0, facts.mtime_ns))
