"""Extraction on a real kernel: what a layer may not do, and that what it may is as GNU tar does it."""

import hashlib
import io
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampan.errors import InvalidArgumentError
from sampan.sys.measuring import measure
from sampan.sys.trees import empty
from sampan.tar.reader import TarReader
from snapshotter.unpack.extract import Extracted, Extractor

pytestmark = pytest.mark.root

Layer = Callable[..., None]


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    previous = os.umask(0)
    yield
    os.umask(previous)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir(mode=0o755)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    return tmp_path / "root"


def extract(root: Path, data: bytes) -> Extracted:
    trash = root.parent / "trash"
    trash.mkdir(exist_ok=True)
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (root, trash)]
    try:
        return Extractor(*fds).extract(TarReader(io.BytesIO(data)))
    finally:
        for fd in fds:
            os.close(fd)


def entry(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = more.pop("mode", 0o755 if kind == tarfile.DIRTYPE else 0o644)
    info.mtime = 1_600_000_000
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def layer(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in entries:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def directory(name: str, **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.DIRTYPE, **more)


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.SYMTYPE, linkname=target)


def hard(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.LNKTYPE, linkname=target)


def xattr(pair: tuple[tarfile.TarInfo, bytes], name: str, value: str) -> tuple[tarfile.TarInfo, bytes]:
    pair[0].pax_headers = {f"SCHILY.xattr.{name}": value}
    return pair


ESCAPES = {
    "dot dot": [entry("../outside/new")],
    "dot dot inside": [directory("a"), entry("a/../../outside/new")],
    "link to the outside by hard link": [hard("a", "../outside/secret")],
    "hard link through a link": [link("d", "{outside}"), hard("a", "d/secret")],
    "whiteout through a link": [link("d", "/etc"), entry("d/.wh.passwd")],
    "opaque through a link": [directory("e"), link("d", "e"), entry("d/.wh..wh..opq")],
    "whiteout of the parent": [entry("a/.wh...")],
    "overlay's own attribute": [xattr(directory("a"), "trusted.overlay.opaque", "y")],
    "overlay's redirect": [xattr(entry("a"), "trusted.overlay.redirect", "/etc")],
    "root replaced by a link": [link("/", "{outside}")],
    "file as parent": [entry("a"), entry("a/b")],
    "links in a circle": [link("a", "b"), link("b", "a"), entry("a/c")],
    "hard link to itself": [entry("a"), hard("a", "a")],
    "hard link to nothing": [hard("a", "missing")],
    "hard link to a directory": [directory("d"), hard("a", "d")],
    "empty link": [link("a", "")],
}


@pytest.mark.parametrize("case", ESCAPES)
def test_what_a_layer_must_not_do_is_refused_by_name(root: Path, case: str) -> None:
    outside = root.parent / "outside"
    entries = []
    for info, data in ESCAPES[case]:
        info.linkname = info.linkname.format(outside=outside)
        entries.append((info, data))
    with pytest.raises(InvalidArgumentError, match="entry '"):
        extract(root, layer(*entries))
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    assert not (outside / "secret").stat().st_nlink > 1


def test_a_link_out_of_the_layer_is_stored_and_not_followed(root: Path) -> None:
    extract(root, layer(link("d", "/"), entry("d/x", data=b"1")))
    assert (root / "d").readlink() == Path("/")
    assert (root / "x").read_text() == "1"  # "/" is the layer's own root


def test_an_absolute_link_to_a_directory_that_the_layer_lacks_makes_it_inside(root: Path) -> None:
    outside = root.parent / "outside"
    extract(root, layer(link("d", f"{outside}"), entry("d/new", data=b"1")))
    assert not (outside / "new").exists()
    assert (root / str(outside).lstrip("/") / "new").read_text() == "1"


def test_a_linked_parent_inside_the_layer_is_followed_as_docker_does(root: Path) -> None:
    extract(root, layer(directory("usr/lib"), link("lib", "usr/lib"), entry("lib/x", data=b"1"), hard("y", "lib/x")))
    assert (root / "usr/lib/x").read_text() == "1"
    assert (root / "lib").is_symlink()
    assert (root / "y").stat().st_nlink == 2


def test_dot_dot_in_links_stops_at_the_root(root: Path) -> None:
    extract(root, layer(directory("a"), directory("b"), link("a/up", "../../../../b"), entry("a/up/x", data=b"1")))
    assert (root / "b/x").read_text() == "1"


def test_absolute_names_are_below_the_root(root: Path) -> None:
    extract(root, layer(entry("/etc/x", data=b"1")))
    assert (root / "etc/x").read_text() == "1"


def test_missing_parents_are_made_for_everybody(root: Path) -> None:
    extract(root, layer(entry("a/b/c", data=b"1", uid=5)))
    for path in (root / "a", root / "a/b"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o755
        assert path.stat().st_uid == 0


def test_the_last_of_several_entries_wins(root: Path) -> None:
    extract(
        root,
        layer(
            entry("a", data=b"1", mode=0o600),
            entry("a", data=b"22"),
            directory("b"),
            entry("b/x"),
            entry("b", data=b"file"),
            entry("c"),
            directory("c", mode=0o700),
            link("d", "a"),
            entry("d", data=b"not a"),
            directory("e", mode=0o700),
            directory("e", mode=0o711),
        ),
    )
    assert (root / "a").read_text() == "22"
    assert (root / "b").read_text() == "file"
    assert stat.S_IMODE((root / "c").stat().st_mode) == 0o700
    assert (root / "d").read_text() == "not a"
    assert (root / "a").read_text() == "22"
    assert stat.S_IMODE((root / "e").stat().st_mode) == 0o711


def test_a_directory_replaced_by_a_file_and_back_has_what_came_last(root: Path) -> None:
    extract(
        root, layer(directory("a", mode=0o700), entry("a/old"), entry("a"), entry("a2"), directory("a"), entry("a/new"))
    )
    assert sorted(path.name for path in (root / "a").iterdir()) == ["new"]


def test_special_bits_survive_the_change_of_owner(root: Path) -> None:
    extract(
        root,
        layer(
            directory("d", mode=0o2775, uid=1, gid=2),
            entry("d/f", mode=0o6755, uid=1000, gid=1000),
            directory("d/sub", mode=0o1777),
            entry("d/g", gid=0),
        ),
    )
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o2775
    assert stat.S_IMODE((root / "d/f").stat().st_mode) == 0o6755
    assert stat.S_IMODE((root / "d/sub").stat().st_mode) == 0o1777
    assert ((root / "d/g").stat().st_gid, (root / "d/f").stat().st_gid) == (0, 1000)


def test_capabilities_survive_the_change_of_owner(root: Path) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    extract(root, layer(xattr(entry("ping", data=b"1", uid=7), "security.capability", capability.decode("latin1"))))
    assert os.getxattr(root / "ping", "security.capability") == capability


def test_devices_fifos_and_links_are_made_with_their_owners_and_times(root: Path) -> None:
    extract(
        root,
        layer(
            entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666, uid=3),
            entry("disk", tarfile.BLKTYPE, devmajor=8, devminor=300, mode=0o660),
            entry("pipe", tarfile.FIFOTYPE, mode=0o622),
            entry("link", tarfile.SYMTYPE, linkname="nowhere", uid=4, gid=5),
        ),
    )
    assert (root / "null").stat().st_rdev == os.makedev(1, 3)
    assert (root / "disk").stat().st_rdev == os.makedev(8, 300)
    assert stat.S_IMODE((root / "pipe").stat().st_mode) == 0o622
    found = (root / "link").lstat()
    assert (found.st_uid, found.st_gid, found.st_mtime) == (4, 5, 1_600_000_000)


def test_directories_keep_their_times_though_files_come_later(root: Path) -> None:
    extract(root, layer(directory("a"), directory("a/b"), entry("a/b/f"), entry("a/f")))
    assert (root / "a").stat().st_mtime == (root / "a/b").stat().st_mtime == 1_600_000_000


def test_the_root_gets_the_attributes_of_its_entry(root: Path) -> None:
    extract(root, layer(directory("./", mode=0o1711, uid=3), entry("./f")))
    assert (stat.S_IMODE(root.stat().st_mode), root.stat().st_uid) == (0o1711, 3)


def test_whiteouts_and_opaque_marks_are_overlays(root: Path) -> None:
    extract(root, layer(directory("d"), entry("d/.wh..wh..opq"), entry(".wh.gone"), entry("new/.wh.x")))
    assert os.getxattr(root / "d", "trusted.overlay.opaque") == b"y"
    for path in (root / "gone", root / "new/x"):
        assert stat.S_ISCHR(path.stat().st_mode)
        assert path.stat().st_rdev == 0


@pytest.mark.parametrize("first", ["whiteout", "directory"])
def test_a_directory_beside_its_own_whiteout_is_opaque(root: Path, first: str) -> None:
    entries = [entry(".wh.d"), directory("d"), entry("d/x")]
    extract(root, layer(*(entries if first == "whiteout" else [*entries[1:], entries[0]])))
    assert os.getxattr(root / "d", "trusted.overlay.opaque") == b"y"
    assert [path.name for path in (root / "d").iterdir()] == ["x"]


def test_a_file_beside_its_own_whiteout_stays(root: Path) -> None:
    extract(root, layer(entry("f", data=b"1"), entry(".wh.f"), entry(".wh.g"), entry("g", data=b"2")))
    assert ((root / "f").read_text(), (root / "g").read_text()) == ("1", "2")


def test_a_tree_a_thousand_levels_deep_is_made_and_removed(root: Path) -> None:
    deep = "/".join(["d"] * 1500)
    extract(root, layer(entry(f"{deep}/f", data=b"1"), directory("x"), entry(f"{'/'.join(['e'] * 700)}/f"), entry("e")))
    assert measure(root).inodes == 1503
    assert (root / "e").is_file()
    for path in (root, root.parent / "trash"):
        fd = os.open(path, os.O_RDONLY)
        empty(fd)
        os.close(fd)
        assert list(path.iterdir()) == []


def test_more_directories_than_are_kept_open_are_no_matter(root: Path) -> None:
    names = [f"d{number}/e/f" for number in range(400)]
    extract(root, layer(*(entry(name) for name in names), *(hard(f"{name}2", names[0]) for name in names)))
    assert (root / names[0]).stat().st_nlink == 401


def facts(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted([root, *root.rglob("*")]):
        status = path.lstat()
        content: Any = None
        if stat.S_ISREG(status.st_mode):
            content = (hashlib.sha256(path.read_bytes()).hexdigest(), status.st_nlink)
        elif stat.S_ISLNK(status.st_mode):
            content = str(path.readlink())
        xattrs = {n: os.getxattr(path, n, follow_symlinks=False) for n in os.listxattr(path, follow_symlinks=False)}
        kind, mode = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)
        owner, times = (status.st_uid, status.st_gid), status.st_mtime_ns
        found[str(path.relative_to(root))] = (kind, mode, owner, times, status.st_rdev, content, xattrs)
    return found


def gnu_tar(target: Path, archive: Path) -> None:
    target.mkdir()
    subprocess.run(
        ["tar", "x", "-p", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-C", target, "-f", archive], check=True
    )


FORMATS = {
    "pax": ["--format=pax", "--xattrs", "--xattrs-include=*", "--sparse"],
    "gnu": ["--format=gnu", "--sparse"],
    "pax 0.0": ["--format=pax", "--sparse-version=0.0", "--sparse"],
    "pax 0.1": ["--format=pax", "--sparse-version=0.1", "--sparse"],
    "ustar": ["--format=ustar"],
}


def build(tree: Path) -> None:
    tree.mkdir()
    (tree / "bin").mkdir()
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    for name in ("sh", "ls", "cat"):
        os.link(tree / "bin/busybox", tree / "bin" / name)
    (tree / "bin/busybox").chmod(0o4755)
    os.symlink("bin", tree / "sbin")
    (tree / "deep" / ("x" * 90) / ("y" * 80)).mkdir(parents=True)
    (tree / "deep" / ("x" * 90) / ("y" * 80) / "ümlaut").write_text("1")
    (tree / "tmp").mkdir()
    (tree / "tmp").chmod(0o1777)
    os.mkfifo(tree / "tmp/fifo")
    os.mknod(tree / "tmp/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with open(tree / "sparse", "wb") as file:
        for offset in (0, 1 << 20, 5 << 20, 40 << 20):
            file.seek(offset)
            file.write(b"data" * 2000)
        file.truncate(50 << 20)
    with open(tree / "many holes", "wb") as file:
        for number in range(60):
            file.seek(number * 65536)
            file.write(b"x" * 4096)
    (tree / "hole").touch()
    os.truncate(tree / "hole", 1 << 20)
    os.chown(tree / "deep", 1000, 2000)
    os.setxattr(tree / "sparse", "user.a", b"1")
    os.setxattr(tree / "bin/busybox", "security.capability", bytes.fromhex("0100000200040000" + "00" * 12))
    os.utime(tree / "tmp", ns=(0, 1_234_567_890_123_456_789))


@pytest.mark.parametrize("format", FORMATS)
def test_a_tree_comes_out_as_gnu_tar_makes_it(tmp_path: Path, format: str) -> None:
    build(tmp_path / "tree")
    subprocess.run(["tar", "c", *FORMATS[format], "-C", tmp_path / "tree", "-f", tmp_path / "tar", "."], check=True)
    gnu_tar(tmp_path / "theirs", tmp_path / "tar")
    (tmp_path / "ours").mkdir()
    extract(tmp_path / "ours", (tmp_path / "tar").read_bytes())
    assert facts(tmp_path / "ours") == facts(tmp_path / "theirs")
    if format != "ustar":
        assert (tmp_path / "ours/sparse").stat().st_blocks < (1 << 20) // 512


NAMES = st.lists(st.sampled_from(["a", "b", "c", "é", "x" * 120]), min_size=1, max_size=4).map("/".join)
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE])


@given(
    entries=st.dictionaries(
        NAMES, st.tuples(KINDS, st.integers(0, 0o7777), st.integers(0, 99_999), st.binary(max_size=1500)), max_size=12
    ),
    format=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_tree_comes_out_as_gnu_tar_makes_it(
    tmp_path_factory: pytest.TempPathFactory, entries: dict[str, tuple[bytes, int, int, bytes]], format: int
) -> None:
    place = tmp_path_factory.mktemp("any")
    made: set[str] = set()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, (kind, mode, owner, data) in sorted(entries.items()):
            parents = [name.rsplit("/", count)[0] for count in range(1, name.count("/") + 1)]
            if any(entries.get(parent, (tarfile.DIRTYPE,))[0] != tarfile.DIRTYPE for parent in parents):
                continue
            data = data if kind == tarfile.REGTYPE else b""
            info, _ = entry(name, kind, mode=mode, uid=owner, gid=owner, linkname="t/x" if kind == b"2" else "")
            info.size = len(data)
            for parent in reversed(parents):
                if parent not in entries and parent not in made:
                    made.add(parent)
                    archive.addfile(directory(parent)[0])
            archive.addfile(info, io.BytesIO(data))
    (place / "tar").write_bytes(buffer.getvalue())
    gnu_tar(place / "theirs", place / "tar")
    (place / "ours").mkdir()
    extract(place / "ours", buffer.getvalue())
    ours, theirs = facts(place / "ours"), facts(place / "theirs")
    for tree in (ours, theirs):
        tree.pop(".")  # not in the archive
    assert ours == theirs
    shutil.rmtree(place)
