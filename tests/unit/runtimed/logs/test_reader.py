import asyncio
import gzip
import threading
from contextlib import closing
from pathlib import Path

import pytest

from runtimed.logs.files import LogFiles
from runtimed.logs.formats import JsonLines
from runtimed.logs.reader import read_log
from runtimed.logs.records import CHUNK_BYTES
from runtimed.logs.rotation import files_of
from sampan.resource.streams import LogEntry, LogQuery
from sampan.sys.inotify import FileWatches


def line(number: int, stream: str = "stdout") -> bytes:
    return b'{"log":"%d\\n","stream":"%s","time":"2026-11-24T04:00:%02d.000000000Z"}\n' % (
        number,
        stream.encode(),
        number,
    )


async def settled() -> None:
    """Everything is where it is read."""


BEGIN_NS = 1_795_492_800_000_000_000


async def collect(path: Path, query: LogQuery, ended: asyncio.Event) -> list[LogEntry]:
    with closing(FileWatches()) as watches:
        return await read(path, query, ended, watches)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when somebody who reads a log has opened what is there."""
    event, really = threading.Event(), LogFiles.open

    def opens(self: LogFiles, tail: int | None) -> None:
        really(self, tail)
        event.set()

    monkeypatch.setattr(LogFiles, "open", opens)
    return event


async def read(path: Path, query: LogQuery, ended: asyncio.Event, watches: FileWatches) -> list[LogEntry]:
    return [entry async for batch in read_log(path, JsonLines(), query, ended, settled, watches) for entry in batch]


def numbers(entries: list[LogEntry]) -> list[int]:
    return [int(entry.line) for entry in entries]


async def test_streams_since_until_and_tail_choose(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(line(n, "stderr" if n % 2 else "stdout") for n in range(10)))
    ended = asyncio.Event()
    assert numbers(await collect(path, LogQuery(stderr=False), ended)) == [0, 2, 4, 6, 8]
    second = 1_000_000_000
    query = LogQuery(since_ns=BEGIN_NS + 3 * second, until_ns=BEGIN_NS + 5 * second)
    assert numbers(await collect(path, query, ended)) == [3, 4, 5]
    assert numbers(await collect(path, LogQuery(tail=2), ended)) == [8, 9]


async def test_a_log_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    assert await collect(tmp_path / "log", LogQuery(), asyncio.Event()) == []


async def test_following_sees_what_is_written_and_ends_after_the_last_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(line(1))
    ended = asyncio.Event()
    following = asyncio.create_task(collect(path, LogQuery(follow=True), ended))
    await asyncio.sleep(0.02)
    with path.open("ab") as log:
        log.write(line(2))
        log.flush()
        await asyncio.sleep(0.02)
        log.write(line(3))
    ended.set()
    assert numbers(await asyncio.wait_for(following, 60)) == [1, 2, 3]


async def test_more_followers_than_a_user_may_have_descriptors_of_watches(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(line(1))
    with closing(FileWatches()) as watches:
        ends = [asyncio.Event() for _ in range(300)]
        following = [asyncio.create_task(read(path, LogQuery(follow=True), ended, watches)) for ended in ends]
        await asyncio.sleep(0.1)
        with path.open("ab") as log:
            log.write(line(2))
        for ended in ends:
            ended.set()
        assert [numbers(each) for each in await asyncio.gather(*following)] == [[1, 2]] * 300


async def test_following_goes_on_in_the_file_that_takes_its_place(tmp_path: Path, opened: threading.Event) -> None:
    path = tmp_path / "log"
    path.write_bytes(line(1))
    ended = asyncio.Event()
    following = asyncio.create_task(collect(path, LogQuery(follow=True), ended))
    assert await asyncio.to_thread(opened.wait, 60)
    (tmp_path / "new").write_bytes(line(2))
    (tmp_path / "new").rename(path)
    await asyncio.sleep(0.02)
    ended.set()
    assert numbers(await asyncio.wait_for(following, 60)) == [1, 2]


async def test_following_a_log_that_appears_later(tmp_path: Path, opened: threading.Event) -> None:
    path = tmp_path / "log"
    ended = asyncio.Event()
    following = asyncio.create_task(collect(path, LogQuery(follow=True, tail=0), ended))
    assert await asyncio.to_thread(opened.wait, 60)
    path.write_bytes(line(1))
    await asyncio.sleep(0.02)
    ended.set()
    assert numbers(await asyncio.wait_for(following, 60)) == [1]


def test_file_that_is_renamed_between_two_looks_is_not_taken_for_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    (tmp_path / "log.2").write_bytes(line(1))  # in the middle of a rotation: it was log.1, and log is to become that
    path.write_bytes(line(2))
    files = LogFiles(path, JsonLines())
    files.open(None)
    assert [numbers(files.read() or []), numbers(files.read() or [])] == [[1], [2]]
    listed = iter([files_of(path)])

    def rotating(found: Path) -> list[Path]:
        before = next(listed, None)
        if before is None:
            return files_of(found)
        path.rename(tmp_path / "log.1")
        path.write_bytes(line(3))
        return before

    monkeypatch.setattr("runtimed.logs.files.files_of", rotating)
    assert numbers(files.read() or []) == [3]
    assert files.read() is None
    files.close()


def test_file_with_the_number_of_one_that_was_compressed_is_another(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(line(3))
    (tmp_path / "log.1").write_bytes(line(2))
    for name, inode in (("log.1", path.stat().st_ino), ("log.2", (tmp_path / "log.1").stat().st_ino)):
        content = line(2 if name == "log.1" else 1)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content, mtime=inode & 0xFFFFFFFF))
    (tmp_path / "log.1").unlink()
    for tail, expected in ((None, [1, 2, 3]), (3, [1, 2, 3]), (2, [2, 3])):
        files = LogFiles(path, JsonLines())
        files.open(tail)
        found = []
        while entries := files.read():
            found += numbers(entries)
        assert found == expected
        files.close()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_line_that_a_rotation_has_split_is_one(tmp_path: Path, cut: int, packed: bool) -> None:
    head, end = b'{"log":"', b'","stream":"stdout","time":"2026-11-24T04:00:00.000000000Z"}\n'
    piece = head + b"x" * CHUNK_BYTES + end
    records = [line(1), piece, piece, head + b"x\\n" + end, line(2)]
    path = tmp_path / "log"
    path.write_bytes(b"".join(records[cut:]))
    older = b"".join(records[:cut])
    (tmp_path / ("log.1.gz" if packed else "log.1")).write_bytes(gzip.compress(older) if packed else older)
    for tail, length in ((0, 0), (1, 2), (2, 2 * CHUNK_BYTES + 4), (3, 2 * CHUNK_BYTES + 6), (9, 2 * CHUNK_BYTES + 6)):
        files = LogFiles(path, JsonLines())
        files.open(tail)
        found = b""
        while (entries := files.read()) is not None:
            found += b"".join(entry.line for entry in entries)
        assert (tail, len(found)) == (tail, length)
        files.close()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("before", [0, 1])
def test_pieces_of_a_long_line_count_with_its_end(tmp_path: Path, before: int, packed: bool) -> None:
    head, end = b'{"log":"', b'","stream":"stdout","time":"2026-11-24T04:00:00.000000000Z"}\n'
    piece = head + b"x" * CHUNK_BYTES + end
    records = line(1) * before + piece + piece + head + b"x\\n" + end + line(2)
    path = tmp_path / "log"
    path.write_bytes(b"" if packed else records)
    if packed:
        (tmp_path / "log.1.gz").write_bytes(gzip.compress(records))
    for tail, length in ((1, 2), (2, 2 * CHUNK_BYTES + 4), (3, 2 * CHUNK_BYTES + 4 + 2 * before)):
        files = LogFiles(path, JsonLines())
        files.open(tail)
        found = b""
        while entries := files.read():
            found += b"".join(entry.line for entry in entries)
        assert len(found) == length
        files.close()
