"""The spool: what conmon writes, until it is where it belongs.

conmon appends to ``<spool>/<run>``, a file per run of the container, whether or not anybody reads it; that is what
survives a SIGKILL of everything else. A ``Cursor`` reads through these files in order, and what it reads is made lines.
How far it is stands on the last line of a file, with the beginnings of lines: so a cursor that is killed goes on
exactly there. What all cursors have read is given back to the disk from beneath the file (fallocate(2)).
"""

import contextlib
import ctypes
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from runtimed.logs.records import Assembler, Stretch, stretches
from sampan.sys.libc import LIBC

_READ_BYTES: Final = 1 << 20
_BLOCK_BYTES: Final = 4096
_STATE_BYTES: Final = 16 << 10
_KEEP_SIZE_PUNCH_HOLE: Final = 0x1 | 0x2
# A hole costs the file system some work, during which conmon waits: not one for every line, and few where much comes.
_PUNCH_BYTES: Final = 1 << 20
_PUNCH_IN_HASTE_BYTES: Final = 8 << 20


def append(fd: int, data: bytes) -> None:
    """Write all of ``data``. Raises OSError; then a part of it may have been written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def runs(directory: Path) -> list[int]:
    """Return the numbers of the runs that have files in the spool, in order."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(int(file.name) for file in directory.iterdir() if file.name.isdecimal())
    return []


def next_run(directory: Path) -> Path:
    """Return the file for another run; the newest of those before it is always there, so that numbers only grow."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory / str((runs(directory) or [0])[-1] + 1)


@dataclass(slots=True)
class Position:
    """How far a cursor is, and what its reader has noted with it."""

    run: int = 0
    offset: int = 0
    begun: dict[str, tuple[str, str, str]] = field(default_factory=dict)  # see Assembler.state
    skip: int = 0  # lines from here on that are where they belong already
    inode: int = 0  # where the lines before went: see rotation.Place
    size_bytes: int = 0
    ended: int = 0  # the last run whose streams have ended, and of which everything was read

    @classmethod
    def load(cls, path: Path) -> "Position":
        """Read the last one that was written as a whole; the beginning if there is none."""
        with contextlib.suppress(FileNotFoundError):
            for line in reversed(path.read_bytes().split(b"\n")):
                with contextlib.suppress(ValueError, TypeError):
                    return cls(**json.loads(line))
        return cls()

    def save(self, path: Path) -> None:
        """Write it. Raises OSError.

        It is one more line: to put another file in place is some hundred times as much work, above all the disk's.
        """
        line = json.dumps({name: getattr(self, name) for name in self.__slots__}).encode()
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            if size < _STATE_BYTES:
                # What is left of a line whose writer was killed is no part of this one.
                append(fd, b"\n" + line)
                return
        finally:
            os.close(fd)
        new = path.with_name(path.name + ".new")
        new.write_bytes(line)
        new.rename(path)


@dataclass(frozen=True, slots=True)
class Lines:
    """What was read at once."""

    records: list[Stretch]
    after: Position  # once they are where they belong


class Cursor:
    """Reads lines from the spool. Whoever reads says with ``done`` that they are where they belong."""

    def __init__(self, spool: Path, state: Path) -> None:
        self._spool = spool
        self._state = state
        self.position = Position.load(state)
        self._assembler = Assembler(self.position.begun)
        self._fd = -1
        self._run = 0

    def read(self, *, ended: bool, limit_bytes: int = _READ_BYTES) -> Lines | None:
        """Return the next lines; None if there are none for now.

        Args:
            ended: nothing writes to the newest run's file any more.
            limit_bytes: how much of the spool is read at most, but for a record that is longer.
        """
        while True:
            if not self._open():
                return None
            here = self.position
            data = self._records(here.offset, limit_bytes)
            if data:
                lines = self._assembler.feed(stretches(data))
                return self._lines(lines, here.run, here.offset + len(data))
            newest = (runs(self._spool) or [0])[-1]
            if newest == here.run and not ended:
                return None
            if here.ended >= here.run:
                if newest <= here.run:
                    return None
                self._close()
                self.position = replace(here, run=newest_after(self._spool, here.run), offset=0, begun={}, skip=0)
                continue
            after = self._lines(self._assembler.end(), here.run, here.offset)
            after.after.ended = here.run
            return after

    def _lines(self, records: list[Stretch], run: int, offset: int) -> Lines:
        here = self.position
        return Lines(records, replace(here, run=run, offset=offset, begun=self._assembler.state(), skip=0))

    def _open(self) -> bool:
        if self._fd >= 0 and self._run == self.position.run:
            return True
        self._close()
        if self.position.run == 0:
            self.position.run = (runs(self._spool) or [0])[0]
        while self.position.run:
            try:
                self._fd = os.open(self._spool / str(self.position.run), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                self.position.ended = max(self.position.ended, self.position.run)
                self.position.run, self.position.offset = newest_after(self._spool, self.position.run), 0
                continue
            self._run = self.position.run
            self._skip_hole()
            return True
        return False

    def _skip_hole(self) -> None:
        """Go to where there is something: after a power cut, what is noted may be older than what was given back."""
        size, offset = os.fstat(self._fd).st_size, self.position.offset
        if offset >= size:
            return
        try:
            begin = os.lseek(self._fd, offset, os.SEEK_DATA)
        except OSError:  # nothing up to the end, beyond which something may have come meanwhile
            begin = size
        if begin > offset:
            begin = min(size, self._begin_of_record(begin))
            self._assembler = Assembler()
            self.position = replace(self.position, offset=begin, begun={}, skip=0, inode=0)

    def _begin_of_record(self, offset: int) -> int:
        return offset + os.pread(self._fd, 1 << 16, offset).find(b"\n") + 1

    def _records(self, offset: int, limit_bytes: int) -> bytes:
        """Read whole records; a record that is longer than what is read at once is read whole."""
        data = b""
        while True:
            piece = os.pread(self._fd, limit_bytes, offset + len(data))
            data += piece
            end = data.rfind(b"\n") + 1
            if end or not piece:
                return data[:end]

    @property
    def backlog_bytes(self) -> int:
        """How much of the spool was not read yet."""
        total = 0
        for run in runs(self._spool):
            if run >= self.position.run:
                with contextlib.suppress(FileNotFoundError):
                    total += (self._spool / str(run)).stat().st_size
        return max(0, total - self.position.offset)

    def skip_to(self, keep_bytes: int) -> int:
        """Leave out what was written before the last ``keep_bytes`` of the newest run; return how much that was."""
        before = self.backlog_bytes
        newest = (runs(self._spool) or [0])[-1]
        size = (self._spool / str(newest)).stat().st_size
        start = max(0, size - keep_bytes, self.position.offset if newest == self.position.run else 0)
        here = self.position
        self._close()
        self._assembler = Assembler()
        ended = max(here.ended, newest - 1)
        self.position = replace(here, run=newest, offset=start, begun={}, skip=0, ended=ended)
        if start and self._open():  # to where a record begins
            self.position.offset = self._begin_of_record(start)
        return before - self.backlog_bytes

    def note(self, position: Position) -> None:
        """Write down how far it is. Raises OSError."""
        position.save(self._state)
        self.position = position

    def again(self) -> None:
        """Read again what was not noted: it could not be put where it belongs."""
        self._assembler = Assembler(self.position.begun)

    def close(self) -> None:
        """Close what is open; safe to repeat."""
        self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def newest_after(spool: Path, run: int) -> int:
    """Return the run that follows ``run``, 0 if none does."""
    return next((other for other in runs(spool) if other > run), 0)


class Reclaim:
    """Gives back what all cursors have read: whole files of runs before, and the beginning of the last one's."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._run = 0
        self._punched = 0

    def upto(self, positions: Iterable[Position], *, caught_up: bool = False, ended: bool = False) -> None:
        """Give back what is before each of ``positions``. Never raises.

        Args:
            caught_up: there is nothing behind them for now.
            ended: nothing comes any more.
        """
        run, offset = min((one.run, one.offset) for one in positions)
        if not run:
            return
        with contextlib.suppress(OSError):
            for old in runs(self._spool):
                if old < run:
                    (self._spool / str(old)).unlink(missing_ok=True)
            if run != self._run:
                self._run, self._punched = run, 0
            end = offset // _BLOCK_BYTES * _BLOCK_BYTES
            least = _PUNCH_IN_HASTE_BYTES
            if caught_up:
                least = _BLOCK_BYTES if ended else _PUNCH_BYTES
            if end - self._punched >= least:
                _punch(self._spool / str(run), self._punched, end - self._punched)
                self._punched = end


def _punch(path: Path, offset: int, length: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        LIBC.fallocate(fd, _KEEP_SIZE_PUNCH_HOLE, ctypes.c_longlong(offset), ctypes.c_longlong(length))
    finally:
        os.close(fd)
