"""Records: lines of output as bytes, in the form that conmon writes, and made whole again.

conmon writes what it has read at once, ``<time> <stream> <P|F> <text>``: P where the newline had not come yet, F at the
end of a line. A record has the same form, but is a line: P is left for what a line of more than 16 KiB is cut into, as
dockerd does, and for the end of a stream that no newline ended. All pieces of one line have one time, of its first
piece if it was cut, else of its end.

The stamp has a fixed width because conmon is told to write UTC: ``STAMP``, ``STREAM`` and ``TEXT`` say where
things are.

Output that comes fast comes as hundreds of lines that conmon has read at once, and that have one time: a ``Stretch``.
Nothing on their way into a file is done for each of them; that is what makes it cheap.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

STAMP: Final = slice(0, 29)  # 2026-11-24T04:00:52.786240777, then +00:00
STREAM: Final = slice(36, 42)  # both streams' names have six letters
TAG: Final = 43
TEXT: Final = 45
WHOLE: Final = ord("F")
PIECE: Final = ord("P")

# What dockerd reads at once, and therefore cuts longer lines into.
CHUNK_BYTES: Final = 16 << 10

# Others are what a full disk or a power cut has left of a record.
_VALID: Final = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}\+00:00 std(?:out|err) [PF] )([^\n]*+\n)")
_ONE: Final = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9})([+-]\d\d:\d\d) (std(?:out|err) [PF] )(.*)", re.DOTALL
)
# What conmon reads at once is 8 KiB, and each line's head comes to it. Where there is more, it is two stretches.
_LOOK_BYTES: Final = 16 << 10


class Stretch(NamedTuple):
    """Records that follow one another and have time, stream and tag in common."""

    head: bytes  # what each of them begins with, up to its text
    text: bytes  # their texts, each with a newline behind it

    def records(self) -> list[bytes]:
        """Return them one by one, without newlines."""
        head = self.head
        return [head + text for text in self.text[:-1].split(b"\n")]


def stretches(block: bytes) -> list[Stretch]:
    """Return the records of ``block``, which ends with one; what is none is left out."""
    found: list[Stretch] = []
    begin, size = 0, len(block)
    valid = _VALID.match
    while begin < size:
        record = valid(block, begin)
        if record is None:
            end = block.index(b"\n", begin) + 1
            if whole := _normal(block[begin : end - 1]):
                found.append(Stretch(whole[:TEXT], whole[TEXT:] + b"\n"))
            begin = end
            continue
        head, text = record.groups()
        end = record.end()
        if block.startswith(head, end):
            text, end = _texts(block, begin, head)
        found.append(Stretch(head, text))
        begin = end
    return found


def _texts(block: bytes, begin: int, head: bytes) -> tuple[bytes, int]:
    """Return texts of records from ``begin`` on that have this ``head``, and where the last one of them ends."""
    between = b"\n" + head
    last = block.rfind(between, begin, begin + _LOOK_BYTES) + 1
    end = block.index(b"\n", max(begin, last)) + 1
    texts = block[begin + TEXT : end - 1].split(between)
    text = b"\n".join(texts)
    # A coarse clock, or one that was set back, may have given the same time again with other records in between.
    # (Of all that counts newlines this is the fastest.)
    if len(text) - len(text.replace(b"\n", b"")) >= len(texts):
        end = begin
        while block.startswith(head, end):
            end = block.index(b"\n", end) + 1
        text = b"\n".join(block[begin + TEXT : end - 1].split(between))
    return text + b"\n", end


def _normal(line: bytes) -> bytes:
    found = _ONE.fullmatch(line)
    if found is None:
        return b""
    stamp, zone, middle, text = found.groups()
    # A record of a conmon that was started before it was told to write UTC keeps its time, in another zone.
    return (_utc(stamp, zone) if zone != b"+00:00" else stamp) + b"+00:00 " + middle + text


def _utc(stamp: bytes, zone: bytes) -> bytes:
    from datetime import UTC, datetime

    moment = datetime.fromisoformat((stamp[:19] + zone).decode()).astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S").encode() + stamp[19:]


@dataclass(slots=True)
class _Line:
    """The beginning of a line whose end has not come."""

    head: bytes  # time and stream: of its first piece if it was cut, else of its last one
    text: bytes = b""
    cut: bool = False


class Assembler:
    """Makes lines whole. Equal input makes equal output, however it is divided."""

    def __init__(self, state: Mapping[str, Sequence[str]] | None = None) -> None:
        """Go on from what ``state`` returned."""
        self._open: dict[bytes, _Line] = {}
        for stream, (head, text, cut) in (state or {}).items():
            self._open[stream.encode()] = _Line(head.encode(), base64.b64decode(text), bool(cut))

    def state(self) -> dict[str, tuple[str, str, str]]:
        """Return what has begun and not ended, as JSON can hold it."""
        return {
            stream.decode(): (line.head.decode(), base64.b64encode(line.text).decode(), "cut" if line.cut else "")
            for stream, line in self._open.items()
        }

    def feed(self, records: Sequence[Stretch]) -> list[Stretch]:
        """Return the lines that ``records`` end."""
        begun = self._open
        lines: list[Stretch] = []
        for stretch in records:
            head, text = stretch
            if head[TAG] != WHOLE:
                for piece in text[:-1].split(b"\n"):
                    lines += self._add(head, piece)
            elif head[STREAM] not in begun:
                lines.append(stretch)
            else:  # its first record ends what has begun, and there is nothing begun any more
                first, _, others = text.partition(b"\n")
                lines += self._add(head, first)
                if others and lines and lines[-1].head == head:
                    lines[-1] = Stretch(head, lines[-1].text + others)
                elif others:
                    lines.append(Stretch(head, others))
        return lines

    def _add(self, head: bytes, text: bytes) -> list[Stretch]:
        stream, whole = head[STREAM], head[TAG] == WHOLE
        line = self._open.get(stream)
        if line is None:
            line = self._open[stream] = _Line(b"")
        if not line.cut:
            line.head = head[: STREAM.stop]
        line.text += text
        made = []
        while len(line.text) >= CHUNK_BYTES:
            line.cut = True
            made.append(Stretch(line.head + b" P ", line.text[:CHUNK_BYTES] + b"\n"))
            line.text = line.text[CHUNK_BYTES:]
        if whole:
            made.append(Stretch(line.head + b" F ", line.text + b"\n"))
            del self._open[stream]
        return made

    def end(self) -> list[Stretch]:
        """Return what is left when the streams have ended."""
        left = [Stretch(line.head + b" P ", line.text + b"\n") for _, line in sorted(self._open.items()) if line.text]
        self._open.clear()
        return left
