import random

import pytest

from runtimed.logs.records import CHUNK_BYTES, Assembler, valid_records

HEAD = b"2026-11-24T04:00:%02d.000000000+00:00 "


def record(second: int, stream: str, tag: str, text: bytes) -> bytes:
    return HEAD % second + f"{stream} {tag} ".encode() + text


def test_pieces_become_one_line_with_the_time_of_its_end() -> None:
    lines = Assembler().feed([record(1, "stdout", "P", b"a"), record(2, "stdout", "F", b"b")])
    assert lines == [record(2, "stdout", "F", b"ab")]


def test_lines_of_two_streams_are_never_joined() -> None:
    assembler = Assembler()
    pieces = [
        *(record(1, "stdout", "P", b"out"), record(2, "stderr", "P", b"err"), record(3, "stdout", "F", b"")),
        *(record(4, "stderr", "F", b"or"), record(5, "stdout", "P", b"end")),
    ]
    assert assembler.feed(pieces) == [record(3, "stdout", "F", b"out"), record(4, "stderr", "F", b"error")]
    assert assembler.end() == [record(5, "stdout", "P", b"end")]
    assert assembler.end() == []


def test_long_lines_are_cut_as_dockerd_does() -> None:
    pieces = [record(n, "stdout", "P", b"x" * 8192) for n in range(4)]
    lines = Assembler().feed([*pieces, record(9, "stdout", "F", b"y")])
    chunk = record(1, "stdout", "P", b"x" * CHUNK_BYTES)
    assert lines == [chunk, chunk, record(1, "stdout", "F", b"y")]


@pytest.mark.parametrize("seed", range(5))
def test_however_it_is_divided_the_lines_are_the_same(seed: int) -> None:
    choice = random.Random(seed)
    pieces = [
        record(n % 60, choice.choice(["stdout", "stderr"]), choice.choice("FFFP"), b"t" * choice.choice([0, 5, 8192]))
        for n in range(500)
    ]
    expected = Assembler().feed(pieces)
    assembler, lines = Assembler(), []
    while pieces:
        count = choice.randrange(1, 40)
        lines += assembler.feed(pieces[:count])
        pieces = pieces[count:]
        assembler = Assembler(assembler.state())  # as after a kill
    assert lines == expected


def test_what_is_no_record_is_left_out_and_other_zones_become_utc() -> None:
    block = b"torn\n" + record(1, "stdout", "F", b"a") + b"\n2026-11-24T04:00:01.5"
    block += b"\n2026-11-24T06:00:02.000000000+02:00 stdout F b\n"
    assert valid_records(block) == [record(1, "stdout", "F", b"a"), record(2, "stdout", "F", b"b")]
