"""Write a tar archive in pax format: the same entries always give the same bytes.

A pax header is written only for what ustar cannot say: long names, large numbers, fractions of a second, attributes.
"""

import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.sys.trees import shortened
from sampan.tar.entry import MAX_NAME_BYTES, Entry, EntryType

_BLOCK: Final = 512
_MAX_OCTAL: Final = {8: 8**7 - 1, 12: 8**11 - 1}
_ZEROS: Final = bytes(_BLOCK)
# Fields are filled up with NULs.
_LAYOUT: Final = struct.Struct("100s8s8s8s12s12s8s1s100s8s64x8s8s167x")
_NOBODY: Final = b"0000000"


class TarWriter:
    """Writes entries, each followed by its data."""

    def __init__(self, write: Callable[[bytes], object], max_name_bytes: int = MAX_NAME_BYTES) -> None:
        self._write = write
        self._max_name_bytes = max_name_bytes
        self._left = 0
        self._padding = 0

    def add(self, entry: Entry) -> None:
        """Begin an entry. One with a size is to be followed by exactly so many bytes of ``data``.

        Raises:
            InvalidArgumentError: its name is longer than the archive is to hold.
        """
        if len(entry.name) > self._max_name_bytes:
            shown = shortened(entry.name)
            raise InvalidArgumentError(
                f"path {shown} has {len(entry.name)} bytes, and an archive holds at most {self._max_name_bytes}"
            )
        self._end()
        records = _records(entry)
        if records:
            body = b"".join(records)
            self._write(_pax_header(len(body)) + body + _ZEROS[: -len(body) % _BLOCK])
        name = entry.name + b"/" if entry.type is EntryType.DIRECTORY else entry.name
        self._write(_header(name, entry.type.value, entry.size, entry))
        self._left, self._padding = entry.size, -entry.size % _BLOCK

    def data(self, piece: bytes) -> None:
        """Write some of the entry's bytes."""
        self.passed_by(len(piece))
        self._write(piece)

    def passed_by(self, size: int) -> None:
        """Say that so many of the entry's bytes go, or went, where this writes to without being handed over."""
        if size > self._left:
            raise ValueError("more data than the entry's size")
        self._left -= size

    def close(self) -> None:
        """Write the end mark."""
        self._end()
        self._write(bytes(2 * _BLOCK))

    def _end(self) -> None:
        if self._left:
            raise ValueError("less data than the entry's size")
        if self._padding:
            self._write(_ZEROS[: self._padding])
            self._padding = 0


def _records(entry: Entry) -> list[bytes]:
    records: list[bytes] = []
    name = entry.name + b"/" if entry.type is EntryType.DIRECTORY else entry.name
    if len(name) > 100 or not name.isascii():
        records.append(_record(b"path", name))
    if len(entry.link) > 100 or not entry.link.isascii():
        records.append(_record(b"linkpath", entry.link))
    for key, value in ((b"uid", entry.uid), (b"gid", entry.gid)):
        if value > _MAX_OCTAL[8]:
            records.append(_record(key, b"%d" % value))
    if entry.size > _MAX_OCTAL[12]:
        records.append(_record(b"size", b"%d" % entry.size))
    seconds, fraction = divmod(entry.mtime_ns, 10**9)
    if fraction or not 0 <= seconds <= _MAX_OCTAL[12]:
        records.append(_record(b"mtime", _time(entry.mtime_ns)))
    records += [
        _record(b"SCHILY.xattr." + key.encode(errors="surrogateescape"), value)
        for key, value in sorted(entry.xattrs.items())
    ]
    return records


def _record(key: bytes, value: bytes) -> bytes:
    """``"<length> <key>=<value>\\n"``, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _time(time_ns: int) -> bytes:
    sign = b"-" if time_ns < 0 else b""
    seconds, fraction = divmod(abs(time_ns), 10**9)
    text = b"%s%d" % (sign, seconds)
    return text + (b".%09d" % fraction).rstrip(b"0") if fraction else text


@lru_cache(64)
def _pax_header(size: int) -> bytes:
    """Return the header before records of this size; most records are of a few sizes."""
    return _header(b"./PaxHeaders", b"x", size, Entry(b"", EntryType.FILE, 0o644, 0, 0, 0, 0))


def _header(name: bytes, kind: bytes, size: int, entry: Entry) -> bytes:
    uid, gid, major, minor = entry.uid, entry.gid, *entry.device
    # Names of owner and group are left out: a container has its own.
    header = _LAYOUT.pack(
        name[:100],
        b"%07o" % entry.mode,
        _octal(uid, 8) if uid else _NOBODY,
        _octal(gid, 8) if gid else _NOBODY,
        _octal(size, 12),
        _octal(entry.mtime_ns // 10**9, 12),
        b" " * 8,
        kind,
        entry.link[:100],
        b"ustar\x0000",
        _octal(major, 8) if major else _NOBODY,
        _octal(minor, 8) if minor else _NOBODY,
    )
    # The lower half of Adler-32 is one more than the sum of all bytes modulo 65,521, which no header comes to: of its
    # bytes 200 can be any, and the others are digits, spaces and zeros. In Python the sum took as long as all the rest.
    return header[:148] + b"%06o\0 " % ((zlib.adler32(header) & 0xFFFF) - 1) + header[156:]


def _octal(value: int, width: int) -> bytes:
    """A number that does not fit is 0 here and right in the pax header."""
    return b"%0*o" % (width - 1, value if 0 <= value <= _MAX_OCTAL[width] else 0)
