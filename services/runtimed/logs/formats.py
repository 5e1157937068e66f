"""The forms in which logs are kept: dockerd's JSON lines for ``json-file``, records as they are for everything else.

JSON is what collectors of logs read, and cannot hold what is no UTF-8: each such byte becomes U+FFFD, as with dockerd.
Records keep every byte.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby, repeat
from typing import Final, Protocol

from runtimed.logs.records import STAMP, STREAM, TAG, TEXT, WHOLE, Stretch
from sampan.resource.streams import LogEntry, Stream

_SECOND_NS: Final = 1_000_000_000
_STREAMS: Final = {b"stdout": Stream.STDOUT, b"stderr": Stream.STDERR}


class Format(Protocol):
    """A form of a log."""

    def encode(self, records: Sequence[Stretch]) -> bytes:
        """Return the records as they stand in the file, each a line of it."""

    def decode(self, lines: Sequence[bytes]) -> list[LogEntry]:
        """Return the entries of lines of the file, without their newlines; what is none is left out."""

    def join(self, lines: Sequence[bytes]) -> list[LogEntry]:
        """Return the same as ``decode``, but whole lines that have stream and time in common as one entry.

        Output that comes fast is hundreds of such lines; nothing but finding that out is done for each of them.
        """

    def ends_line(self, line: bytes) -> bool:
        """Say whether a line of the file, by its last bytes or all, is the end of a line of output."""


class _Clock:
    """Makes numbers of stamps; consecutive ones mostly share a second."""

    def __init__(self) -> None:
        self._second = b""
        self._second_ns = 0

    def ns(self, stamp: bytes) -> int:
        """Return the time of ``2026-11-24T04:00:52.786240777``, in UTC. Raises ValueError."""
        if stamp[:19] != self._second:
            self._second_ns = int(datetime.fromisoformat(stamp[:19].decode() + "+00:00").timestamp()) * _SECOND_NS
            self._second = stamp[:19]
        return self._second_ns + int(stamp[20:29].ljust(9, b"0") if len(stamp) > 20 else 0)


class RecordLines:
    """Records as they are."""

    def encode(self, records: Sequence[Stretch]) -> bytes:
        """Put the heads back."""
        return b"".join([head + text[:-1].replace(b"\n", b"\n" + head) + b"\n" for head, text in records])

    def decode(self, lines: Sequence[bytes]) -> list[LogEntry]:
        """Take them apart."""
        entries: list[LogEntry] = []
        ns = _Clock().ns
        for line in lines:
            try:
                text = line[TEXT:] + b"\n" if line[TAG] == WHOLE else line[TEXT:]
                entries.append(LogEntry(_STREAMS[line[STREAM]], ns(line[STAMP]), text))
            except (ValueError, KeyError, IndexError):
                continue
        return entries

    def join(self, lines: Sequence[bytes]) -> list[LogEntry]:
        """Put together what has one head."""
        return _joined([line[:TEXT] for line in lines], lines, _joined_records, self.decode)

    def ends_line(self, line: bytes) -> bool:
        """Look at the tag."""
        return line[TAG : TAG + 1] == b"F"


# A line without attributes, seen from its end.
_BEGIN: Final = b'{"log":"'
_MIDDLE: Final = b'","stream":"stdout","time":"'
_END_BYTES: Final = len(_MIDDLE) + len('2026-11-24T04:00:52.786240777Z"}')
_PLAIN_STREAM: Final = slice(12 - _END_BYTES, 18 - _END_BYTES)
_PLAIN_STAMP: Final = slice(-32, -3)
_PLAIN_END: Final = re.compile(rb'","stream":"std(?:out|err)","time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"\}')
_LINE: Final = re.compile(
    rb'\{"log":"([^"\\]*+(?:\\.[^"\\]*+)*+)","stream":"(stdout|stderr)",(?:"attrs":\{.*\},)?"time":"([^"]{19,29})Z"\}'
)


# dockerd escapes what a browser would take for more than text.
_ESCAPED: Final = re.compile("[<>&\u2028\u2029\udc80-\udcff]")


def json_text(text: bytes) -> bytes:
    """Return the inner part of a JSON string, escaped as dockerd does."""
    quoted = json.dumps(text.decode("utf-8", "surrogateescape"), ensure_ascii=False)[1:-1]
    return _ESCAPED.sub(_escape, quoted).encode()


def _escape(found: "re.Match[str]") -> str:
    character = found[0]
    return "\\ufffd" if "\udc80" <= character <= "\udcff" else f"\\u{ord(character):04x}"


# The same for many texts at once. The backslash comes first, since it begins the others' escapes.
_SPECIAL: Final = [b"\\", *(bytes([byte]) for byte in range(128) if byte in b'"<>&' or (byte < 32 and byte != 10))]
_ESCAPES: Final = [(character, json_text(character)) for character in _SPECIAL]
_SEPARATORS: Final = [(character.encode(), json_text(character.encode())) for character in "\u2028\u2029"]
_PLAIN: Final = bytes.maketrans(b"".join(_SPECIAL), b" " * len(_SPECIAL))


def _is_plain(texts: bytes) -> bool:
    # Nothing else finds so fast that there is none of them, which is the rule.
    return texts.isascii() and texts.translate(_PLAIN) == texts


def _json_texts(texts: bytes) -> bytes:
    """Return ``json_text`` of ``texts``, each but the newlines between them."""
    escapes = _ESCAPES
    if not texts.isascii():
        try:
            texts.decode()
        except UnicodeDecodeError:
            return b"\n".join(map(json_text, texts.split(b"\n")))
        escapes = _ESCAPES + _SEPARATORS
    for character, escape in escapes:
        texts = texts.replace(character, escape)
    return texts


class JsonLines:
    """dockerd's JSON lines, each with the same attributes."""

    def __init__(self, attributes: Mapping[str, str] | None = None) -> None:
        """Lines carry ``attributes``; for reading they do not matter."""
        given = json.dumps(dict(sorted((attributes or {}).items())), ensure_ascii=False, separators=(",", ":"))
        text = f',"attrs":{given}' if attributes else ""
        self._middle = text.encode("utf-8", "replace")

    def encode(self, records: Sequence[Stretch]) -> bytes:
        """Make an object of each."""
        middle = self._middle
        plain = _is_plain(b"".join([text for _, text in records]))
        made: list[bytes] = []
        for head, text in records:
            newline = b"\\n" if head[TAG] == WHOLE else b""
            end = b'%b","stream":"%b"%b,"time":"%bZ"}\n' % (newline, head[STREAM], middle, head[STAMP])
            texts = text[:-1]
            if not plain and not _is_plain(texts):
                texts = _json_texts(texts)
            made += (_BEGIN, texts.replace(b"\n", end + _BEGIN), end)
        return b"".join(made)

    def decode(self, lines: Sequence[bytes]) -> list[LogEntry]:
        """Read them, also those that others have written."""
        entries: list[LogEntry] = []
        ns, streams, end = _Clock().ns, _STREAMS, _END_BYTES
        add, entry = entries.append, LogEntry
        for line in lines:
            try:
                if line[-end : 12 - end] == b'","stream":"' and line[:8] == _BEGIN:
                    text, stream, stamp = line[8:-end], line[_PLAIN_STREAM], line[_PLAIN_STAMP]
                else:
                    found = _LINE.fullmatch(line)
                    if found is None:
                        add(_any_object(line, ns))
                        continue
                    text, stream, stamp = found.groups()
                if text[-2:] == b"\\n" and text.count(b"\\") == 1:
                    text = text[:-2] + b"\n"
                elif b"\\" in text:
                    text = _unquoted(text)
                add(entry(streams[stream], ns(stamp), text))
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
        return entries

    def join(self, lines: Sequence[bytes]) -> list[LogEntry]:
        """Put together what has one end."""
        return _joined([line[-_END_BYTES:] for line in lines], lines, _joined_objects, self.decode)

    def ends_line(self, line: bytes) -> bool:
        """Look at the end of the text."""
        text = line[: line.rfind(b'","stream":"std')]
        before = text[:-1]
        # Of an even number of backslashes before the n, each second one is the first one's.
        return text.endswith(b"n") and (len(before) - len(before.rstrip(b"\\"))) % 2 == 1


def _joined(
    keys: Sequence[bytes],
    lines: Sequence[bytes],
    join: Callable[[bytes, Sequence[bytes]], bytes],
    decode: Callable[[Sequence[bytes]], list[LogEntry]],
) -> list[LogEntry]:
    """Return entries, one for lines next to each other that have a key in common and that ``join`` makes a text of."""
    entries: list[LogEntry] = []
    begin = end = 0
    for key, same in groupby(keys):
        first, end = end, end + len(list(same))
        if end - first < 2 or not (text := join(key, lines[first:end])):
            continue
        if one := decode(lines[first : first + 1]):  # none if there is no such time
            entries += decode(lines[begin:first])
            entries.append(one[0]._replace(line=text))
            begin = end
    return entries + decode(lines[begin:end])


def _joined_records(head: bytes, lines: Sequence[bytes]) -> bytes:
    """Return the texts of records that begin alike, each a whole line; empty if they are not."""
    texts = (b"\n" + b"\n".join(lines)).split(b"\n" + head)
    whole = len(head) == TEXT and head[TAG] == WHOLE and head[STREAM] in _STREAMS and len(texts) == len(lines) + 1
    return b"\n".join(texts[1:]) + b"\n" if whole else b""


def _joined_objects(end: bytes, lines: Sequence[bytes]) -> bytes:
    """Return the texts of objects that end alike, each a whole line; empty if not all of them are."""
    if _PLAIN_END.fullmatch(end) is None:
        return b""
    if not all(map(bytes.startswith, lines, repeat(_BEGIN))):  # other objects
        return b""
    texts = [line[len(_BEGIN) : -_END_BYTES] for line in lines]
    escaped = b"\n".join(texts)
    text = escaped.replace(b"\\n\n", b"\n")
    # Each but the last ends with a newline's escape, the last does as well, and there is no other.
    if len(escaped) - len(text) == 2 * (len(lines) - 1) and text.find(b"\\") == len(text) - 2 and text.endswith(b"n"):
        return text[:-2] + b"\n"
    try:
        text = _unquoted(b"".join(texts))
    except ValueError:
        return b""
    whole = all(one.endswith(b"\\n") for one in texts) and text.count(b"\n") == len(lines)
    return text if whole else b""


def _unquoted(text: bytes) -> bytes:
    unquoted: str = json.loads(b'"' + text + b'"')
    return unquoted.encode("utf-8", "replace")


def _any_object(line: bytes, ns: Callable[[bytes], int]) -> LogEntry:
    fields = json.loads(line)
    stamp = fields["time"].removesuffix("Z").encode()
    return LogEntry(_STREAMS[fields["stream"].encode()], ns(stamp), fields["log"].encode("utf-8", "replace"))


def newlines_backwards(read: Callable[[int, int], bytes], size: int, block_bytes: int) -> Iterator[int]:
    """Yield the offset of each newline of a file of ``size`` bytes that ``read`` reads, the last one first."""
    position = size
    while position > 0:
        start = max(0, position - block_bytes)
        block = read(position - start, start)
        index = block.rfind(b"\n")
        while index >= 0:
            yield start + index
            index = block.rfind(b"\n", 0, index)
        position = start
