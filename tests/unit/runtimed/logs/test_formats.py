import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimed.logs.formats import Format, JsonLines, RecordLines, json_text
from runtimed.logs.records import Stretch
from sampan.resource.streams import LogEntry, Stream

HEAD = b"2026-11-24T04:00:52.786240777+00:00 "
TIME_NS = 1_795_492_852_786_240_777


@pytest.mark.parametrize("form", [JsonLines(), RecordLines(), JsonLines({"tag": "100%", "b": '"'})])
@pytest.mark.parametrize(
    "text", [b"", b"plain", b'{"a": "b\\n"}', "é ✓ \u2028".encode(), b"<a & b>\t\x01", b"\\n", b"\\"]
)
def test_text_comes_back(form: Format, text: bytes) -> None:
    data = form.encode([Stretch(HEAD + b"stdout F ", text + b"\n"), Stretch(HEAD + b"stderr P ", text + b"\n")])
    (out, piece) = data.splitlines(keepends=True)
    assert form.decode([out[:-1], piece[:-1]]) == [
        (Stream.STDOUT, TIME_NS, text + b"\n"),
        (Stream.STDERR, TIME_NS, text),
    ]
    assert (form.ends_line(out[:-1]), form.ends_line(piece[:-1])) == (True, False)


def test_json_is_dockerds() -> None:
    line = JsonLines({"b": "2", "a": "1"}).encode([Stretch(HEAD + b"stderr F ", b"a<\xff>\x7f\n")])
    stamp = b"2026-11-24T04:00:52.786240777Z"
    expected = b'{"log":"a\\u003c\\ufffd\\u003e\x7f\\n","stream":"stderr","attrs":{"a":"1","b":"2"},"time":"%b"}\n'
    assert line == expected % stamp
    assert json.loads(line)["log"] == "a<�>\x7f\n"


def test_lines_of_others_are_read_and_what_is_none_is_left_out() -> None:
    other = b'{"time":"2026-11-24T04:00:52.5Z","stream":"stdout","log":"a"}'
    entries = JsonLines().decode([other, b"torn", b'{"log":1}', b"", b"[]"])
    assert entries == [(Stream.STDOUT, 1_795_492_852_500_000_000, b"a")]


def test_records_keep_every_byte() -> None:
    text = bytes(set(range(256)) - {10})
    line = RecordLines().encode([Stretch(HEAD + b"stdout F ", text + b"\n")])
    assert RecordLines().decode([line[:-1]])[0].line == text + b"\n"


TEXTS = [
    *(bytes([byte]) for byte in set(range(256)) - {10}),
    *(b"", b"\\n\\", b'"<&>"', "é\u2028\u2029✓😀".encode(), b"\xed\xa0\x80", b"\xe2\x80", b"\x1b[1m"),
    *(b"\\\\u003c", b'{"log":"', HEAD + b"stdout F "),
]


@pytest.mark.parametrize("of", [1, 2, 3, len(TEXTS)])
def test_many_lines_at_once_are_escaped_like_each_of_them(of: int) -> None:
    for begin in range(0, len(TEXTS), of):
        texts = TEXTS[begin : begin + of]
        data = JsonLines().encode([Stretch(HEAD + b"stdout F ", b"".join(text + b"\n" for text in texts))])
        begins, end = b'{"log":"', b'\\n","stream":"stdout","time":"%bZ"}\n' % HEAD[:29]
        assert data == b"".join(begins + json_text(text) + end for text in texts)
        assert RecordLines().encode(
            [Stretch(HEAD + b"stdout F ", b"".join(text + b"\n" for text in texts))]
        ) == b"".join(HEAD + b"stdout F " + text + b"\n" for text in texts)


def split(entries: list[LogEntry]) -> list[LogEntry]:
    """Entries of several lines as one of each line."""
    return [entry._replace(line=line) for entry in entries for line in entry.line.splitlines(keepends=True) or [b""]]


HEADS = [f"2026-11-24T04:00:52.{ns:09}+00:00 {stream} {tag} ".encode()
         for ns in (1, 2) for stream in ("stdout", "stderr") for tag in "FP"]  # fmt: skip
OTHERS = [
    b"torn",
    b"",
    b'{"time":"2026-11-24T04:00:52.000000001Z","stream":"stdout","log":"other\\n"}',
    b'{"log":"two\\nlines\\n","stream":"stdout","time":"2026-11-24T04:00:52.000000001Z"}',
    b'{"log":"no end","stream":"stdout","time":"2026-11-24T04:00:52.000000001Z"}',
    b'{"log":"no \\ escape\\n","stream":"stdout","time":"2026-11-24T04:00:52.000000001Z"}',
    b'"x":"a\\n","stream":"stdout","time":"2026-11-24T04:00:52.000000001Z"}',
    b'{"log":"no time\\n","stream":"stdout","time":"2026-99-24T04:00:52.000000001Z"}',
    HEADS[0].replace(b"-11-", b"-99-") + b"no time",
    HEADS[0].replace(b"stdout", b"nobody") + b"no stream",
    HEADS[0][:-1],
]
WRITTEN = [
    (head, text) for head in HEADS for text in (b"x", b"y", b"", b"\\", b"\\n", b'"', b"\x1b[m", b"\xff", b"  n")
]


@given(
    st.sampled_from([JsonLines(), RecordLines(), JsonLines({"a": "b"})]),
    st.lists(st.tuples(st.one_of(st.sampled_from(WRITTEN), st.sampled_from(OTHERS)), st.integers(1, 4)), max_size=20),
)
def test_lines_that_are_joined_are_those_that_there_are(
    form: Format, chosen: list[tuple[tuple[bytes, bytes] | bytes, int]]
) -> None:
    lines = []
    for one, times in chosen:
        lines += [one if isinstance(one, bytes) else form.encode([Stretch(one[0], one[1] + b"\n")])[:-1]] * times
    joined = form.join(lines)
    assert split(joined) == split(form.decode(lines))
    assert [entry.line_count for entry in joined] == [max(1, entry.line.count(b"\n")) for entry in joined]


@pytest.mark.parametrize("form", [JsonLines(), RecordLines()])
@pytest.mark.parametrize("text", [b"plain", b"\x1b[1mbold\t"])
def test_fast_output_is_a_few_entries(form: Format, text: bytes) -> None:
    heads = [HEAD + b"stdout F ", HEAD + b"stderr F ", HEAD + b"stdout F "]
    lines = form.encode([Stretch(head, (text + b"\n") * 100) for head in heads]).splitlines()
    assert form.join(lines) == [
        (stream, TIME_NS, (text + b"\n") * 100) for stream in (Stream.STDOUT, Stream.STDERR, Stream.STDOUT)
    ]
