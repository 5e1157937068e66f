"""Watches of files, on the real kernel."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from sampan.sys.inotify import ATTRIB, CLOSE_WRITE, CREATE, MODIFY, MOVED_TO, Change, FileWatches, Inotify


@pytest.fixture
def inotify() -> Iterator[Inotify]:
    with closing(Inotify()) as made:
        yield made


def descriptors() -> int:
    """How many of this kind there are: what else is open may go meanwhile, with what earlier tests have left."""
    found = 0
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found += str(each.readlink()) == "anon_inode:inotify"
    return found


def overflow(directory: Path) -> None:
    """Change a file more often than the kernel keeps changes; two that are alike would be one."""
    with (directory / "file").open("wb", buffering=0) as file:
        for _ in range(int(Path("/proc/sys/fs/inotify/max_queued_events").read_text()) // 2 + 1):
            file.write(b"x")
            os.fchmod(file.fileno(), 0o600)


def test_a_change_tells_the_watch_what_happened_and_the_name(inotify: Inotify, tmp_path: Path) -> None:
    assert inotify.read() == []
    directory, file = inotify.add(tmp_path, CREATE | MOVED_TO), tmp_path / "a name of more than sixteen bytes"
    file.touch()
    assert inotify.read() == [Change(directory, CREATE, os.fsencode(file.name))]
    watched = inotify.add(file, MODIFY)
    file.write_text("x")
    file.rename(tmp_path / os.fsdecode(b"\xff"))
    assert inotify.read() == [Change(watched, MODIFY, b""), Change(directory, MOVED_TO, b"\xff")]
    assert inotify.add(tmp_path, CREATE) == directory


def test_what_is_watched_no_more_tells_nothing(inotify: Inotify, tmp_path: Path) -> None:
    watch = inotify.add(tmp_path, CREATE)
    inotify.remove(watch)
    inotify.remove(watch)
    inotify.read()
    (tmp_path / "file").touch()
    assert inotify.read() == []


def test_what_is_not_there_cannot_be_watched(inotify: Inotify, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        inotify.add(tmp_path / "missing", CREATE)


def test_more_changes_than_the_kernel_keeps_are_told_as_lost(inotify: Inotify, tmp_path: Path) -> None:
    inotify.add(tmp_path, ATTRIB | MODIFY)
    overflow(tmp_path)
    changes = []
    while some := inotify.read():
        changes += some
    assert [each.lost for each in changes] == [False] * (len(changes) - 1) + [True]
    assert changes[-1].watch == -1


async def test_listeners_of_one_file_hear_what_each_asked_for_and_share_a_descriptor(tmp_path: Path) -> None:
    before, told = descriptors(), []
    watches = FileWatches()
    created, written = asyncio.Event(), asyncio.Event()

    def note(name: str, event: asyncio.Event) -> None:
        told.append(name)
        event.set()

    first = watches.watch(tmp_path, CREATE, lambda: note("created", created))
    watches.watch(tmp_path, CLOSE_WRITE, lambda: note("written", written))
    assert descriptors() == before + 1
    (tmp_path / "file").write_text("x")
    await created.wait()
    await written.wait()
    assert told == ["created", "written"]
    first.close()
    first.close()
    written.clear()
    (tmp_path / "another").write_text("x")
    await written.wait()
    assert told == ["created", "written", "written"]
    watches.close()
    watches.close()
    assert descriptors() == before


async def test_a_directory_that_is_made_again_is_watched_by_who_asks_again(tmp_path: Path) -> None:
    with closing(FileWatches()) as watches:
        (directory := tmp_path / "directory").mkdir()
        came = asyncio.Event()
        gone = watches.watch(directory, CREATE, came.set)
        directory.rmdir()
        directory.mkdir()
        watches.watch(directory, CREATE, came.set)
        gone.close()
        (directory / "file").touch()
        await came.wait()


async def test_all_hear_of_lost_changes(tmp_path: Path) -> None:
    with closing(FileWatches()) as watches:
        (quiet := tmp_path / "quiet").mkdir()
        came = asyncio.Event()
        watches.watch(tmp_path, ATTRIB | MODIFY, lambda: None)
        watches.watch(quiet, CREATE, came.set)
        overflow(tmp_path)
        await came.wait()
