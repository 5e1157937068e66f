import os
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.api.buildkit.session.v1 import fsutil_pb2 as pb
from sampan.client.builds.packets import _Sending
from sampan.client.builds.receiving import FINISHED, Receiving
from sampan.errors import InvalidArgumentError
from sampan.fsutil.receiver import SyncReport, TreeReceiver
from sampan.fsutil.record import WalkRecord

TIME = 1_700_000_000_123_456_789

_LAST = pb.Packet(type=pb.Packet.PACKET_STAT).SerializeToString()


def shown(root: Path) -> dict[str, tuple[object, ...]]:
    """Return what is in a tree; a hard link has the other name, too."""
    found: dict[str, tuple[object, ...]] = {}
    inodes: dict[int, str] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        name = str(path.relative_to(root))
        content = path.read_bytes() if path.is_file() else b""
        found[name] = (status.st_mode, status.st_mtime_ns, content, inodes.setdefault(status.st_ino, name))
    return found


def sync(source: Path, into: Path, *, batch: int = 7, compare: bool = True) -> SyncReport:
    """Do what the two ends of a call do, with a record beside ``into``."""
    sending = _Sending(source, None, threading.Event())
    sending.open()
    receiving = Receiving(into, lambda: False, compare=compare, record=record_of(into))
    try:
        told = [_LAST]
        while messages := sending.entries():
            told[-1:-1] = messages
        wanted: list[int] = []
        for at in range(0, len(told), batch):
            wanted += asked(receiving.feed(told[at : at + batch]))
        while messages := sending.content(wanted):
            wanted = asked(receiving.feed(messages))
        receiving.feed([FINISHED])
        assert receiving.over
        assert receiving.report is not None
        return receiving.report
    finally:
        sending.close()
        receiving.close()


def asked(answers: list[bytes]) -> list[int]:
    packets = [pb.Packet.FromString(answer) for answer in answers]
    return [packet.ID for packet in packets if packet.type == pb.Packet.PACKET_REQ]


def record_of(into: Path) -> Path:
    return into.with_name(f"{into.name}.walk")


def beside(into: Path) -> set[str]:
    return {path.name for path in into.parent.iterdir()} - {"source"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    for number in range(60):
        file = root / f"d{number // 20}/e{number // 10}/f{number:02}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(number))
    (root / "d1/empty").mkdir()
    (root / "link").symlink_to("d1")
    return root


@pytest.fixture
def into(tmp_path: Path) -> Path:
    root = tmp_path / "into"
    root.mkdir()
    return root


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The entries whose files a receiver looks at."""
    found: list[str] = []
    add = TreeReceiver.add

    def noting(self: TreeReceiver, entry: object) -> None:
        found.append(os.fsdecode(entry.path))  # type: ignore[attr-defined]
        add(self, entry)  # type: ignore[arg-type]

    monkeypatch.setattr(TreeReceiver, "add", noting)
    return found


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_tree_that_is_told_in_the_same_words_is_not_looked_at(
    source: Path, into: Path, looked_at: list[str], batch: int
) -> None:
    first = sync(source, into)
    looked_at.clear()
    for _ in range(2):
        report = sync(source, into, batch=batch)
        assert (report.files, report.bytes_sent, report.bytes_saved) == (60, 0, first.bytes_sent)
        assert (report.changed, looked_at) == ((), [])
    assert shown(into) == shown(source)
    assert beside(into) == {"into", "into.walk"}


def change_a_file(source: Path) -> set[str]:
    (source / "d1/e3/f33").write_text("changed")
    return {"d1/e3/f33"}


def add_a_file(source: Path) -> set[str]:
    (source / "d0/e1/f10a").write_text("added")
    return {"d0/e1/f10a"}


def remove_a_file(source: Path) -> set[str]:
    (source / "d2/e5/f59").unlink()
    return {"d2/e5/f59"}


def remove_the_first_of_a_directory(source: Path) -> set[str]:
    (source / "d1/e2/f20").unlink()
    return {"d1/e2/f20"}


def remove_a_directory(source: Path) -> set[str]:
    for path in (source / "d0/e1").iterdir():
        path.unlink()
    (source / "d0/e1").rmdir()
    return {"d0/e1"}


def put_a_file_in_the_place_of_a_directory(source: Path) -> set[str]:
    remove_a_directory(source)
    (source / "d0/e1").write_text("file")
    return {"d0/e1"}


def put_a_directory_in_the_place_of_a_file(source: Path) -> set[str]:
    (source / "d0/e0/f05").unlink()
    (source / "d0/e0/f05").mkdir()
    (source / "d0/e0/f05/below").write_text("x")
    return {"d0/e0/f05", "d0/e0/f05/below"}


def change_here_and_there(source: Path) -> set[str]:
    return change_a_file(source) | add_a_file(source) | remove_a_file(source)


CHANGES = (
    change_a_file,
    add_a_file,
    remove_a_file,
    remove_the_first_of_a_directory,
    remove_a_directory,
    put_a_file_in_the_place_of_a_directory,
    put_a_directory_in_the_place_of_a_file,
    change_here_and_there,
)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_what_has_changed_is_made_the_same(
    source: Path, into: Path, looked_at: list[str], change: Callable[[Path], set[str]], batch: int
) -> None:
    sync(source, into)
    changed = change(source)
    looked_at.clear()
    assert set(map(os.fsdecode, sync(source, into, batch=batch).changed)) == changed
    assert len(looked_at) < 30
    assert shown(into) == shown(source)
    looked_at.clear()
    assert sync(source, into).changed == ()
    assert looked_at == []


def test_transfer_that_fails_leaves_no_record(source: Path, into: Path, looked_at: list[str]) -> None:
    sync(source, into)
    receiving = Receiving(into, lambda: False, record=record_of(into))
    receiving.feed([pb.Packet(type=pb.Packet.PACKET_STAT, stat=pb.Stat(path=b"new", mode=0o600)).SerializeToString()])
    with pytest.raises(InvalidArgumentError):
        receiving.feed([pb.Packet(type=pb.Packet.PACKET_STAT, stat=pb.Stat(path=b"..")).SerializeToString()])
    receiving.close()
    assert beside(into) == {"into"}
    looked_at.clear()
    sync(source, into)
    assert len(looked_at) > 60
    assert shown(into) == shown(source)


def test_record_that_a_kill_left_taken_does_not_count(source: Path, into: Path, looked_at: list[str]) -> None:
    sync(source, into)
    record_of(into).rename(into.with_name("into.walk.taken"))
    looked_at.clear()
    sync(source, into)
    assert len(looked_at) > 60
    assert beside(into) == {"into", "into.walk"}


def test_record_is_of_one_directory(source: Path, into: Path, tmp_path: Path) -> None:
    sync(source, into)
    into.rename(tmp_path / "before")
    into.mkdir()
    assert sync(source, into).files == 60
    assert shown(into) == shown(source)


def test_record_of_another_boot_does_not_count(
    source: Path, into: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(source, into)
    (into / "d0/e0/f00").write_text("")  # what a power cut leaves
    (boot := tmp_path / "source.boot").write_text("00000000-0000-0000-0000-000000000000\n")
    monkeypatch.setattr("sampan.fsutil.record._BOOT_ID", boot)
    sync(source, into)
    assert shown(into) == shown(source)


@pytest.mark.parametrize("damage", [b"", b"sampan walk 1", b"x" * 4096])
def test_record_that_is_damaged_does_not_count(source: Path, into: Path, damage: bytes) -> None:
    sync(source, into)
    record_of(into).write_bytes(damage)
    (into / "d0/e0/f00").unlink()
    sync(source, into)
    assert shown(into) == shown(source)
    assert beside(into) == {"into", "into.walk"}


def test_tree_with_hard_links_has_no_record(source: Path, into: Path) -> None:
    os.link(source / "d0/e0/f00", source / "z")
    sync(source, into)
    assert beside(into) == {"into"}
    (source / "z").unlink()
    sync(source, into)
    assert shown(into) == shown(source)
    assert beside(into) == {"into", "into.walk"}
    os.link(source / "d0/e0/f01", source / "z")
    sync(source, into)
    assert shown(into) == shown(source)
    assert beside(into) == {"into"}


def test_file_that_grew_while_it_was_sent_is_asked_for_again(into: Path) -> None:
    told = [
        pb.Packet(stat=pb.Stat(path=b"log", mode=0o644, size=3, modTime=TIME)).SerializeToString(),
        _LAST,
    ]
    for _ in range(2):
        receiving = Receiving(into, lambda: False, record=record_of(into))
        assert asked(receiving.feed(told)) == [0]
        data = pb.Packet(type=pb.Packet.PACKET_DATA, ID=0, data=b"abcdef").SerializeToString()
        receiving.feed([data, pb.Packet(type=pb.Packet.PACKET_DATA, ID=0).SerializeToString()])
        receiving.feed([FINISHED])
        receiving.close()


def test_nothing_is_compared_where_everything_is_wanted(source: Path, into: Path) -> None:
    first = sync(source, into)
    assert sync(source, into, compare=False).bytes_sent == first.bytes_sent
    assert sync(source, into).bytes_sent == 0


def test_no_room_for_a_record_is_no_failure(source: Path, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if self.suffix == ".new":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    sync(source, into)
    assert beside(into) == {"into"}
    assert shown(into) == shown(source)


def test_record_says_what_its_entries_come_to(source: Path, into: Path) -> None:
    report = sync(source, into)
    record = WalkRecord.take(record_of(into), into)
    assert record is not None
    totals = record.totals(0, record.count)
    assert (totals.files, totals.bytes) == (report.files, report.bytes_sent)
    assert record.message(3) == record.messages(3, 4)
    record.close()


NAMES = st.sampled_from(["a", "b", "a.b", "a-", "c", "d"])
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.sampled_from(["", "x", "yy", None]), max_size=30
)


def make(root: Path, tree: dict[str, str | None]) -> None:
    """Make a tree: files with their content, directories where that is None; what cannot be is left out."""
    for path, content in sorted(tree.items()):
        place = root / path
        if any(parent.is_file() for parent in place.parents) or place.exists():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            place.mkdir()
        else:
            place.write_text(content)
    for place in sorted(root.rglob("*"), reverse=True):
        os.utime(place, ns=(TIME, TIME))


@settings(max_examples=60)
@given(st.lists(TREES, min_size=2, max_size=4), st.integers(1, 12))
def test_any_tree_becomes_any_other(trees: list[dict[str, str | None]], batch: int) -> None:
    with TemporaryDirectory() as top:
        (into := Path(top) / "into").mkdir()
        for number, tree in enumerate(trees):
            (source := Path(top) / f"source{number}").mkdir()
            make(source, tree)
            sync(source, into, batch=batch)
            assert shown(into) == shown(source)
