import json

import pytest

from runtimed.logs.formats import Format, JsonLines, Records
from sampan.resource.streams import Stream

HEAD = b"2026-11-24T04:00:52.786240777+00:00 "
TIME_NS = 1_795_492_852_786_240_777


@pytest.mark.parametrize("form", [JsonLines(), Records(), JsonLines({"tag": "100%", "b": '"'})])
@pytest.mark.parametrize(
    "text", [b"", b"plain", b'{"a": "b\\n"}', "é ✓ \u2028".encode(), b"<a & b>\t\x01", b"\\n", b"\\"]
)
def test_text_comes_back(form: Format, text: bytes) -> None:
    (out, piece) = form.encode([HEAD + b"stdout F " + text, HEAD + b"stderr P " + text])
    assert form.decode([out[:-1], piece[:-1]]) == [
        (Stream.STDOUT, TIME_NS, text + b"\n"),
        (Stream.STDERR, TIME_NS, text),
    ]
    assert (form.ends_line(out[:-1]), form.ends_line(piece[:-1])) == (True, False)


def test_json_is_dockerds() -> None:
    (line,) = JsonLines({"b": "2", "a": "1"}).encode([HEAD + b"stderr F a<\xff>\x7f"])
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
    (line,) = Records().encode([HEAD + b"stdout F " + text])
    assert Records().decode([line[:-1]])[0].line == text + b"\n"
