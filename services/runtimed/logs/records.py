"""Records: lines of output as bytes, in the form that conmon writes, and made whole again.

conmon writes what it has read at once, ``<time> <stream> <P|F> <text>``: P where the newline had not come yet, F at the
end of a line. A record has the same form, but is a line: P is left for what a line of more than 16 KiB is cut into, as
dockerd does, and for the end of a stream that no newline ended. All pieces of one line have one time, of its first
piece if it was cut, else of its end.

The stamp has a fixed width because conmon is told to write UTC: ``STAMP``, ``STREAM`` and ``TEXT`` say where
things are.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

STAMP: Final = slice(0, 29)  # 2026-11-24T04:00:52.786240777, then +00:00
STREAM: Final = slice(36, 42)  # both streams' names have six letters
TAG: Final = 43
TEXT: Final = 45
WHOLE: Final = ord("F")
PIECE: Final = ord("P")

# What dockerd reads at once, and therefore cuts longer lines into.
CHUNK_BYTES: Final = 16 << 10

# Others are what a full disk or a power cut has left of a record.
_VALID: Final = re.compile(rb"(?:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}\+00:00 std(?:out|err) [PF] [^\n]*\n)*+")
_ONE: Final = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9})([+-]\d\d:\d\d) (std(?:out|err) [PF] )(.*)", re.DOTALL
)


def valid_records(block: bytes) -> list[bytes]:
    """Return the records of ``block``, which ends with one; what is none is left out."""
    lines = block.split(b"\n")
    lines.pop()
    if _VALID.fullmatch(block):
        return lines
    return [whole for line in lines if (whole := _normal(line))]


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

    def feed(self, records: Sequence[bytes]) -> list[bytes]:
        """Return the lines that ``records`` end."""
        pieces = [index for index, record in enumerate(records) if record[TAG] == PIECE]
        if not pieces and not self._open:
            return list(records)
        lines: list[bytes] = []
        place = 0
        for piece in (*pieces, len(records)):
            # Up to the next piece only the ends of lines that have begun need to be looked at one by one.
            while place < piece and self._open:
                lines += self._add(records[place])
                place += 1
            lines += records[place:piece]
            if piece < len(records):
                lines += self._add(records[piece])
            place = piece + 1
        return lines

    def _add(self, record: bytes) -> list[bytes]:
        stream, whole = record[STREAM], record[TAG] == WHOLE
        line = self._open.get(stream)
        if line is None:
            if whole:
                return [record]
            line = self._open[stream] = _Line(b"")
        if not line.cut:
            line.head = record[: STREAM.stop]
        line.text += record[TEXT:]
        made = []
        while len(line.text) >= CHUNK_BYTES:
            line.cut = True
            made.append(line.head + b" P " + line.text[:CHUNK_BYTES])
            line.text = line.text[CHUNK_BYTES:]
        if whole:
            made.append(line.head + b" F " + line.text)
            del self._open[stream]
        return made

    def end(self) -> list[bytes]:
        """Return what is left when the streams have ended."""
        left = [line.head + b" P " + line.text for _, line in sorted(self._open.items()) if line.text]
        self._open.clear()
        return left
