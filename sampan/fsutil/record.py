"""What a sender told of a directory when that was last made the same, message by message, kept beside it.

As long as nobody else changes the directory, an entry that is told in the same words needs no look at the file: a tree
that has not changed is compared as bytes, hundreds of entries at a time. The record is taken away before anything is
changed, so that a transfer that did not come to its end leaves none. It counts for the directory that it was made for,
and until the machine starts anew: after a power cut files may be on the disk in part.

What is on disk: a header, the length of each message and the size of its file in native numbers, and the messages.
"""

import mmap
import os
import struct
from array import array
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Final, Self

from sampan.fsutil.receiver import Totals

NO_FILE: Final = -1  # the size of what is no regular file

_HEADER: Final = struct.Struct("=16s36sQQQQ")  # magic, boot ID, device, inode, messages, their bytes
_MAGIC: Final = b"sampan walk 1\n"
_LENGTH: Final = "I"
_SIZE: Final = "q"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_MAX_BYTES: Final = 64 << 20  # of messages, of some 50 bytes each


class _UnusableError(Exception):
    """A record is damaged, or of something else."""


class WalkRecord:
    """A record that was taken; ``close`` it."""

    def __init__(self, taken: Path, data: mmap.mmap, lengths: "array[int]", sizes: "array[int]") -> None:
        self._taken = taken
        self._data = data
        self._lengths = lengths.tobytes()
        self._sizes = sizes
        start = len(data) - sum(lengths)
        self._starts = array("Q", accumulate(lengths, initial=start))
        self.count = len(lengths)

    @classmethod
    def take(cls, path: Path, directory: Path) -> Self | None:
        """Take the record at ``path`` away; None if there is none that counts for ``directory``, which is the same."""
        taken = path.with_name(f"{path.name}.taken")
        try:
            path.replace(taken)
        except FileNotFoundError:
            taken.unlink(missing_ok=True)
            return None
        try:
            return cls._read(taken, directory)
        except _UnusableError:
            taken.unlink()
            return None

    @classmethod
    def _read(cls, taken: Path, directory: Path) -> Self:
        with taken.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < _HEADER.size:
                raise _UnusableError
            data = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)
        *said, count, length = _HEADER.unpack_from(data)
        lengths, sizes = array(_LENGTH), array(_SIZE)
        first = _HEADER.size + count * lengths.itemsize
        start = first + count * sizes.itemsize
        if tuple(said) == _identity(directory) and start + length == size:
            lengths.frombytes(data[_HEADER.size : first])
            sizes.frombytes(data[first:start])
            if sum(lengths) == length:
                return cls(taken, data, lengths, sizes)
        data.close()
        raise _UnusableError

    def close(self) -> None:
        """Be done with it. It is gone, unless it was given back."""
        self._data.close()
        self._taken.unlink(missing_ok=True)

    def give_back(self, path: Path) -> None:
        """Put it back: everything was told as it says."""
        self._taken.replace(path)

    def message(self, index: int) -> bytes:
        """Return one message."""
        return self._data[self._starts[index] : self._starts[index + 1]]

    def messages(self, start: int, stop: int) -> bytes:
        """Return some messages, one after another."""
        return self._data[self._starts[start] : self._starts[stop]]

    def totals(self, start: int, stop: int) -> Totals:
        """Return what entries come to."""
        sizes = self._sizes[start:stop]
        others = sizes.count(NO_FILE)
        return Totals(len(sizes), len(sizes) - others, sum(sizes) - others * NO_FILE)

    def same(self, index: int, messages: Sequence[bytes], start: int) -> int:
        """Return how many of ``messages``, from ``start`` on, are those of the record from ``index`` on."""
        most = min(len(messages) - start, self.count - index)
        known, step = 0, 1
        # Each piece is twice the last one, and half of it where they differ.
        while step and known < most:
            step = min(step, most - known)
            if self._equal(index + known, messages[start + known : start + known + step]):
                known += step
                step *= 2
            else:
                most = known + step - 1
                step //= 2
        return known

    def _equal(self, index: int, messages: Sequence[bytes]) -> bool:
        stop = index + len(messages)
        lengths = array(_LENGTH, map(len, messages))
        size = lengths.itemsize
        return self._lengths[index * size : stop * size] == lengths.tobytes() and self.messages(
            index, stop
        ) == b"".join(messages)

    def copy(self, into: "NewRecord", start: int, stop: int) -> None:
        """Add messages to another record."""
        lengths = array(_LENGTH)
        size = lengths.itemsize
        lengths.frombytes(self._lengths[start * size : stop * size])
        into.extend(lengths, self._sizes[start:stop], self.messages(start, stop))


class NewRecord:
    """A record that is being made: add all entries, in order, and ``save`` it when they are as they were told."""

    def __init__(self) -> None:
        self._lengths = array(_LENGTH)
        self._sizes = array(_SIZE)
        self._messages = bytearray()
        self._good = True

    def add(self, message: bytes, size: int) -> None:
        """Add an entry; ``size`` is the file's, or ``NO_FILE``."""
        if self._good:
            self._lengths.append(len(message))
            self._sizes.append(size)
            self._messages += message
            self._check()

    def extend(self, lengths: "array[int]", sizes: "array[int]", messages: bytes) -> None:
        """Add several."""
        if self._good:
            self._lengths += lengths
            self._sizes += sizes
            self._messages += messages
            self._check()

    def _check(self) -> None:
        if len(self._messages) > _MAX_BYTES:
            self.spoil()

    def spoil(self) -> None:
        """Make none: an entry is not one that a look at its own words tells to be the same."""
        self._good = False
        del self._lengths[:], self._sizes[:], self._messages[:]

    def save(self, path: Path, directory: Path) -> None:
        """Keep it at ``path``. Without room for it the next transfer looks at each file."""
        if not self._good:
            return
        magic, boot, device, inode = _identity(directory)
        header = _HEADER.pack(magic, boot, device, inode, len(self._lengths), len(self._messages))
        partial = path.with_name(f"{path.name}.new")
        try:
            with partial.open("wb") as file:
                file.writelines((header, self._lengths, self._sizes, self._messages))
            partial.replace(path)
        except OSError:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def _identity(directory: Path) -> tuple[bytes, bytes, int, int]:
    status = directory.stat()
    return _MAGIC.ljust(16, b"\0"), _BOOT_ID.read_bytes().strip(), status.st_dev, status.st_ino
