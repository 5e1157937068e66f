"""A reader for tar streams of unknown origin: ustar, old V7, GNU long names and sparse files, and pax.

It reads forward only and touches nothing but its source. Whatever it does not understand is an error, never a guess.

References: POSIX.1-2017 ``pax``, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Basic Tar
Format" and "Storing Sparse Files".
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from sampan.errors import InvalidArgumentError
from sampan.tar import pax, sparse
from sampan.tar.entry import MAX_ID, Entry, EntryType, Limits
from sampan.tar.sparse import number, text

BLOCK: Final = 512

_ZEROS: Final = bytes(BLOCK)
_USTAR: Final = b"ustar\x0000"
_GNU: Final = b"ustar  \x00"
_TYPES: Final = {kind.value: kind for kind in EntryType} | {b"\0": EntryType.FILE, b"7": EntryType.FILE}
_MAX_PIECE: Final = 1 << 20
_ADLER: Final = 65521  # Adler-32 adds modulo this


class Source(Protocol):
    """Where the archive comes from."""

    def read(self, size: int, /) -> bytes | memoryview:
        """Return 1 to ``size`` bytes, or none at the end."""


@dataclass(slots=True)
class _Overrides:
    """What extension headers say about the next entry."""

    records: dict[str, bytes]
    name: bytes | None = None
    link: bytes | None = None
    size: int = 0  # of all its headers


class TarReader:
    """Iterate over the entries; ``data`` reads the current one's bytes, and what is left unread is skipped."""

    def __init__(self, source: Source, limits: Limits | None = None) -> None:
        self._source = source
        self._limits = limits or Limits()
        self._left = 0  # stored bytes of the current entry not yet read
        self._padding = 0
        self._entries = 0
        self._total = 0

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries in the archive's order.

        Raises:
            InvalidArgumentError: the archive is malformed, cut short or beyond a limit.
        """
        while (entry := self._next()) is not None:
            yield entry

    def data(self) -> Iterator[bytes | memoryview]:
        """Yield the current entry's stored bytes in pieces; for a sparse file those of its parts, end to end."""
        while self._left:
            piece = self._source.read(min(self._left, _MAX_PIECE))
            if not piece:
                raise InvalidArgumentError("tar archive ends in the middle of a file")
            self._left -= len(piece)
            yield piece

    def drain(self) -> None:
        """Read the source to its end: a digest covers what follows the last entry as well."""
        while self._source.read(_MAX_PIECE):
            pass

    def _next(self) -> Entry | None:
        overrides = _Overrides({})
        while True:
            self._skip()
            header = self._header()
            if header is None:
                if overrides.records or overrides.name is not None or overrides.link is not None:
                    raise InvalidArgumentError("tar archive ends after an extension header")
                return None
            kind = header[156:157]
            if kind in (b"x", b"g", b"L", b"K"):
                body = self._body(header, overrides)
                if kind == b"x":
                    overrides.records |= pax.parse(body)
                elif kind == b"L":
                    overrides.name = body.rstrip(b"\0")
                elif kind == b"K":
                    overrides.link = body.rstrip(b"\0")
                # Docker and containerd skip global headers; git writes its commit there and nothing else does.
                continue
            if kind == b"V":  # a volume's label is no file
                self._left, self._padding = 0, 0
                continue
            return self._entry(header, overrides)

    def _exact(self, size: int, what: str, *, optional: bool = False) -> bytes:
        piece = self._source.read(size)
        # The docker client leaves out what fills the last file's block, and the end mark, where it adds a Dockerfile.
        if len(piece) == size or (optional and not piece):
            return bytes(piece)
        buffer = bytearray(piece)
        while len(buffer) < size:
            piece = self._source.read(size - len(buffer))
            if not piece:
                raise InvalidArgumentError(f"tar archive ends in the middle of {what}")
            buffer += piece
        return bytes(buffer)

    def _skip(self) -> None:
        for _ in self.data():
            pass
        if self._padding:
            self._exact(self._padding, "a block", optional=True)
            self._padding = 0

    def _header(self) -> bytes | None:
        first = self._source.read(BLOCK)
        if not first:
            return None  # no end mark: GNU tar warns, Docker does not mind
        header = bytes(first)
        if len(header) < BLOCK:
            header += self._exact(BLOCK - len(header), "a header")
        if header == _ZEROS:
            return None
        check_header(header)
        return header

    def _body(self, header: bytes, overrides: _Overrides) -> bytes:
        size = number(header[124:136], "size")
        if size < 0 or overrides.size + size > self._limits.header_bytes:
            raise InvalidArgumentError(
                f"tar archive has extension headers of {overrides.size + size} bytes before one entry, the most is"
                f" {self._limits.header_bytes}"
            )
        overrides.size += size + BLOCK
        self._padding = -size % BLOCK
        return self._exact(size, "an extension header")

    def _entry(self, header: bytes, overrides: _Overrides) -> Entry:
        records = overrides.records
        name, link = self._names(header, overrides)
        kind = _TYPES.get(header[156:157])
        parts: tuple[tuple[int, int], ...] | None = None
        stored = pax.integer(records, "size", number(header[124:136], "size"))
        if kind in (EntryType.FILE, None) and name.endswith(b"/"):
            kind = EntryType.DIRECTORY  # the only way that V7 had to say so
        if header[156:157] == b"S":
            kind = EntryType.FILE
        if kind is None:
            raise InvalidArgumentError(f"tar entry {name[:120]!r} has the unknown type {header[156:157]!r}")
        if kind is not EntryType.FILE:
            # Links carry the size of what they point to, directories that of a quota; no data follows either.
            stored = 0
        if stored < 0:
            raise InvalidArgumentError(f"tar entry {name[:120]!r} has the size {stored}")
        self._left, self._padding = stored, -stored % BLOCK
        size = stored
        if kind is EntryType.FILE:
            size, parts = self._sparse(header, records, stored)
        name = name.rstrip(b"/") or (b"/" if name else b"")
        self._check(name, link, size)
        return Entry(
            name=name,
            type=kind,
            mode=number(header[100:108], "mode") & 0o7777,
            uid=_identity(pax.integer(records, "uid", number(header[108:116], "uid")), name),
            gid=_identity(pax.integer(records, "gid", number(header[116:124], "gid")), name),
            size=size,
            mtime_ns=pax.nanoseconds(records, "mtime", number(header[136:148], "mtime")),
            link=link,
            device=_device(header) if kind in (EntryType.CHAR_DEVICE, EntryType.BLOCK_DEVICE) else (0, 0),
            xattrs=pax.xattrs(records),
            parts=parts,
        )

    def _names(self, header: bytes, overrides: _Overrides) -> tuple[bytes, bytes]:
        name, link = text(header[0:100]), text(header[157:257])
        # GNU's older format keeps times where ustar has the prefix.
        if header[257:265] != _GNU and header[257:262] == b"ustar" and (prefix := text(header[345:500])):
            name = prefix + b"/" + name
        if overrides.name is not None:
            name = overrides.name
        if overrides.link is not None:
            link = overrides.link
        name = overrides.records.get("GNU.sparse.name", overrides.records.get("path", name))
        return name, overrides.records.get("linkpath", link)

    def _sparse(
        self, header: bytes, records: dict[str, bytes], stored: int
    ) -> tuple[int, tuple[tuple[int, int], ...] | None]:
        def block() -> bytes:
            if self._left < BLOCK:
                raise InvalidArgumentError("tar archive has a sparse map that is cut short")
            self._left -= BLOCK
            return self._exact(BLOCK, "a sparse map")

        most = self._limits.sparse_parts
        if header[156:157] == b"S":
            found = sparse.from_gnu_header(header, lambda: self._exact(BLOCK, "a sparse map"), most)
        elif "GNU.sparse.major" in records:
            found = sparse.from_pax_1_0(records, block, most)
        elif "GNU.sparse.map" in records or "GNU.sparse.size" in records:
            found = sparse.from_pax_0(records, most)
        else:
            return stored, None
        sparse.check(found, self._left)
        return found.size, found.parts

    def _check(self, name: bytes, link: bytes, size: int) -> None:
        limits = self._limits
        self._entries += 1
        if self._entries > limits.entries:
            raise InvalidArgumentError(f"tar archive has more than {limits.entries} entries")
        self._total += size
        if self._total > limits.total_bytes:
            raise InvalidArgumentError(
                f"tar archive holds more than {limits.total_bytes} bytes of files, at entry {name[:120]!r}"
            )
        for what, value in (("name", name), ("link target", link)):
            if len(value) > limits.name_bytes:
                raise InvalidArgumentError(
                    f"tar entry {name[:120]!r}… has a {what} of {len(value)} bytes and "
                    f"{value.count(b'/') + 1} components, the most is {limits.name_bytes} bytes"
                )
            if b"\0" in value:
                raise InvalidArgumentError(f"tar entry {name[:120]!r} has a NUL byte in its {what}")
        if len(name) > limits.component_bytes and max(map(len, name.split(b"/"))) > limits.component_bytes:
            raise InvalidArgumentError(
                f"tar entry {name[:120]!r} has a component longer than {limits.component_bytes} bytes"
            )


def check_header(header: bytes) -> None:
    """Raise InvalidArgumentError unless a block of ``BLOCK`` bytes has the checksum of a header."""
    field = header[148:156]
    try:
        stated = number(field, "checksum")
    except InvalidArgumentError:
        stated = -1
    # Adler-32 has the sum of all bytes in its lower half, and takes a twentieth of the time that adding them does.
    if zlib.adler32(header) & 0xFFFF != (stated + sum(field) - 8 * 32 + 1) % _ADLER:
        _check_signed(header, stated)


def _check_signed(header: bytes, stated: int) -> None:
    """Raise InvalidArgumentError unless the checksum is right for bytes taken as signed, as some old writers did."""
    others = header[:148] + header[156:]
    if stated != sum(others) + 8 * 32 - 256 * sum(byte > 127 for byte in others):
        raise InvalidArgumentError("tar archive has a header whose checksum is wrong: not a tar archive, or damaged")


def _identity(value: int, name: bytes) -> int:
    if not 0 <= value <= MAX_ID:
        raise InvalidArgumentError(f"tar entry {name[:120]!r} has the owner {value}, the most is {MAX_ID}")
    return value


def _device(header: bytes) -> tuple[int, int]:
    major, minor = number(header[329:337], "device"), number(header[337:345], "device")
    if not 0 <= major < 1 << 12 or not 0 <= minor < 1 << 20:
        raise InvalidArgumentError(f"tar archive has the device {major}:{minor}, which Linux cannot name")
    return major, minor
