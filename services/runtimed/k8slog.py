"""conmon's log format, Kubernetes' own: ``<time> <stream> <P|F> <text>``, one entry per line.

P is a piece of a line whose newline had not come yet; F ends a line. So text and newlines can be told exactly, but for
what conmon had to cut at its buffer's end.
"""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from runtimed.model import Stream

_SECOND_NS: Final = 1_000_000_000
_BLOCK_BYTES: Final = 256 << 10
_TAG_OFFSET: Final = len("2026-11-24T04:00:52.786240777+00:00 stdout ")
_STREAMS: Final = {b"stdout": Stream.STDOUT, b"stderr": Stream.STDERR}


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A line, or the piece of one that was written at once."""

    stream: Stream
    time_ns: int  # since 1970
    line: bytes  # with its newline, if it had one


@lru_cache(256)
def _second_ns(stamp: bytes, zone: bytes) -> int:
    """Return the time of a second; consecutive entries ask for the same one."""
    return int(datetime.fromisoformat((stamp + zone).decode()).timestamp()) * _SECOND_NS


def parse_time(stamp: bytes) -> int:
    """Return nanoseconds since 1970 for ``2026-11-24T04:00:52.786240777+00:00``. Raises ValueError."""
    return _second_ns(stamp[:19], stamp[29:]) + int(stamp[20:29])


def parse_line(line: bytes) -> LogEntry | None:
    """Return the entry in ``line``, given without its newline; None if it is damaged, as after a power cut."""
    parts = line.split(b" ", 3)
    try:
        stamp, stream, tag, text = parts
        return LogEntry(_STREAMS[stream], parse_time(stamp), text + b"\n" if tag == b"F" else text)
    except (ValueError, KeyError):
        return None


class LogParser:
    """Turns the bytes of a log file into entries; pieces of a line wait for their rest."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[LogEntry]:
        """Return the entries that ``data`` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [entry for line in lines if (entry := parse_line(line)) is not None]


def tail_offset(fd: int, lines: int) -> int:
    """Return where in the file the last ``lines`` lines begin, reading backwards only as far as it takes.

    Pieces of a line count once, with its end; a last line without an end counts as well.
    """
    size = os.fstat(fd).st_size
    if lines <= 0:
        return size
    newlines = _newlines_backwards(fd, size)
    end = next(newlines, -1)
    last = True
    for newline in itertools.chain(newlines, (-1,)):
        start = newline + 1
        if last or os.pread(fd, 1, start + _TAG_OFFSET) == b"F":
            if lines == 0:
                return end + 1
            lines -= 1
        last = False
        end = newline
    return 0


def _newlines_backwards(fd: int, size: int) -> Iterator[int]:
    """Yield the offset of each newline, the last one first."""
    position = size
    while position > 0:
        start = max(0, position - _BLOCK_BYTES)
        block = os.pread(fd, position - start, start)
        index = block.rfind(b"\n")
        while index >= 0:
            yield start + index
            index = block.rfind(b"\n", 0, index)
        position = start
