"""A tar that is written in one place and sent in pieces from another."""

from sampan.tar.entry import Entry, EntryType
from sampan.tar.writer import TarWriter


class TarBuffer:
    """What of an archive has been written and not taken yet. Its entries belong to root and have no time."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._writer = TarWriter(self._bytes.extend)

    def take(self) -> bytes:
        """Return what has been written since the last time."""
        taken = bytes(self._bytes)
        self._bytes.clear()
        return taken

    def begin(self, name: str, size: int) -> None:
        """Begin a file; exactly ``size`` bytes of ``data`` are to follow. Raises as ``TarWriter.add``."""
        self._writer.add(Entry(name.encode(), EntryType.FILE, 0o644, 0, 0, size, 0))

    def data(self, piece: bytes) -> None:
        """Write some of the file's bytes."""
        self._writer.data(piece)

    def file(self, name: str, content: bytes) -> None:
        """Write a whole file."""
        self.begin(name, len(content))
        self.data(content)

    def directory(self, name: str) -> None:
        """Write a directory."""
        self._writer.add(Entry(name.encode(), EntryType.DIRECTORY, 0o755, 0, 0, 0, 0))

    def close(self) -> None:
        """Write the end mark."""
        self._writer.close()
