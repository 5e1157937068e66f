"""conmon's log format, Kubernetes' own: ``<time> <stream> <P|F> <text>``, one entry per line.

P is a piece of a line whose newline had not come yet; F ends a line. So text and newlines can be told exactly, but for
what conmon had to cut at its buffer's end.
"""

import itertools
import os
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from sampan.resource.streams import LogEntry, Stream

_SECOND_NS: Final = 1_000_000_000
_BLOCK_BYTES: Final = 256 << 10
_TAG_OFFSET: Final = len("2026-11-24T04:00:52.786240777+00:00 stdout ")
_STREAMS: Final = {b"stdout": Stream.STDOUT, b"stderr": Stream.STDERR}


def _second_ns(stamp: bytes) -> int:
    """Return the time of the second in ``2026-11-24T04:00:52.786240777+00:00``. Raises ValueError."""
    return int(datetime.fromisoformat((stamp[:19] + stamp[29:]).decode()).timestamp()) * _SECOND_NS


class LogParser:
    """Turns the bytes of a log file into entries; the beginning of one waits for its rest.

    A line that is no entry, as after a power cut, is left out.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._second = b""  # consecutive entries mostly share one
        self._second_ns = 0

    def feed(self, data: bytes) -> list[LogEntry]:
        """Return the entries that ``data`` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        entries: list[LogEntry] = []
        add, streams = entries.append, _STREAMS
        for line in lines:
            try:
                stamp, stream, tag, text = line.split(b" ", 3)
                if stamp[:19] != self._second:
                    self._second_ns = _second_ns(stamp)
                    self._second = stamp[:19]
                time_ns = self._second_ns + int(stamp[20:29])
                add(LogEntry(streams[stream], time_ns, text + b"\n" if tag == b"F" else text))
            except (ValueError, KeyError):
                continue
        return entries


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
