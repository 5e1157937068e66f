"""An image archive's files, read once from beginning to end: small ones in memory, large ones as content."""

import posixpath
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from sampan.errors import DataLossError, InvalidArgumentError
from sampan.oci.digest import Digest
from sampan.tar.entry import Entry, EntryType, Limits
from sampan.tar.reader import TarReader

HEAD_BYTES: Final = 16

# An archive of images has a few files for each image and layer; a root file system has more.
_LIMITS: Final = Limits(entries=50_000)
_SMALL_BYTES: Final = 1 << 20
_ALL_SMALL_BYTES: Final = 32 << 20

# After the end mark: tar pads to its record size, and who sends more than this sends something else.
_MAX_PADDING_BYTES: Final = 1 << 20

_MAX_LINKS: Final = 8
_BLOB: Final = re.compile(r"blobs/sha256/([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class File:
    """One file: ``content`` if it is in memory, otherwise it is in the content store by its digest."""

    digest: Digest
    size: int
    head: bytes  # its first bytes
    content: bytes | None = None


class Sink(Protocol):
    """Where large files go; called from the thread that reads."""

    def existing(self, digest: Digest, size: int) -> bytes | None:
        """Return the head of content that is here already, None if it is not."""

    def write(self, pieces: Iterable[bytes | memoryview]) -> Digest:
        """Store a file and return its digest."""


class Files:
    """The files by name. Links lead to what they point to."""

    def __init__(self) -> None:
        self._files: dict[str, File] = {}
        self._links: dict[str, str] = {}
        self._small_bytes = 0

    def read(self, reader: TarReader, sink: Sink) -> None:
        """Take in an archive; blocks.

        Raises:
            InvalidArgumentError: not a tar, cut short, or with names that lead out of it.
            DataLossError: a blob is not what its name says.
        """
        for entry in reader:
            name = _inside(entry, entry.name)
            if entry.type is EntryType.FILE and entry.parts is None:
                self._files[name] = self._take(reader, sink, entry, name)
            elif entry.type is EntryType.SYMLINK:
                self._links[name] = _inside(entry, posixpath.join(posixpath.dirname(entry.name), entry.link))
            elif entry.type is EntryType.HARD_LINK:
                self._links[name] = _inside(entry, entry.link)
            elif entry.type is not EntryType.DIRECTORY:
                raise InvalidArgumentError(f"archive entry {entry.shown} is not a file, a directory or a link")

    def _take(self, reader: TarReader, sink: Sink, entry: Entry, name: str) -> File:
        match = _BLOB.fullmatch(name)
        stated = Digest.from_hex(match[1]) if match else None
        if entry.size <= _SMALL_BYTES and self._small_bytes + entry.size <= _ALL_SMALL_BYTES:
            content = b"".join(reader.data())
            self._small_bytes += len(content)
            file = File(Digest.of(content), len(content), content[:HEAD_BYTES], content)
        else:
            head = sink.existing(stated, entry.size) if stated else None
            if head is not None and stated is not None:
                return File(stated, entry.size, head)
            file = _store(reader, sink, entry)
        if stated not in (None, file.digest):
            raise DataLossError(f"archive entry {name!r} is damaged: its digest is {file.digest}")
        return file

    def find(self, name: str) -> File | None:
        """Return the file of that name, following links."""
        for _ in range(_MAX_LINKS):
            if name in self._files:
                return self._files[name]
            if name not in self._links:
                # A link may stand for a directory on the way.
                head, slash, tail = name.rpartition("/")
                if not slash or head not in self._links:
                    return None
                name = f"{self._links[head]}/{tail}"
                continue
            name = self._links[name]
        return None

    def get(self, name: str, wanted_by: str) -> File:
        """Return the file that ``wanted_by`` names.

        Raises:
            InvalidArgumentError: it is not in the archive, or its name leads out of it.
        """
        plain = posixpath.normpath(name)
        if plain.startswith(("/", "..")):
            raise InvalidArgumentError(f"{wanted_by} names {name[:200]!r}, which is not inside the archive")
        file = self.find(plain)
        if file is None:
            raise InvalidArgumentError(f"{wanted_by} names {name[:200]!r}, which is not in the archive")
        return file

    def names(self) -> Iterable[str]:
        """All names, links too."""
        return [*self._files, *self._links]


def read_archive(read: Callable[[int], bytes | memoryview], sink: Sink) -> Files:
    """Read a whole archive and what pads it; blocks. Raises as ``Files.read``."""

    class _Source:
        def read(self, size: int, /) -> bytes | memoryview:
            return read(size)

    files = Files()
    try:
        files.read(TarReader(_Source(), _LIMITS), sink)
    except InvalidArgumentError as error:
        if files.names():
            raise
        raise InvalidArgumentError(f"not an archive of images: {error}") from error
    padding = 0
    while padding < _MAX_PADDING_BYTES and (piece := read(_MAX_PADDING_BYTES)):
        padding += len(piece)
    return files


def _store(reader: TarReader, sink: Sink, entry: Entry) -> File:
    head = b""

    def pieces() -> Iterable[bytes | memoryview]:
        nonlocal head
        for piece in reader.data():
            if len(head) < HEAD_BYTES:
                head += bytes(piece[: HEAD_BYTES - len(head)])
            yield piece

    digest = sink.write(pieces())
    return File(digest, entry.size, head)


def _inside(entry: Entry, name: bytes) -> str:
    """Return a name relative to the archive's root; one that leads out of it is an error."""
    text = name.decode(errors="backslashreplace")
    plain = posixpath.normpath(text)
    if plain.startswith(("/", "../")) or plain == "..":
        raise InvalidArgumentError(f"archive entry {entry.shown} leads out of the archive")
    return plain
