import os
from pathlib import Path

import pytest

from sampan_cli.supervisor import logs
from sampan_cli.supervisor.logs import LogWatcher


def append(path: Path, text: str) -> None:
    with path.open("a") as log:
        log.write(text)


def test_new_lines_are_shown_with_the_name_of_the_service(tmp_path: Path) -> None:
    append(tmp_path / "imaged.log", "old\n")
    ours, theirs = os.pipe()
    watcher = LogWatcher(tmp_path, ("imaged", "runtimed"), terminal=theirs)
    append(tmp_path / "imaged.log", "one\ntw")
    append(tmp_path / "runtimed.log", "three\n")
    watcher.catch_up()
    append(tmp_path / "imaged.log", "o\n")
    watcher.close()
    os.close(theirs)
    with os.fdopen(ours) as shown:
        assert sorted(shown) == ["imaged   | one\n", "imaged   | two\n", "runtimed | three\n"]


def test_log_that_is_too_long_is_kept_once_and_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_LOG_BYTES", 10)
    watcher = LogWatcher(tmp_path, ("imaged",), terminal=None)
    append(tmp_path / "imaged.log", "0123456789abc\n")
    watcher.catch_up()
    append(tmp_path / "imaged.log", "new\n")
    assert (tmp_path / "imaged.log.1").read_text() == "0123456789abc\n"
    assert (tmp_path / "imaged.log").read_text() == "new\n"
    watcher.close()


def test_tail_is_of_what_was_written_from_a_point_on(tmp_path: Path) -> None:
    watcher = LogWatcher(tmp_path, ("imaged",), terminal=None)
    append(tmp_path / "imaged.log", "before\n")
    start = watcher.size("imaged")
    append(tmp_path / "imaged.log", "a\nb\nc\n")
    assert watcher.tail("imaged", start, 2) == ["b", "c"]
    watcher.close()


def test_closed_terminal_does_not_matter(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    watcher = LogWatcher(tmp_path, ("imaged",), terminal=theirs)
    append(tmp_path / "imaged.log", "one\n")
    watcher.catch_up()
    watcher.close()
    os.close(theirs)
