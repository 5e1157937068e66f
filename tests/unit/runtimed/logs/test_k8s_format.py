import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimed.logs.k8s_format import LogParser, tail_offset
from sampan.resource.streams import LogEntry, Stream

LOG = b"".join(
    [
        b"2026-11-24T04:00:52.786240777+00:00 stdout F one\n",
        b"2026-11-24T04:00:52.786240778+00:00 stderr P tw\n",
        b"2026-11-24T04:00:53.000000001+00:00 stderr F o\n",
        b"2026-11-24T04:00:53.000000002+00:00 stdout F \n",
        b"2026-11-24T04:00:53.000000003+00:00 stdout P end without newline\n",
    ]
)


def test_entries_have_stream_nanoseconds_and_exactly_the_text_that_was_written() -> None:
    second_ns = 1_795_492_852_000_000_000
    assert LogParser().feed(LOG) == [
        LogEntry(Stream.STDOUT, second_ns + 786_240_777, b"one\n"),
        LogEntry(Stream.STDERR, second_ns + 786_240_778, b"tw"),
        LogEntry(Stream.STDERR, second_ns + 1_000_000_001, b"o\n"),
        LogEntry(Stream.STDOUT, second_ns + 1_000_000_002, b"\n"),
        LogEntry(Stream.STDOUT, second_ns + 1_000_000_003, b"end without newline"),
    ]


@given(st.lists(st.integers(0, len(LOG)), max_size=6))
def test_pieces_give_what_the_whole_gives(cuts: list[int]) -> None:
    parser = LogParser()
    edges = [0, *sorted(cuts), len(LOG)]
    pieces = [LOG[a:b] for a, b in itertools.pairwise(edges)]
    assert [entry for piece in pieces for entry in parser.feed(piece)] == LogParser().feed(LOG)


def test_damaged_lines_are_left_out() -> None:
    broken = b"\0\0\0\n2026-13-99T04:00:52.786240777+00:00 stdout F x\nshort\n"
    assert LogParser().feed(broken + LOG) == LogParser().feed(LOG)


@pytest.mark.parametrize(
    ("lines", "first"),
    [(0, None), (1, b"end without newline"), (2, b"\n"), (3, b"tw"), (4, b"one\n"), (5, b"one\n"), (99, b"one\n")],
)
def test_tail_counts_lines_not_pieces(tmp_path: Path, lines: int, first: bytes | None) -> None:
    path = tmp_path / "log"
    path.write_bytes(LOG)
    fd = os.open(path, os.O_RDONLY)
    try:
        entries = LogParser().feed(LOG[tail_offset(fd, lines) :])
    finally:
        os.close(fd)
    assert (entries[0].line if entries else None) == first


def test_tail_of_a_large_file_reads_over_block_borders(tmp_path: Path) -> None:
    path = tmp_path / "log"
    line = b"2026-11-24T04:00:52.786240777+00:00 stdout F %07d" + b"x" * 200 + b"\n"
    path.write_bytes(b"".join(line % n for n in range(5000)))
    fd = os.open(path, os.O_RDONLY)
    try:
        entries = LogParser().feed(path.read_bytes()[tail_offset(fd, 3000) :])
    finally:
        os.close(fd)
    assert len(entries) == 3000
    assert entries[0].line.startswith(b"0002000")
