"""Where lines go from the spool: into the files of a log, all of them, in order and once, whatever is killed when."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from runtimed.logs.formats import Format, JsonLines, RecordLines
from runtimed.logs.rotation import Limits, RotatedFile
from runtimed.logs.spool import Cursor


@dataclass(frozen=True, slots=True)
class FilePlan:
    """How a log is kept in files. It travels as JSON."""

    path: str
    json: bool  # else records
    size_bytes: int = 0
    files: int = 1
    compress: bool = False
    attributes: Mapping[str, str] | None = None

    def format(self) -> Format:
        """Return the form of the files."""
        return JsonLines(self.attributes) if self.json else RecordLines()


class FileSink:
    """Keeps a log in files.

    What is written is noted afterwards, with how long the file was then: a sink that is killed in between finds that
    the file is longer, makes the same bytes again, and writes only those that are missing.
    """

    def __init__(self, cursor: Cursor, plan: FilePlan) -> None:
        self.cursor = cursor
        self._format = plan.format()
        self._file = RotatedFile(Path(plan.path), Limits(plan.size_bytes, plan.files, plan.compress))
        self._opened = False

    def pump(self, *, ended: bool) -> bool:
        """Write the next lines; return False if there are none for now. Raises OSError, and may be called again."""
        try:
            return self._pump(ended=ended)
        except OSError:
            self._file.close()
            self._opened = False
            self.cursor.again()
            raise

    def _pump(self, *, ended: bool) -> bool:
        lines = self.cursor.read(ended=ended)
        if lines is None:
            return False
        before = self.cursor.position
        if not self._opened:
            place = self._file.open()
            if place.inode == before.inode:
                self._file.resume(before.size_bytes)
            else:  # where this file ends now is where what is written next begins
                self.cursor.note(replace(before, inode=place.inode, size_bytes=place.size_bytes))
                before = self.cursor.position
            self._opened = True
        data = self._format.encode(lines.records)
        begin, skip = _after_lines(data, before.skip)
        place = self._file.open()
        while begin < len(data):
            if self._file.full:
                # A rotation cannot be repeated: it is noted where it happens, in the middle of what was read.
                before = replace(
                    before, skip=data.count(b"\n", 0, begin), inode=place.inode, size_bytes=place.size_bytes
                )
                self.cursor.note(before)
                self._file.rotate()
                place = self._file.open()
                before = replace(before, inode=place.inode, size_bytes=place.size_bytes)
                self.cursor.note(before)
            end = self._file.fitting(data, begin)
            self._file.write(data[begin:end])
            place = self._file.open()
            begin = end
        self.cursor.note(replace(lines.after, skip=skip, inode=place.inode, size_bytes=place.size_bytes))
        return True

    def close(self) -> None:
        """Let go of the files."""
        self._file.wait()
        self._file.close()
        self.cursor.close()


def _after_lines(data: bytes, count: int) -> tuple[int, int]:
    """Return where the line after the first ``count`` ones begins, and how many of these are missing."""
    place = 0
    while count and place < len(data):
        place = data.index(b"\n", place) + 1
        count -= 1
    return place, count
