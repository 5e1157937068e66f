import os
import shutil
import stat
from pathlib import Path

import pytest

from sampan.errors import InvalidArgumentError
from sampan.fsutil.entry import Entry
from sampan.fsutil.sender import TreeSender
from sampan.sys.trees import AbandonedError


def told(sender: TreeSender) -> list[Entry]:
    found: list[Entry] = []
    while batch := sender.entries(2):
        found += batch
    return found


def test_entries_come_in_the_order_of_a_walk(tmp_path: Path) -> None:
    for name in ("a/b", "a-b", "a.txt", "a/c/d"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    sender = TreeSender(tmp_path)
    assert [entry.path for entry in told(sender)] == [b"a", b"a/b", b"a/c", b"a/c/d", b"a-b", b"a.txt"]
    sender.close()
    sender.close()


def test_content_comes_in_pieces_and_ends_with_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 300_000)
    (tmp_path / "small").write_bytes(b"y")
    sender = TreeSender(tmp_path)
    assert len(told(sender)) == 2
    assert sender.pieces(1000) == []
    sender.want(1)
    sender.want(0)
    assert sender.pieces(1) == [(1, b"y")]
    found = {0: b"", 1: b"y"}
    ends = []
    while pieces := sender.pieces(1000):
        for number, data in pieces:
            found[number] += data
            if not data:
                ends.append(number)
    assert found == {0: b"x" * 300_000, 1: b"y"}
    assert ends == [1, 0]
    sender.close()


def test_link_that_takes_a_files_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    (root / "d/file").write_text("public")
    (root / "file").write_text("public")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_text("secret")
    sender = TreeSender(root)
    told(sender)
    (root / "file").unlink()
    (root / "file").symlink_to("../secret")
    shutil.rmtree(root / "d")
    (root / "d").symlink_to("../elsewhere")
    sender.want(1)
    sender.want(2)
    assert sender.pieces(1000) == [(1, b""), (2, b"")]
    sender.close()


def test_only_files_have_content(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("x")
    sender = TreeSender(tmp_path)
    assert [stat.S_IFMT(entry.mode) for entry in told(sender)] == [stat.S_IFDIR, stat.S_IFIFO, stat.S_IFLNK]
    for number in range(4):
        with pytest.raises(InvalidArgumentError, match="is no file"):
            sender.want(number)
    sender.close()


def test_further_names_of_a_file_are_told_as_links_to_its_first(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("x")
    os.link(tmp_path / "b", tmp_path / "a")
    os.link(tmp_path / "b", tmp_path / "c")
    sender = TreeSender(tmp_path)
    assert [(entry.path, entry.size, entry.link) for entry in told(sender)] == [
        (b"a", 1, b""),
        (b"b", 0, b"a"),
        (b"c", 0, b"a"),
    ]
    sender.close()


def test_who_is_told_to_stop_stops(tmp_path: Path) -> None:
    sender = TreeSender(tmp_path, stop=lambda: True)
    with pytest.raises(AbandonedError):
        sender.entries(1)
    with pytest.raises(AbandonedError):
        sender.pieces(1)
    sender.close()
