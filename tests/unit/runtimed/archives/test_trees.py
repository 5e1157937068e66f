"""Archives of a container's files, out and in, on directories that somebody else filled."""

import io
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtimed.archives.lookup import look
from runtimed.archives.packing import TreeWriter
from runtimed.archives.unpacking import Unpacker
from runtimed.oci.rootfs import RootFs
from sampan.errors import ConflictError, InvalidArgumentError, SampanError
from sampan.handing.chunks import PlainWriter
from sampan.sys.trees import remove_tree
from sampan.tar.entry import MAX_COPIED_NAME_BYTES, MAX_NAME_BYTES
from sampan.tar.reader import TarReader
from sampan.tar.writer import TarWriter

DEEP = 1350  # levels: more than Python's stack and than most limits of descriptors; as long as an archive can hold


@pytest.fixture
def top(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "outside").write_text("outside")
    root = tmp_path / "root"
    (root / "where").mkdir(parents=True)
    yield root
    remove_tree(root)


def packed(top: Path, path: str, max_name_bytes: int = MAX_NAME_BYTES) -> tarfile.TarFile:
    with tempfile.TemporaryFile() as file:
        out = PlainWriter(file.fileno())
        writer = TarWriter(out.write, max_name_bytes)
        with RootFs(top) as tree, look(tree, path) as found:
            TreeWriter(writer, out.file).pack(found, os.fsencode(found.status.name))
        writer.close()
        out.flush()
        file.seek(0)
        return tarfile.open(fileobj=io.BytesIO(file.read()))


def unpack(top: Path, *members: tuple[str, str, str], path: str = "/where", keep_kinds: bool = True) -> None:
    """Unpack entries: each a name, a tar type, and its content or what it links to."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, value in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind.encode(), 0o640 if kind == "0" else 0o750
            info.uid, info.gid = os.getuid(), os.getgid()
            info.mtime = 1_000_000
            if kind == "0":
                info.size = len(value)
            else:
                info.linkname = value
            archive.addfile(info, io.BytesIO(value.encode()))
    with RootFs(top) as tree:
        directory = tree.find(path)
        try:
            unpacker = Unpacker(tree, directory, keep_kinds=keep_kinds)
            unpacker.unpack(TarReader(io.BytesIO(out.getvalue())))
        finally:
            os.close(directory)


def test_tree_of_any_depth_is_packed_with_few_descriptors(top: Path) -> None:
    fd = os.open(top / "where", os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(DEEP):
        os.mkdir("dd", dir_fd=fd)
        below = os.open("dd", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("leaf", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)
    before = len(os.listdir("/proc/self/fd"))
    with packed(top, "/where") as archive:
        names = archive.getnames()
    assert (len(names), names[-1]) == (DEEP + 2, "where/" + "dd/" * DEEP + "leaf")
    assert len(os.listdir("/proc/self/fd")) <= before  # those of earlier tests may go meanwhile


def long_path(top: Path) -> None:
    """Make a file whose path no system call takes, with two names."""
    fd = os.open(top / "where", os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(20):
        os.mkdir("n" * 250, dir_fd=fd)
        below = os.open("n" * 250, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.link("file", "other", src_dir_fd=fd, dst_dir_fd=fd)
    os.close(fd)


def test_a_path_longer_than_a_system_call_takes_is_packed_if_that_is_wanted(top: Path) -> None:
    long_path(top)
    with packed(top, "/where", MAX_COPIED_NAME_BYTES) as archive:
        members = archive.getmembers()
    where = "where" + f"/{'n' * 250}" * 20
    assert [member.name for member in members[-2:]] == [f"{where}/file", f"{where}/other"]
    assert members[-1].linkname == f"{where}/file"


def test_a_path_that_no_archive_holds_is_refused_by_its_ends(top: Path) -> None:
    long_path(top)
    with (
        pytest.raises(InvalidArgumentError, match=r"path where/nnn.*\.\.\..* an archive holds at most"),
        packed(top, "/where"),
    ):
        pass


def test_kinds_links_and_attributes_are_packed(top: Path) -> None:
    where = top / "where"
    (where / "file").write_text("content")
    (where / "file").chmod(0o4711)
    os.link(where / "file", where / "same")
    (where / "link").symlink_to("/../outside")
    os.mkfifo(where / "pipe")
    with packed(top, "/where") as archive:
        entries = {member.name: member for member in archive}
        assert list(entries) == ["where", "where/file", "where/link", "where/pipe", "where/same"]
        file = archive.extractfile(entries["where/file"])
        assert file is not None
        assert (file.read(), stat.S_IMODE(entries["where/file"].mode)) == (b"content", 0o4711)
    assert (entries["where/same"].islnk(), entries["where/same"].linkname) == (True, "where/file")
    assert (entries["where/link"].issym(), entries["where/link"].linkname) == (True, "/../outside")
    assert entries["where/pipe"].isfifo()


@pytest.mark.parametrize(
    ("link", "leads_to"),
    [("/where", "/where"), ("../../where", "/where"), ("missing", "/missing"), ("/where/no/such", "/where/no/such")],
)
def test_links_end_is_told_inside_the_root(top: Path, link: str, leads_to: str) -> None:
    (top / "link").symlink_to(link)
    with RootFs(top) as tree, look(tree, "/link") as found:
        assert found.status.link_target == leads_to


def test_a_chain_of_links_to_nothing_is_followed_to_its_end(top: Path) -> None:
    (top / "first").symlink_to("where/second")
    (top / "where/second").symlink_to("../third")
    with RootFs(top) as tree, look(tree, "/first") as found:
        assert found.status.link_target == "/third"


def test_entries_get_content_mode_and_time(top: Path) -> None:
    unpack(
        top, ("dir", "5", ""), ("dir/file", "0", "content"), ("dir/link", "2", "file"), ("new/hard", "1", "dir/file")
    )
    file = top / "where/dir/file"
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode), file.stat().st_mtime) == ("content", 0o640, 1_000_000)
    assert (top / "where/dir").stat().st_mtime == 1_000_000
    assert (top / "where/dir/link").readlink() == Path("file")
    assert (top / "where/new/hard").samefile(file)


@pytest.mark.parametrize("name", ["../up", "/up", "a/../../../up", "link/up", "back/up"])
def test_no_name_and_no_link_leads_out_of_the_root(top: Path, name: str) -> None:
    (top / "where/link").symlink_to("/..")
    (top / "where/back").symlink_to("../../../../..")
    unpack(top, (name, "0", "x"))
    made = [path.relative_to(top) for path in top.rglob("up")]
    assert made in ([Path("up")], [Path("where/up")])
    assert not list(top.parent.glob("up"))


def test_a_file_takes_the_place_of_a_link_and_not_of_what_it_leads_to(top: Path) -> None:
    (top / "where/file").symlink_to(top.parent / "outside")
    unpack(top, ("file", "0", "new"))
    assert (top.parent / "outside").read_text() == "outside"
    assert (top / "where/file").read_text() == "new"


def test_kinds_are_kept_only_when_asked(top: Path) -> None:
    (top / "where/dir/sub").mkdir(parents=True)
    (top / "where/file").write_text("old")
    with pytest.raises(ConflictError, match='cannot overwrite directory "/where/dir" with non-directory "/where"'):
        unpack(top, ("dir", "0", "x"))
    with pytest.raises(ConflictError, match='cannot overwrite non-directory "/where/file" with directory "/where"'):
        unpack(top, ("file", "5", ""))
    unpack(top, ("dir", "0", "x"), ("file", "5", ""), keep_kinds=False)
    assert (top / "where/dir").read_text() == "x"
    assert (top / "where/file").is_dir()


@pytest.mark.parametrize(
    ("members", "kind", "text"),
    [
        ([("hard", "1", "nothing")], InvalidArgumentError, "hard link to 'nothing', which is not there"),
        ([("hard", "1", "/")], InvalidArgumentError, "hard link to nothing"),
        ([("file", "0", "x"), ("file/below", "0", "x")], ConflictError, "Not a directory"),
        ([(".", "0", "x")], ConflictError, "cannot overwrite directory"),
    ],
)
def test_an_entry_that_cannot_be_is_named(
    top: Path, members: list[tuple[str, str, str]], kind: type[SampanError], text: str
) -> None:
    with pytest.raises(kind, match=text):
        unpack(top, *members)


def test_no_descriptor_is_left_open_by_unpacking(top: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    unpack(top, *((f"a/{n}/file", "0", "x") for n in range(20)))
    with pytest.raises(InvalidArgumentError):
        unpack(top, ("b/c", "1", "b/nothing"))
    assert len(os.listdir("/proc/self/fd")) <= before  # those of earlier tests may go meanwhile
