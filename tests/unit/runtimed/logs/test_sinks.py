"""The way from the spool into files: nothing lost and nothing twice, killed before whichever write."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import runtimed.logs.rotation
import runtimed.logs.spool
from runtimed.logs.rotation import RotatedFile, files_of
from runtimed.logs.sinks import FilePlan, FileSink
from runtimed.logs.spool import Cursor, Position, Reclaim, next_run, runs


class KilledError(Exception):
    """The process was."""


def spooled(spool: Path, numbers: range, *, end: str = "F") -> None:
    with next_run(spool).open("ab") as file:
        for number in numbers:
            tag = end if number == numbers[-1] else "F"
            file.write(b"2026-11-24T04:00:00.%09d+00:00 stdout %b %d\n" % (number, tag.encode(), number))


def made(spool: Path, plan: FilePlan) -> FileSink:
    return FileSink(Cursor(spool, spool / "kept"), plan)


def drain(sink: FileSink) -> None:
    while sink.pump(ended=True):
        pass
    sink.close()


def logged(path: Path) -> list[str]:
    texts = []
    for file in files_of(path):
        data = gzip.decompress(file.read_bytes()) if file.name.endswith(".gz") else file.read_bytes()
        texts += [json.loads(line)["log"] for line in data.splitlines()]
    return texts


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def test_runs_follow_one_another_and_a_line_without_an_end_is_its_runs(tmp_path: Path, spool: Path) -> None:
    spooled(spool, range(1, 4), end="P")
    spooled(spool, range(4, 6))
    path = tmp_path / "log"
    drain(made(spool, FilePlan(str(path), json=True)))
    assert logged(path) == ["1\n", "2\n", "3", "4\n", "5\n"]
    assert Position.load(spool / "kept").ended == 2


def test_rotated_files_hold_the_last_lines(tmp_path: Path, spool: Path) -> None:
    spooled(spool, range(1000))
    path = tmp_path / "log"
    drain(made(spool, FilePlan(str(path), json=True, size_bytes=1000, files=3, compress=True)))
    kept = logged(path)
    assert kept == [f"{number}\n" for number in range(1000 - len(kept), 1000)]
    assert [file.name for file in files_of(path)] == ["log.2.gz", "log.1.gz", "log"]


def test_one_file_begins_afresh(tmp_path: Path, spool: Path) -> None:
    spooled(spool, range(100))
    path = tmp_path / "log"
    drain(made(spool, FilePlan(str(path), json=True, size_bytes=1000)))
    assert files_of(path) == [path]
    assert logged(path)[-1] == "99\n"


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Kill what writes before its n-th change of anything on the disk; half of a write is done by then."""
    left = [0]

    def count() -> bool:
        left[0] -= 1
        return left[0] == 0

    def wrap(owner: object, name: str) -> None:
        real = getattr(owner, name)

        def step(*arguments: object, **named: object) -> object:
            if count():
                raise KilledError
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, step)

    for name in ("rename", "unlink", "write_bytes"):
        wrap(Path, name)
    real_append = runtimed.logs.spool.append

    def append(fd: int, data: bytes) -> None:
        if count():
            real_append(fd, data[: len(data) // 2])
            raise KilledError
        real_append(fd, data)

    monkeypatch.setattr(runtimed.logs.spool, "append", append)
    real_write = RotatedFile.write

    def write(self: RotatedFile, data: bytes) -> None:
        if count():
            real_write(self, data[: len(data) // 2])
            raise KilledError
        real_write(self, data)

    monkeypatch.setattr(RotatedFile, "write", write)
    assert runtimed.logs.rotation.RotatedFile is RotatedFile

    def at(number: int) -> None:
        left[0] = number

    return at


@pytest.mark.parametrize("state_bytes", [0, 400, 16 << 10])
@pytest.mark.parametrize("size_bytes", [0, 700])
def test_killed_anywhere_it_goes_on_exactly_there(
    tmp_path: Path, size_bytes: int, state_bytes: int, kill: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimed.logs.spool, "_STATE_BYTES", state_bytes)
    for number in range(1, 60):
        home = tmp_path / str(number)
        spooled(home / "spool", range(30), end="P")
        plan = FilePlan(str(home / "log"), json=True, size_bytes=size_bytes, files=20)
        kill(number)
        try:
            drain(made(home / "spool", plan))
        except KilledError:
            kill(0)
            drain(made(home / "spool", plan))
        assert logged(home / "log") == [*(f"{one}\n" for one in range(29)), "29"]


def test_what_could_not_be_written_is_written_later(
    tmp_path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spooled(spool, range(10), end="P")
    sink = made(spool, FilePlan(str(tmp_path / "log"), json=True))
    real = RotatedFile.write

    def full(self: RotatedFile, data: bytes) -> None:
        real(self, data[:50])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RotatedFile, "write", full)
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            sink.pump(ended=True)
    monkeypatch.setattr(RotatedFile, "write", real)
    drain(sink)
    assert logged(tmp_path / "log") == [*(f"{one}\n" for one in range(9)), "9"]


def test_what_was_read_is_given_back_to_the_disk(tmp_path: Path, spool: Path) -> None:
    spooled(spool, range(1, 100))
    spooled(spool, range(100, 60_000))
    sink = made(spool, FilePlan(str(tmp_path / "log"), json=True))
    drain(sink)
    before = (spool / "2").stat()
    reclaim = Reclaim(spool)
    reclaim.upto([sink.cursor.position])
    assert (spool / "2").stat().st_blocks == before.st_blocks  # there may be more to come
    reclaim.upto([sink.cursor.position], caught_up=True)
    after = (spool / "2").stat()
    assert (runs(spool), after.st_size) == ([2], before.st_size)
    assert after.st_blocks < before.st_blocks
    reclaim.upto([sink.cursor.position], caught_up=True, ended=True)
    assert (spool / "2").stat().st_blocks <= 8
    assert next_run(spool).name == "3"


def test_a_place_that_is_older_than_what_was_given_back_is_left_for_what_there_is(tmp_path: Path, spool: Path) -> None:
    """As after a power cut, when the disk has the hole and not yet the note of what was read before."""
    spooled(spool, range(60_000))
    before = made(spool, FilePlan(str(tmp_path / "log"), json=True))
    before.pump(ended=False)
    noted = (spool / "kept").read_bytes()
    before.pump(ended=False)
    Reclaim(spool).upto([before.cursor.position], caught_up=True)
    before.close()
    (spool / "kept").write_bytes(noted)
    drain(made(spool, FilePlan(str(tmp_path / "log"), json=True)))
    texts = logged(tmp_path / "log")
    assert texts[-1] == "59999\n"
    assert len(texts) < 60_200, "what is in the block in which the hole ends is there twice, and no more"
    assert set(texts) == {f"{number}\n" for number in range(60_000)}


def test_a_line_of_the_state_that_was_not_written_whole_counts_for_nothing(spool: Path) -> None:
    spool.mkdir()
    state = spool / "kept"
    assert Position.load(state) == Position()
    for offset in range(2_000):
        Position(run=1, offset=offset).save(state)
    assert Position.load(state) == Position(run=1, offset=1_999)
    assert state.stat().st_size < 20_000
    with state.open("ab") as file:
        file.write(b'\n{"run": 2, "off')
    assert Position.load(state) == Position(run=1, offset=1_999)
    Position(run=3).save(state)
    assert Position.load(state) == Position(run=3)


def test_a_record_longer_than_what_is_read_at_once_is_read_whole(tmp_path: Path, spool: Path) -> None:
    next_run(spool).write_bytes(b"2026-11-24T04:00:00.000000000+00:00 stdout P " + b"x" * 600_000 + b"\n")
    drain(made(spool, FilePlan(str(tmp_path / "log"), json=True)))
    assert "".join(logged(tmp_path / "log")) == "x" * 600_000


def test_a_cursor_that_is_too_slow_leaves_out_the_oldest(spool: Path) -> None:
    spooled(spool, range(1000))
    cursor = Cursor(spool, spool / "kept")
    left_out = cursor.skip_to(500)
    assert left_out > 10_000
    lines = cursor.read(ended=True)
    assert lines is not None
    numbers = [int(record[45:]) for stretch in lines.records for record in stretch.records()]
    assert numbers == list(range(1000 - len(numbers), 1000))
    assert 0 < len(numbers) < 20
