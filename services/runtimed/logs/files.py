"""Read a log as files: one after the other, from its beginning or from some lines before its end, and on as it grows.

A file is known by its inode, whatever it is called by now, and a compressed one by the inode that it had before; and by
its first line, since the number of a file that is gone may be a new one's.
"""

import contextlib
import gzip
import io
import itertools
import os
from collections import deque
from pathlib import Path
from typing import Final, NamedTuple

from runtimed.logs.formats import Format, newlines_backwards
from runtimed.logs.records import CHUNK_BYTES
from runtimed.logs.rotation import files_of, packed_inode
from sampan.resource.streams import LogEntry

_READ_BYTES: Final = 256 << 10  # some 2,000 lines a message
_BLOCK_BYTES: Final = 256 << 10
_FIRST_LINE_BYTES: Final = 128 << 10  # a piece of 16 KiB of which each byte is escaped has less
_LOOKS: Final = 50  # a rotation takes less than a millisecond, and comes at most once for each file's worth of output


class _Identity(NamedTuple):
    inode: int  # cut to 32 bits; 0: no file
    first_line: bytes  # with its time; empty as long as it is not whole

    def same(self, other: "_Identity") -> bool:
        """Whether both are of one file."""
        either_new = not (self.first_line and other.first_line)
        return self.inode == other.inode and (either_new or self.first_line == other.first_line)


_NO_FILE: Final = _Identity(0, b"")


class _File:
    """One file, open: it can be read whatever becomes of its name."""

    def __init__(self, path: Path) -> None:
        """Open it. Raises OSError."""
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._packed: gzip.GzipFile | None = None
        if path.name.endswith(".gz"):
            self._inode = packed_inode(self._fd)
            self._packed = gzip.GzipFile(fileobj=open(self._fd, "rb", closefd=False), mode="rb")  # noqa: SIM115
        else:
            self._inode = os.fstat(self._fd).st_ino & 0xFFFFFFFF
        self._first_line = b""

    @property
    def identity(self) -> _Identity:
        """What tells it from every other file of its log."""
        if not self._first_line:
            line, newline, _ = self._head().partition(b"\n")
            self._first_line = line if newline else b""
        return _Identity(self._inode, self._first_line)

    def _head(self) -> bytes:
        if self._packed is None:
            return os.pread(self._fd, _FIRST_LINE_BYTES, 0)
        with (
            contextlib.suppress(EOFError, OSError),
            gzip.GzipFile(fileobj=io.BytesIO(os.pread(self._fd, _FIRST_LINE_BYTES, 0))) as packed,
        ):
            return packed.read(_FIRST_LINE_BYTES)
        return b""

    def read(self) -> bytes:
        """Return what comes next; nothing at its end, for now."""
        if self._packed is None:
            return os.read(self._fd, _READ_BYTES)
        try:
            return self._packed.read(_READ_BYTES)
        except (EOFError, OSError):  # damaged: what could be read was
            return b""

    def seek_tail(self, lines: int, form: Format, *, continued: bool) -> int | None:
        """Go to where the last ``lines`` lines begin; return None, or how many fewer it has if it begins with them.

        If it is ``continued`` in a file, the pieces at its end are of a line that is counted already.
        """
        if self._packed is not None:
            return self._seek_tail_packed(self._packed, lines, form, continued=continued)
        size = os.fstat(self._fd).st_size
        newlines = newlines_backwards(lambda count, offset: os.pread(self._fd, count, offset), size, _BLOCK_BYTES)
        end = next(newlines, -1)
        if end < 0:
            os.lseek(self._fd, 0, os.SEEK_SET)
            return lines
        begun = continued  # whether a line that begins further on is counted
        for newline in itertools.chain(newlines, (-1,)):
            if not begun or not self._is_piece(newline + 1, end, form):
                if lines == 0:
                    os.lseek(self._fd, end + 1, os.SEEK_SET)
                    return None
                lines -= 1
            begun = True
            end = newline
        os.lseek(self._fd, 0, os.SEEK_SET)
        return lines

    def _is_piece(self, begin: int, end: int, form: Format) -> bool:
        """Whether a record is a piece of a long line, which counts with that line's end. Only pieces are so long."""
        return end - begin >= CHUNK_BYTES and not form.ends_line(os.pread(self._fd, end - begin, begin))

    def _seek_tail_packed(self, packed: gzip.GzipFile, lines: int, form: Format, *, continued: bool) -> int | None:
        begins: deque[int] = deque(maxlen=lines + 1)
        there, offset, begins_line = 0, 0, True
        with contextlib.suppress(EOFError, OSError):
            for record in packed:
                if begins_line:
                    begins.append(offset)
                    there += 1
                begins_line = len(record) <= CHUNK_BYTES or form.ends_line(record.removesuffix(b"\n"))
                offset += len(record)
        wanted = lines + (continued and not begins_line)
        if there <= wanted:
            packed.seek(0)
            return wanted - there
        packed.seek(begins[-wanted] if wanted else offset)
        return None

    def close(self) -> None:
        """Close it."""
        if self._packed is not None:
            self._packed.close()
        os.close(self._fd)


def _is(path: Path, identity: _Identity) -> bool:
    try:
        file = _File(path)
    except FileNotFoundError:
        return False
    with contextlib.closing(file):
        return file.identity.same(identity)


class LogFiles:
    """A log, as it is read. Its methods block, and are not for two threads at once."""

    def __init__(self, path: Path, form: Format, *, joined: bool = False) -> None:
        """``joined``: see ``LogQuery``."""
        self._path = path
        self._form = form
        self._decode = form.join if joined else form.decode
        self._files: deque[_File] = deque()  # those that are opened, in order; the first one is read
        self._identity = _NO_FILE  # of the last one that was read to its end
        self._rest = b""

    def open(self, tail: int | None) -> None:
        """Open what is there, at its last ``tail`` lines."""
        if tail is None:
            self._open_after(_NO_FILE)
            return
        missing, continued = tail, False
        for path in reversed(files_of(self._path)):
            with contextlib.suppress(FileNotFoundError):
                file = _File(path)
                if self._files and file.identity.same(self._files[0].identity):  # rotated meanwhile
                    file.close()
                    continue
                self._files.appendleft(file)
                if (fewer := file.seek_tail(missing, self._form, continued=continued)) is None:
                    return
                missing, continued = fewer, continued or bool(file.identity.first_line)

    def _open_after(self, identity: _Identity) -> None:
        """Open the files that follow the one of this identity; all if it is not there any more."""
        for _ in range(_LOOKS):
            found, still = self._look(identity)
            if still:
                break
            for file in found:
                file.close()
        else:
            found, _ = self._look(identity)
        self._files.extend(reversed(found))

    def _look(self, identity: _Identity) -> tuple[list[_File], bool]:
        """Open them, the newest first; and say whether none has got another name meanwhile.

        In the middle of a rotation a file has none of the names that were listed: it would be taken for one that is
        gone, and all that is older for new.
        """
        found: list[_File] = []
        paths = files_of(self._path)
        opened: list[tuple[Path, _Identity]] = []
        for path in reversed(paths):
            try:
                file = _File(path)
            except FileNotFoundError:
                return found, False
            opened.append((path, file.identity))
            if file.identity.same(identity):
                file.close()
                break
            found.append(file)
        return found, files_of(self._path) == paths and all(_is(path, known) for path, known in opened)

    def read(self) -> list[LogEntry] | None:
        """Return the next entries; None at the end, for now."""
        if not self._files:
            self._open_after(self._identity)
        while self._files:
            file = self._files[0]
            if piece := file.read():
                *lines, self._rest = (self._rest + piece).split(b"\n")
                return self._decode(lines)
            if len(self._files) == 1:
                self._open_after(file.identity)
                # What was written before it was rotated may have come since.
                if len(self._files) == 1 or (piece := file.read()):
                    if not piece:
                        return None
                    *lines, self._rest = (self._rest + piece).split(b"\n")
                    return self._decode(lines)
            self._identity = file.identity
            self._files.popleft().close()
            self._rest = b""
        return None

    def close(self) -> None:
        """Close all."""
        while self._files:
            self._files.popleft().close()
