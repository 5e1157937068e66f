"""Maps of sparse files, in the four forms that GNU tar has written; and numbers, in the forms of a tar header.

Reference: GNU tar manual, "Storing Sparse Files".
"""

import functools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sampan.errors import InvalidArgumentError
from sampan.tar.entry import Entry


def text(field: bytes) -> bytes:
    """Return a field up to its first NUL."""
    end = field.find(b"\0")
    return field if end < 0 else field[:end]


@functools.lru_cache(4096)  # an archive's modes, owners and times are few
def number(field: bytes, what: str) -> int:
    """Return a numeric field: octal digits, or GNU's base 256, marked by the first byte's top bit."""
    if field[0] & 0x80:
        # Two's complement of all bits but the marking one.
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
    digits = field.strip(b" \0")
    end = digits.find(b"\0")  # some writers leave old bytes after the NUL
    if end >= 0:
        digits = digits[:end]
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        raise InvalidArgumentError(f"tar header has the {what} {digits!r}, which is not an octal number")
    return int(digits, 8)


@dataclass(frozen=True, slots=True)
class SparseMap:
    """A file's size, and the parts of it that hold data, as (offset, length)."""

    size: int
    parts: tuple[tuple[int, int], ...]


def check(found: SparseMap, stored: int) -> None:
    """Raise InvalidArgumentError unless the parts are in order, within the file, and ``stored`` bytes in all."""
    end = 0
    for offset, length in found.parts:
        if offset < end or length < 0:
            raise InvalidArgumentError("tar archive has a sparse file whose parts overlap or are out of order")
        end = offset + length
    if end > found.size or sum(length for _, length in found.parts) != stored:
        raise InvalidArgumentError("tar archive has a sparse file whose parts do not fit its size")


def from_gnu_header(header: bytes, block: Callable[[], bytes], most: int) -> SparseMap:
    """Read type ``S``: four parts in the header, 21 in each block after it while the last says so."""
    parts = _pairs(header[386:482])
    more = header[482]
    while more:
        extension = block()
        parts += _pairs(extension[:504])
        more = extension[504]
        if len(parts) > most:
            raise InvalidArgumentError(f"tar archive has a sparse file of more than {most} parts")
    return SparseMap(number(header[483:495], "size"), tuple(parts))


def from_pax_0(records: dict[str, bytes], most: int) -> SparseMap:
    """Read formats 0.0 and 0.1: the map is in the pax header."""
    numbers = _numbers(records.get("GNU.sparse.map", b"").split(b",") if records.get("GNU.sparse.map") else [], most)
    return SparseMap(_size(records, "GNU.sparse.size"), _paired(numbers))


def from_pax_1_0(records: dict[str, bytes], block: Callable[[], bytes], most: int) -> SparseMap:
    """Read format 1.0: the map stands before the data, a number per line, padded to a block."""
    lines = block().split(b"\n")
    (count,) = _numbers(lines[:1], most)
    if count > most:
        raise InvalidArgumentError(f"tar archive has a sparse file of {count} parts, the most is {most}")
    # The last piece of a block is the beginning of a number, or padding.
    while len(lines) - 2 < 2 * count:
        rest = lines.pop()
        lines += (rest + block()).split(b"\n")
    return SparseMap(_size(records, "GNU.sparse.realsize"), _paired(_numbers(lines[1 : 1 + 2 * count], most)))


def _size(records: dict[str, bytes], key: str) -> int:
    (size,) = _numbers([records.get(key, b"")], 1)
    return size


def _pairs(field: bytes) -> list[tuple[int, int]]:
    pairs = []
    for start in range(0, len(field), 24):
        if not field[start + 12]:
            break
        pairs.append((number(field[start : start + 12], "offset"), number(field[start + 12 : start + 24], "length")))
    return pairs


def _numbers(fields: list[bytes], most: int) -> list[int]:
    if len(fields) > 2 * most:
        raise InvalidArgumentError(f"tar archive has a sparse file of more than {most} parts")
    if not all(field.isdigit() and len(field) <= 20 for field in fields):
        raise InvalidArgumentError("tar archive has a sparse file with a malformed map")
    return [int(field) for field in fields]


def _paired(numbers: list[int]) -> tuple[tuple[int, int], ...]:
    if len(numbers) % 2:
        raise InvalidArgumentError("tar archive has a sparse file with half a part")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def write_parts(fd: int, entry: Entry, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file's data, whose holes the archive left out, where it belongs; the rest of the file is holes again."""
    parts = iter(((0, entry.size),) if entry.parts is None else entry.parts)
    if entry.parts is not None:
        os.ftruncate(fd, entry.size)
    offset, room = 0, 0
    for piece in pieces:
        while piece:
            while not room:
                offset, room = next(parts)  # the reader has checked that parts and data are equally long
            written = os.pwrite(fd, piece[:room], offset)
            offset, room, piece = offset + written, room - written, piece[written:]
