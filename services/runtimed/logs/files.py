"""Read a log as files: one after the other, from its beginning or from some lines before its end, and on as it grows.

A file is known by its inode, whatever it is called by now, and a compressed one by the inode that it had before.
"""

import contextlib
import gzip
import os
from collections import deque
from pathlib import Path
from typing import Final

from runtimed.logs.formats import Format, newlines_backwards
from runtimed.logs.records import CHUNK_BYTES
from runtimed.logs.rotation import files_of, packed_inode
from sampan.resource.streams import LogEntry

_READ_BYTES: Final = 256 << 10  # some 2,000 lines a message
_BLOCK_BYTES: Final = 256 << 10


class _File:
    """One file, open: it can be read whatever becomes of its name."""

    def __init__(self, path: Path) -> None:
        """Open it. Raises OSError."""
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._packed: gzip.GzipFile | None = None
        if path.name.endswith(".gz"):
            self.identity = packed_inode(self._fd)
            self._packed = gzip.GzipFile(fileobj=open(self._fd, "rb", closefd=False), mode="rb")  # noqa: SIM115
        else:
            self.identity = os.fstat(self._fd).st_ino & 0xFFFFFFFF

    def read(self) -> bytes:
        """Return what comes next; nothing at its end, for now."""
        if self._packed is None:
            return os.read(self._fd, _READ_BYTES)
        try:
            return self._packed.read(_READ_BYTES)
        except (EOFError, OSError):  # damaged: what could be read was
            return b""

    def seek_tail(self, lines: int, form: Format) -> int:
        """Go to where the last ``lines`` lines begin, or to its beginning; return how many fewer it has."""
        if self._packed is not None:
            return self._seek_tail_packed(self._packed, lines)
        size = os.fstat(self._fd).st_size
        newlines = newlines_backwards(lambda count, offset: os.pread(self._fd, count, offset), size, _BLOCK_BYTES)
        end = next(newlines, -1)
        last = True
        for newline in newlines:
            # Only a piece of a long line is this long and no line of its own; it counts with that line's end.
            is_piece = end - newline > CHUNK_BYTES and not form.ends_line(
                os.pread(self._fd, end - newline - 1, newline + 1)
            )
            if last or not is_piece:
                if lines == 0:
                    os.lseek(self._fd, end + 1, os.SEEK_SET)
                    return 0
                lines -= 1
            last = False
            end = newline
        if end >= 0:
            if lines == 0:
                os.lseek(self._fd, end + 1, os.SEEK_SET)
                return 0
            lines -= 1
        os.lseek(self._fd, 0, os.SEEK_SET)
        return lines

    def _seek_tail_packed(self, packed: gzip.GzipFile, lines: int) -> int:
        begins: deque[int] = deque(maxlen=lines)
        offset = 0
        with contextlib.suppress(EOFError, OSError):
            for line in packed:
                begins.append(offset)
                offset += len(line)
        packed.seek(begins[0] if begins else 0)
        return lines - len(begins)

    def close(self) -> None:
        """Close it."""
        if self._packed is not None:
            self._packed.close()
        os.close(self._fd)


class LogFiles:
    """A log, as it is read. Its methods block, and are not for two threads at once."""

    def __init__(self, path: Path, form: Format) -> None:
        self._path = path
        self._form = form
        self._files: deque[_File] = deque()  # those that are opened, in order; the first one is read
        self._identity = 0  # of the last one that was read to its end
        self._rest = b""

    def open(self, tail: int | None) -> None:
        """Open what is there, at its last ``tail`` lines."""
        if tail is None:
            self._open_after(0)
            return
        missing = tail
        for path in reversed(files_of(self._path)):
            with contextlib.suppress(FileNotFoundError):
                file = _File(path)
                if self._files and file.identity == self._files[0].identity:  # rotated meanwhile
                    file.close()
                    continue
                self._files.appendleft(file)
                if (missing := file.seek_tail(missing, self._form)) <= 0:
                    return

    def _open_after(self, identity: int) -> None:
        """Open the files that follow the one of this identity; all if it is not there any more."""
        found: list[_File] = []
        # The newest first: one that is rotated meanwhile is seen twice, and never missed.
        for path in reversed(files_of(self._path)):
            with contextlib.suppress(FileNotFoundError):
                file = _File(path)
                if file.identity == identity:
                    file.close()
                    break
                if found and found[-1].identity == file.identity:
                    file.close()
                    continue
                found.append(file)
        self._files.extend(reversed(found))

    def read(self) -> list[LogEntry] | None:
        """Return the next entries; None at the end, for now."""
        if not self._files:
            self._open_after(self._identity)
        while self._files:
            file = self._files[0]
            if piece := file.read():
                *lines, self._rest = (self._rest + piece).split(b"\n")
                return self._form.decode(lines)
            if len(self._files) == 1:
                self._open_after(file.identity)
                # What was written before it was rotated may have come since.
                if len(self._files) == 1 or (piece := file.read()):
                    if not piece:
                        return None
                    *lines, self._rest = (self._rest + piece).split(b"\n")
                    return self._form.decode(lines)
            self._identity = file.identity
            self._files.popleft().close()
            self._rest = b""
        return None

    def close(self) -> None:
        """Close all."""
        while self._files:
            self._files.popleft().close()
