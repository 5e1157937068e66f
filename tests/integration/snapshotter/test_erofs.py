"""EROFS images against extraction: one tar, made into both, must read the same through the kernel."""

import dataclasses
import io
import os
import stat
import struct
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampan.errors import InvalidArgumentError
from sampan.sys.trees import empty
from sampan.tar.reader import TarReader
from snapshotter.unpack.extract import Extractor
from tests.support.shown import File, convert, look, mounted, opened
from tests.support.tools import need, need_root
from tests.support.trees import debian_tar

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def _root() -> None:
    need_root()
    if "erofs" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no EROFS")


def extract(archive: bytes | Path, target: Path) -> None:
    (target / "root").mkdir(parents=True)
    (target / "trash").mkdir()
    previous = os.umask(0)
    root, trash = (os.open(target / name, os.O_RDONLY | os.O_DIRECTORY) for name in ("root", "trash"))
    try:
        with opened(archive) as source:
            Extractor(root, trash).extract(TarReader(source))
        empty(trash)  # hard links in it count
    finally:
        os.umask(previous)
        os.close(root)
        os.close(trash)


def compare(archive: bytes | Path, directory: Path) -> dict[bytes, File]:
    """Make both, check that they read the same, and return what is in them."""
    extract(archive, directory / "x")
    convert(archive, directory / "image")
    with mounted(directory / "image", directory / "m") as tree:
        found, expected = look(tree), look(directory / "x/root")
    assert sorted(found) == sorted(expected)
    for path, file in expected.items():
        if found[path].mtime_ns == 0 and (stat.S_ISDIR(file.mode) or stat.S_ISCHR(file.mode)):
            # A whiteout, or a directory that the archive does not name: made with the time of the day by the one, with
            # none by the other.
            file = dataclasses.replace(file, mtime_ns=0)
        assert found[path] == file, path
    return found


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def member(name: str, content: bytes = b"", **facts: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mtime = 1_700_000_000
    for key, value in facts.items():
        setattr(info, key, value)
    return info, content


def folder(name: str, mode: int = 0o755, **facts: object) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, b"", type=tarfile.DIRTYPE, mode=mode, **facts)


def test_a_debian_tree_reads_the_same(tmp_path: Path) -> None:
    need("debootstrap")
    found = compare(debian_tar(), tmp_path)
    assert len(found) > 6000
    assert any(file.mode & stat.S_ISUID for file in found.values())
    assert any(name == "security.capability" for file in found.values() for name, _ in file.xattrs)


def test_the_same_layer_gives_the_same_bytes(tmp_path: Path) -> None:
    archive = tar(folder("d"), member("d/f", b"x" * 10_000), member("d/g", b"y"))
    convert(archive, tmp_path / "1")
    convert(archive, tmp_path / "2")
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_fsck_finds_nothing_wrong(tmp_path: Path) -> None:
    need("fsck.erofs")
    names = [member(f"d/{'n' * (i % 200)}{i}", b"z" * (i * 37 % 9000)) for i in range(1500)]
    convert(tar(folder("d"), *names), tmp_path / "image")
    result = subprocess.run(["fsck.erofs", str(tmp_path / "image")], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("size", [0, 1, 3071, 3072, 3073, 4031, 4032, 4033, 4095, 4096, 4097, 8191, 8192, 1 << 20])
def test_files_of_sizes_around_a_block(tmp_path: Path, size: int) -> None:
    files = [member(f"f{i}", bytes([65 + i]) * size) for i in range(5)]
    found = compare(tar(*files), tmp_path)
    assert found[b"f0"].size == size


def test_a_directory_of_fifty_thousand_entries(tmp_path: Path) -> None:
    names = [member(f"d/entry-{i:07}") for i in range(50_000)]
    found = compare(tar(*names), tmp_path)
    assert len(found) == 50_002


def test_every_kind_of_file(tmp_path: Path) -> None:
    archive = tar(
        folder("d", uid=1000, gid=2**32 - 2, mode=0o2755),
        member("d/sticky", b"s", mode=0o1777),
        member("d/setuid", b"s", mode=0o4755, uid=7),
        member("d/link", type=tarfile.SYMTYPE, linkname="../" + "long/" * 700 + "end"),
        member("d/short", type=tarfile.SYMTYPE, linkname="x"),
        member("d/fifo", type=tarfile.FIFOTYPE),
        member("d/char", type=tarfile.CHRTYPE, devmajor=250, devminor=70_000),
        member("d/block", type=tarfile.BLKTYPE, devmajor=8, devminor=1),
        member("d/hard", type=tarfile.LNKTYPE, linkname="d/setuid"),
        member("d/harder", type=tarfile.LNKTYPE, linkname="./d/hard"),
        member("old", b"", mtime=-1.5),
        member("new", b"", mtime=2**33 + 0.25),
        member("made/on/the/way", b"x"),
        member("n" * 255, b"longest"),
    )
    found = compare(archive, tmp_path)
    assert found[b"d/hard"].nlink == 3


def test_attributes_of_all_kinds(tmp_path: Path) -> None:
    capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    pax = {
        "SCHILY.xattr.user.colour": "red",
        "SCHILY.xattr.user.empty": "",
        "SCHILY.xattr.security.capability": capability,
    }
    archive = tar(
        folder(".", pax_headers={"SCHILY.xattr.user.root": "yes"}),
        member("f", b"x" * 3000, pax_headers=pax),
        folder("d", pax_headers={"SCHILY.xattr.user.big": "v" * 3000}),
    )
    found = compare(archive, tmp_path)
    assert len(found[b"f"].xattrs) == 3
    assert found[b""].xattrs


def acl(*entries: tuple[int, int, int]) -> str:
    """Return the attribute that holds an access list of tags, permissions and IDs; linux/posix_acl_xattr.h."""
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    return value.decode(errors="surrogateescape")


def test_access_lists(tmp_path: Path) -> None:
    nobody = 2**32 - 1
    list_ = acl((1, 7, nobody), (2, 5, 1000), (4, 5, nobody), (16, 7, nobody), (32, 4, nobody))
    archive = tar(
        folder("d", pax_headers={"SCHILY.xattr.system.posix_acl_default": list_}),
        member("d/f", b"x", mode=0o774, pax_headers={"SCHILY.xattr.system.posix_acl_access": list_}),
    )
    found = compare(archive, tmp_path)
    assert [name for name, _ in found[b"d"].xattrs] == ["system.posix_acl_default"]
    assert [name for name, _ in found[b"d/f"].xattrs] == ["system.posix_acl_access"]
    assert found[b"d/f"].mode & 0o7777 == 0o774


def test_marks_and_replacements(tmp_path: Path) -> None:
    archive = tar(
        folder("a"),
        member("a/.wh.gone"),
        folder("b"),
        member("b/.wh..wh..opq"),
        member("b/stays", b"x"),
        member("c", b"first"),
        member("c", b"second"),
        member("d", b"a file"),
        folder("d"),
        member("d/inside", b"x"),
        folder("e"),
        member("e/inside", b"x"),
        member("e", b"a file now"),
        member(".wh.f"),
        folder("f"),
        folder("g"),
        member(".wh.g"),
        folder("real"),
        member("link", type=tarfile.SYMTYPE, linkname="/real"),
        member("link/through", b"x"),
    )
    found = compare(archive, tmp_path)
    assert found[b"a/gone"].device == 0
    assert stat.S_ISCHR(found[b"a/gone"].mode)
    for opaque in (b"b", b"f", b"g"):
        assert found[opaque].xattrs == (("trusted.overlay.opaque", b"y"),)
    assert b"real/through" in found


def test_a_sparse_file_reads_the_same_and_takes_no_room(tmp_path: Path) -> None:
    need("tar")
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.write(b"begin")
        file.seek(1 << 30)
        file.write(b"end")
    archive = tmp_path / "sparse.tar"
    subprocess.run(["tar", "-S", "-C", str(tmp_path), "-cf", str(archive), "sparse"], check=True)
    convert(archive, tmp_path / "image")
    with mounted(tmp_path / "image", tmp_path / "m") as tree:
        assert (tree / "sparse").stat().st_size == (1 << 30) + 3
        with (tree / "sparse").open("rb") as file:
            assert file.read(6) == b"begin\0"
            file.seek(1 << 30)
            assert file.read() == b"end"
    assert (tmp_path / "image").stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize(
    "members",
    [
        [member("a/../../b")],
        [member("a", type=tarfile.LNKTYPE, linkname="../b")],
        [member("a", type=tarfile.LNKTYPE, linkname="b")],
        [member("a", type=tarfile.LNKTYPE, linkname="a")],
        [folder("d"), member("a", type=tarfile.LNKTYPE, linkname="d")],
        [
            member("a", type=tarfile.SYMTYPE, linkname="b"),
            member("b", type=tarfile.SYMTYPE, linkname="a"),
            member("a/x"),
        ],
        [member("a", b"file"), member("a/b")],
        [member(".wh.")],
        [member("l", type=tarfile.SYMTYPE, linkname="d"), folder("d"), member("l/.wh.x")],
        [member("a", pax_headers={"SCHILY.xattr.trusted.overlay.opaque": "y"})],
        [member(".", b"x")],
    ],
)
def test_what_must_not_be_is_refused_by_both(members: list[tuple[tarfile.TarInfo, bytes]], tmp_path: Path) -> None:
    makers: list[Callable[[bytes, Path], None]] = [extract, convert]
    for number, make in enumerate(makers):
        with pytest.raises(InvalidArgumentError, match="entry '"):
            make(tar(*members), tmp_path / str(number))


NAMES = st.sampled_from(["a", "b", "a/a", "a/b", "b/a", "a/a/a", "a/b/c", ".wh.a", "a/.wh.b", "a/.wh..wh..opq", "c"])
KINDS = st.sampled_from(["file", "folder", "symlink", "hardlink", "fifo"])


@st.composite
def members(draw: st.DrawFn) -> list[tuple[tarfile.TarInfo, bytes]]:
    made = []
    for _ in range(draw(st.integers(1, 14))):
        name, kind = draw(NAMES), draw(KINDS)
        if kind == "file" or ".wh." in name:
            made.append(member(name, b"c" * draw(st.sampled_from([0, 5, 4096, 5000]))))
        elif kind == "folder":
            made.append(folder(name, uid=draw(st.integers(0, 3))))
        elif kind == "symlink":
            made.append(
                member(name, type=tarfile.SYMTYPE, linkname=draw(st.sampled_from(["a", "/b", "../a", ".", "c"])))
            )
        elif kind == "hardlink":
            made.append(member(name, type=tarfile.LNKTYPE, linkname=draw(NAMES)))
        else:
            made.append(member(name, type=tarfile.FIFOTYPE))
    return made


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members())
def test_any_archive_is_read_the_same_or_refused_by_both(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[tarfile.TarInfo, bytes]]
) -> None:
    directory = tmp_path_factory.mktemp("any")
    archive = tar(*members)
    try:
        extract(archive, directory / "probe")
    except InvalidArgumentError:
        with pytest.raises(InvalidArgumentError):
            convert(archive, directory / "refused")
        return
    compare(archive, directory)
