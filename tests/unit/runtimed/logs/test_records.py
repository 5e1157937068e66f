import random

import pytest

from runtimed.logs.records import CHUNK_BYTES, Assembler, Stretch, stretches

HEAD = b"2026-11-24T04:00:%02d.000000000+00:00 "


def record(second: int, stream: str, tag: str, *texts: bytes) -> Stretch:
    return Stretch(HEAD % second + f"{stream} {tag} ".encode(), b"".join(text + b"\n" for text in texts))


def one_by_one(lines: list[Stretch]) -> list[bytes]:
    return [record for stretch in lines for record in stretch.records()]


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
    expected = one_by_one(Assembler().feed(pieces))
    assembler, lines = Assembler(), []
    while pieces:
        count = choice.randrange(1, 40)
        lines += assembler.feed(pieces[:count])
        pieces = pieces[count:]
        assembler = Assembler(assembler.state())  # as after a kill
    assert one_by_one(lines) == expected


def test_what_is_no_record_is_left_out_and_other_zones_become_utc() -> None:
    block = b"torn\n" + HEAD % 1 + b"stdout F a\n2026-11-24T04:00:01.5"
    block += b"\n2026-11-24T06:00:02.000000000+02:00 stdout F b\n"
    assert stretches(block) == [record(1, "stdout", "F", b"a"), record(2, "stdout", "F", b"b")]


def test_lines_that_were_read_at_once_are_one_stretch() -> None:
    lines = [b"%d" % number * 20 for number in range(100)]
    block = b"".join(HEAD % 1 + b"stdout F " + line + b"\n" for line in lines) + HEAD % 1 + b"stdout P begun\n"
    assert stretches(block) == [record(1, "stdout", "F", *lines), record(1, "stdout", "P", b"begun")]


def test_a_time_that_comes_again_joins_nothing() -> None:
    block = b"".join(HEAD % 1 + tag + b"\n" for tag in (b"stdout F a", b"stdout F b", b"stderr F c", b"stdout F d"))
    expected = [record(1, "stdout", "F", b"a", b"b"), record(1, "stderr", "F", b"c"), record(1, "stdout", "F", b"d")]
    assert stretches(block) == expected


@pytest.mark.parametrize("seed", range(5))
def test_however_records_are_stretched_the_lines_are_the_same(seed: int) -> None:
    choice = random.Random(seed)
    heads = [
        HEAD % choice.randrange(3) + choice.choice([b"stdout %b ", b"stderr %b "]) % choice.choice([b"F", b"F", b"P"])
        for _ in range(100)
    ]
    texts = [b"", b"short", b"t" * 90, b"t" * 9000]
    block = b"".join(head + choice.choice(texts) + b"\n" for head in heads for _ in range(choice.choice([1, 2, 30])))
    records = block.split(b"\n")[:-1]
    alone = Assembler().feed([stretch for record in records for stretch in stretches(record + b"\n")])
    assert one_by_one(stretches(block)) == records
    assert one_by_one(Assembler().feed(stretches(block))) == one_by_one(alone)
