import errno
import os
import stat
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.errors import InvalidArgumentError
from sampan.fsutil.entry import Entry
from sampan.fsutil.receiver import SyncReport, TreeReceiver
from sampan.fsutil.sender import TreeSender
from sampan.sys.trees import AbandonedError

FILE = stat.S_IFREG | 0o644
DIRECTORY = stat.S_IFDIR | 0o755
LINK = stat.S_IFLNK | 0o777
TIME = 1_700_000_000_123_456_789


def shown(root: Path) -> dict[str, tuple[object, ...]]:
    """Return everything that a transfer keeps of a tree."""
    found: dict[str, tuple[object, ...]] = {}
    inodes: dict[int, str] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        name = str(path.relative_to(root))
        content = b""
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = os.fsencode(os.readlink(path))
        found[name] = (status.st_mode, status.st_mtime_ns, content, inodes.setdefault(status.st_ino, name))
    return found


def transfer(source: Path, into: Path, *, compare: bool = True) -> tuple[SyncReport, int]:
    """Do what the two ends of a call do; return how many files were asked for too."""
    sender, receiver = TreeSender(source), TreeReceiver(into, compare=compare)
    asked = 0
    try:
        while batch := sender.entries(3):
            for entry in batch:
                receiver.add(entry)
        receiver.end_of_entries()
        for number in receiver.take_requests():
            asked += 1
            sender.want(number)
        while pieces := sender.pieces(1000):
            for number, data in pieces:
                receiver.put(number, data)
        return receiver.finish(), asked
    finally:
        sender.close()
        receiver.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/file").write_bytes(b"x" * 300_000)
    (root / "a.txt").write_text("after a, before aa")
    (root / "empty").touch()
    (root / "linked").write_text("twice")
    os.link(root / "linked", root / "z-linked")
    (root / "link").symlink_to("/etc/passwd")
    (root / "directory-link").symlink_to("a")
    os.mkfifo(root / "fifo", 0o640)
    (root / "run").write_text("#!")
    (root / "run").chmod(0o4755)
    (root / "\udcff\xfc").write_text("not UTF-8")
    for number, path in enumerate(sorted(root.rglob("*"))):
        os.utime(path, ns=(TIME + number, TIME + number), follow_symlinks=False)
    os.utime(root / "linked", ns=(TIME, TIME))
    return root


@pytest.fixture
def into(tmp_path: Path) -> Path:
    root = tmp_path / "into"
    root.mkdir()
    return root


def test_tree_is_the_same_afterwards(source: Path, into: Path) -> None:
    report, _ = transfer(source, into)
    assert shown(into) == shown(source)
    assert report.files == 7
    assert report.bytes_sent == sum(map(len, (b"x" * 300_000, b"after a, before aa", b"twice", b"#!", b"not UTF-8")))
    assert report.bytes_saved == 0
    assert set(map(os.fsdecode, report.changed)) == set(shown(source))


def test_nothing_is_asked_for_twice(source: Path, into: Path) -> None:
    first, _ = transfer(source, into)
    report, asked = transfer(source, into)
    assert (asked, report.bytes_sent, report.changed) == (0, 0, ())
    assert report.bytes_saved == first.bytes_sent
    assert report.files == first.files
    assert shown(into) == shown(source)


def test_everything_is_asked_for_where_nothing_is_compared(source: Path, into: Path) -> None:
    _, first = transfer(source, into)
    _, asked = transfer(source, into, compare=False)
    assert asked == first
    assert shown(into) == shown(source)


def test_only_what_changed_is_asked_for(source: Path, into: Path) -> None:
    transfer(source, into)
    (source / "a.txt").write_text("changed")
    (source / "a/new").write_text("new")
    (source / "run").chmod(0o755)
    (source / "empty").unlink()
    report, asked = transfer(source, into)
    assert asked == 2
    assert set(map(os.fsdecode, report.changed)) == {"a.txt", "a/new", "run", "empty"}
    assert shown(into) == shown(source)


def test_kinds_may_change_places(source: Path, into: Path) -> None:
    transfer(source, into)
    (source / "link").unlink()
    (source / "link").mkdir()
    (source / "link/below").write_text("no link is followed")
    (source / "a/b/file").unlink()
    (source / "a/b").rmdir()
    (source / "a/b").symlink_to("..")
    (source / "fifo").unlink()
    (source / "fifo").write_text("file")
    transfer(source, into)
    assert shown(into) == shown(source)


def test_hard_link_is_parted_where_it_is_parted_there(source: Path, into: Path) -> None:
    transfer(source, into)
    (source / "z-linked").unlink()
    (source / "z-linked").write_text("twice")
    os.utime(source / "z-linked", ns=(TIME, TIME))
    transfer(source, into)
    assert shown(into) == shown(source)
    (source / "linked").write_text("other")
    (source / "z-linked").unlink()
    os.link(source / "linked", source / "z-linked")
    transfer(source, into)
    assert shown(into) == shown(source)


def test_what_somebody_did_to_the_copy_is_made_good(source: Path, into: Path) -> None:
    transfer(source, into)
    (into / "a.txt").write_text("other bytes, and another time")
    (into / "strange").mkdir()
    (into / "strange/deep").write_text("x")
    transfer(source, into)
    assert shown(into) == shown(source)


def test_file_that_grew_meanwhile_is_kept_and_asked_for_again(into: Path) -> None:
    receiver = TreeReceiver(into)
    receiver.add(Entry(b"log", FILE, 3, TIME))
    receiver.end_of_entries()
    receiver.put(0, b"abcdef")
    receiver.put(0, b"")
    receiver.finish()
    receiver.close()
    assert (into / "log").read_bytes() == b"abcdef"
    again = TreeReceiver(into)
    again.add(Entry(b"log", FILE, 3, TIME))
    assert again.take_requests() == [0]
    again.close()


def test_half_a_file_is_not_left(into: Path) -> None:
    receiver = TreeReceiver(into)
    receiver.add(Entry(b"one", FILE, 6, TIME))
    receiver.add(Entry(b"two", FILE, 6, TIME))
    receiver.put(0, b"abc")
    receiver.close()
    receiver.close()
    assert list(into.iterdir()) == []


def test_a_file_that_has_no_room_is_named(source: Path, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("sampan.fsutil.receiver.os.write", full)
    with pytest.raises(OSError, match=r"No space left on device: 'a/b/file'"):
        transfer(source, into)


def test_half_a_file_that_a_crash_left_is_asked_for(into: Path) -> None:
    receiver = TreeReceiver(into)
    receiver.add(Entry(b"one", FILE, 3, TIME))
    receiver.put(0, b"abc")  # all its bytes, and nobody said so
    again = TreeReceiver(into)
    again.add(Entry(b"one", FILE, 3, TIME))
    assert again.take_requests() == [0]
    again.close()
    receiver.close()


def test_attributes_that_file_systems_act_upon_are_left_out(into: Path) -> None:
    try:
        os.setxattr(into, "user.probe", b"")
    except OSError:
        pytest.skip("the file system has no user attributes")
    receiver = TreeReceiver(into)
    xattrs = {"user.mine": b"1", "trusted.overlay.redirect": b"/etc", "user.\0": b""}
    receiver.add(Entry(b"d", DIRECTORY, 0, TIME, xattrs=xattrs))
    receiver.close()
    assert os.listxattr(into / "d") == ["user.mine"]


BAD = {
    "absolute": [Entry(b"/etc", DIRECTORY)],
    "dots": [Entry(b"..", DIRECTORY)],
    "dots in the middle": [Entry(b"a", DIRECTORY), Entry(b"a/../../b", FILE)],
    "directory not told": [Entry(b"a/b", FILE)],
    "below a file": [Entry(b"a", FILE), Entry(b"a/b", FILE)],
    "below a link": [Entry(b"a", LINK, link=b"/tmp"), Entry(b"a/b", FILE)],
    "twice": [Entry(b"a", FILE), Entry(b"a", LINK, link=b"/tmp")],
    "out of order": [Entry(b"b", FILE), Entry(b"a", FILE)],
    "back in a directory that was left": [Entry(b"a", DIRECTORY), Entry(b"b", FILE), Entry(b"a/c", FILE)],
    "link without a target": [Entry(b"a", LINK)],
    "link with NUL": [Entry(b"a", LINK, link=b"a\0")],
    "hard link outside": [Entry(b"a", FILE, link=b"../../etc/passwd")],
    "device of no number": [Entry(b"a", stat.S_IFCHR | 0o600, major=-1)],
    "negative size": [Entry(b"a", FILE, -1)],
}


@pytest.mark.parametrize("entries", BAD.values(), ids=BAD)
def test_what_no_sender_may_say_is_refused(entries: list[Entry], into: Path) -> None:
    outside = shown(into.parent)
    receiver = TreeReceiver(into)
    with pytest.raises(InvalidArgumentError):
        _add_all(receiver, entries)
    receiver.close()
    assert {name for name in shown(into.parent) if not name.startswith("into")} == outside.keys() - {"into"}


def _add_all(receiver: TreeReceiver, entries: list[Entry]) -> None:
    for entry in entries:
        receiver.add(entry)


@pytest.mark.parametrize("target", [b"missing", b"directory", b"link", b"directory/missing", b"link/passwd"])
def test_hard_link_to_what_is_no_file_of_the_tree_is_refused(target: bytes, into: Path) -> None:
    receiver = TreeReceiver(into)
    _add_all(
        receiver, [Entry(b"directory", DIRECTORY), Entry(b"link", LINK, link=b"/etc"), Entry(b"z", FILE, link=target)]
    )
    receiver.end_of_entries()
    with pytest.raises(InvalidArgumentError, match="hard link"):
        receiver.finish()
    receiver.close()


def test_content_that_nobody_asked_for_is_refused(into: Path) -> None:
    receiver = TreeReceiver(into)
    receiver.add(Entry(b"a", FILE, 1, TIME))
    with pytest.raises(InvalidArgumentError, match="nobody asked"):
        receiver.put(1, b"x")
    receiver.put(0, b"")
    with pytest.raises(InvalidArgumentError, match="nobody asked"):
        receiver.put(0, b"x")
    receiver.close()


def test_more_files_at_once_than_a_sender_has_under_way_are_refused(into: Path) -> None:
    receiver = TreeReceiver(into)
    for number in range(65):
        receiver.add(Entry(b"%03d" % number, FILE, 1, TIME))
    for number in range(64):
        receiver.put(number, b"x")
    with pytest.raises(InvalidArgumentError, match="at a time"):
        receiver.put(64, b"x")
    receiver.close()
    assert list(into.iterdir()) == []


def test_entry_after_the_last_is_refused(into: Path) -> None:
    receiver = TreeReceiver(into)
    receiver.end_of_entries()
    with pytest.raises(InvalidArgumentError, match="after the last"):
        receiver.add(Entry(b"a", FILE))
    with pytest.raises(InvalidArgumentError, match="twice"):
        receiver.end_of_entries()
    receiver.close()


def test_who_is_told_to_stop_stops(into: Path) -> None:
    receiver = TreeReceiver(into, stop=lambda: True)
    with pytest.raises(AbandonedError):
        receiver.add(Entry(b"a", DIRECTORY))
    receiver.close()


NAMES = st.sampled_from([b"a", b"b", b"a.b", b"a-", b"..", b".", b"", b"c"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(b"/".join)
ENTRIES = st.builds(
    Entry,
    path=PATHS,
    mode=st.sampled_from([FILE, DIRECTORY, LINK, stat.S_IFIFO | 0o600]),
    size=st.integers(0, 3),
    mtime_ns=st.integers(0, 1 << 40),
    link=st.sampled_from([b"", b"a", b"..", b"/", b"../victim", b"a/b"]),
    xattrs=st.none(),
)


def _in_order(entries: list[Entry]) -> list[Entry]:
    return sorted({each.path: each for each in entries}.values(), key=lambda each: each.path.split(b"/"))


@settings(max_examples=80)
@given(st.lists(st.lists(ENTRIES, max_size=12), min_size=1, max_size=3), st.booleans())
def test_nothing_that_is_said_leads_out_of_the_directory(said: list[list[Entry]], ordered: bool) -> None:
    with TemporaryDirectory() as top:
        root = Path(top)
        (root / "victim").write_text("untouched")
        before = shown(root)
        (root / "into").mkdir()
        for entries in said:
            receiver = TreeReceiver(root / "into")
            try:
                _add_all(receiver, _in_order(entries) if ordered else entries)
                receiver.end_of_entries()
                for number in receiver.take_requests():
                    receiver.put(number, b"evil")
                    receiver.put(number, b"")
                receiver.finish()
            except InvalidArgumentError:
                pass
            finally:
                receiver.close()
        assert {name: what for name, what in shown(root).items() if not name.startswith("into")} == before


TREES = st.dictionaries(
    st.lists(st.sampled_from(["a", "b", "a.b", "ä", "c c"]), min_size=1, max_size=3).map("/".join),
    st.tuples(st.sampled_from("fdl"), st.binary(max_size=5), st.integers(0, 3)),
    max_size=10,
)


def _make(root: Path, tree: dict[str, tuple[str, bytes, int]]) -> None:
    root.mkdir()
    for name, (kind, content, time) in sorted(tree.items()):
        path = root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "f":
                path.write_bytes(content)
            elif kind == "d":
                path.mkdir()
            else:
                path.symlink_to(content.hex() or "x")
        except OSError:  # below a file, or there already
            continue
        os.utime(path, ns=(TIME + time, TIME + time), follow_symlinks=False)


@settings(max_examples=30)
@given(TREES, TREES)
def test_any_tree_becomes_any_other(
    one: dict[str, tuple[str, bytes, int]], other: dict[str, tuple[str, bytes, int]]
) -> None:
    with TemporaryDirectory() as top:
        root = Path(top)
        (root / "into").mkdir()
        _make(root / "one", one)
        _make(
            root / "other", {name: (kind, content + b"longer", time) for name, (kind, content, time) in other.items()}
        )
        transfer(root / "one", root / "into")
        assert shown(root / "into") == shown(root / "one")
        transfer(root / "other", root / "into")
        assert shown(root / "into") == shown(root / "other")
