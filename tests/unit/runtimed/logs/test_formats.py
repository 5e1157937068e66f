import json

import pytest

from runtimed.logs.formats import Format, JsonLines, Records, json_text
from runtimed.logs.records import Stretch
from sampan.resource.streams import Stream

HEAD = b"2026-11-24T04:00:52.786240777+00:00 "
TIME_NS = 1_795_492_852_786_240_777


@pytest.mark.parametrize("form", [JsonLines(), Records(), JsonLines({"tag": "100%", "b": '"'})])
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
    line = Records().encode([Stretch(HEAD + b"stdout F ", text + b"\n")])
    assert Records().decode([line[:-1]])[0].line == text + b"\n"


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
        assert Records().encode([Stretch(HEAD + b"stdout F ", b"".join(text + b"\n" for text in texts))]) == b"".join(
            HEAD + b"stdout F " + text + b"\n" for text in texts
        )
