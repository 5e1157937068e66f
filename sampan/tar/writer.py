"""Write a tar archive in pax format: the same entries always give the same bytes.

A pax header is written only for what ustar cannot say: long names, large numbers, fractions of a second, attributes.
"""

from collections.abc import Callable
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.sys.trees import shortened
from sampan.tar.entry import MAX_NAME_BYTES, Entry, EntryType

_BLOCK: Final = 512
_MAX_OCTAL: Final = {8: 8**7 - 1, 12: 8**11 - 1}


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
            self._write(_header(b"./PaxHeaders", b"x", len(body), Entry(b"", EntryType.FILE, 0o644, 0, 0, 0, 0)))
            self._write(body + bytes(-len(body) % _BLOCK))
        name = entry.name + b"/" if entry.type is EntryType.DIRECTORY else entry.name
        self._write(_header(name, entry.type.value, entry.size, entry))
        self._left, self._padding = entry.size, -entry.size % _BLOCK

    def data(self, piece: bytes) -> None:
        """Write some of the entry's bytes."""
        if len(piece) > self._left:
            raise ValueError("more data than the entry's size")
        self._left -= len(piece)
        self._write(piece)

    def close(self) -> None:
        """Write the end mark."""
        self._end()
        self._write(bytes(2 * _BLOCK))

    def _end(self) -> None:
        if self._left:
            raise ValueError("less data than the entry's size")
        if self._padding:
            self._write(bytes(self._padding))
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


def _header(name: bytes, kind: bytes, size: int, entry: Entry) -> bytes:
    seconds = entry.mtime_ns // 10**9
    fields = (
        name[:100].ljust(100, b"\0"),
        b"%07o\0" % entry.mode,
        _octal(entry.uid, 8),
        _octal(entry.gid, 8),
        _octal(size, 12),
        _octal(seconds, 12),
        b" " * 8,
        kind,
        entry.link[:100].ljust(100, b"\0"),
        b"ustar\x0000",
        bytes(64),  # names of owner and group: a container has its own
        _octal(entry.device[0], 8),
        _octal(entry.device[1], 8),
        bytes(155 + 12),
    )
    header = b"".join(fields)
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


def _octal(value: int, width: int) -> bytes:
    """A number that does not fit is 0 here and right in the pax header."""
    return b"%0*o\0" % (width - 1, value if 0 <= value <= _MAX_OCTAL[width] else 0)
