"""What is known of a client's directory, beside it, so that a file that has not changed is not read again.

``<directory>.index`` has for each file the digest of its content, and what stat(2) said when it was read. A file counts
as unchanged if its inode, size, times, mode and owner are: a change of content or attributes changes its ctime.

``<directory>.stamp`` has a text that is another one after each change of anything in the directory, and is not there
while it is being changed: whoever remembers something of the directory as a whole remembers the stamp.
"""

import hashlib
import marshal
import os
import secrets
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

_STATUS: Final = struct.Struct("<qqqIII")  # size, mtime, ctime, mode, owner, group
_DIGEST_BYTES: Final = 32
_MAGIC: Final = b"sampan index 1\n"

# Digests a regular file's bytes and attributes: the one of a name in an open directory.
Content = Callable[[int, str, os.stat_result], bytes]


class Index:
    """Digests of one directory's regular files, by inode."""

    def __init__(self, path: Path, known: dict[int, bytes]) -> None:
        """``path`` is where it is kept; ``known`` has what stat(2) said, and the digest after it."""
        self._path = path
        self._known = known
        self._seen: dict[int, bytes] = {}
        self._fresh = False

    @classmethod
    def of(cls, directory: Path) -> Self:
        """Read a directory's index; what is damaged is as good as none."""
        path = directory.with_name(f"{directory.name}.index")
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return cls(path, {})
        start = len(_MAGIC) + _DIGEST_BYTES
        if not data.startswith(_MAGIC) or hashlib.sha256(data[start:]).digest() != data[len(_MAGIC) : start]:
            return cls(path, {})
        try:
            return cls(path, marshal.loads(data[start:]))  # noqa: S302  # written here, and just verified
        except (ValueError, EOFError, TypeError):  # by another Python
            return cls(path, {})

    def reader(self, content: Content) -> Content:
        """Return what digests a file's content with ``content``, unless it is known."""
        known, seen, pack = self._known, self._seen, _STATUS.pack

        def read(parent: int, name: str, status: os.stat_result) -> bytes:
            said = pack(
                status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode, status.st_uid, status.st_gid
            )
            entry = known.get(status.st_ino)
            if entry is None or not entry.startswith(said):
                self._fresh = True
                entry = said + content(parent, name, status)
            seen[status.st_ino] = entry
            return entry[-_DIGEST_BYTES:]

        return read

    def save(self, *, whole: bool) -> None:
        """Keep what is known now; ``whole``: files that were not asked for are not there any more."""
        if not self._fresh and not (whole and len(self._seen) != len(self._known)):
            return
        data = marshal.dumps(self._seen if whole else self._known | self._seen)
        partial = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            partial.write_bytes(_MAGIC + hashlib.sha256(data).digest() + data)
            partial.rename(self._path)
        finally:
            partial.unlink(missing_ok=True)


def read_stamp(directory: Path) -> str:
    """Return the stamp of a directory, empty if there is none."""
    try:
        return _stamp(directory).read_text()
    except FileNotFoundError:
        return ""


def take_stamp(directory: Path) -> str:
    """Take the stamp away, and return it: the directory is about to be changed."""
    stamp = read_stamp(directory)
    _stamp(directory).unlink(missing_ok=True)
    return stamp


def give_stamp(directory: Path, stamp: str = "") -> None:
    """Put back the stamp of a directory that has not changed, or a new one."""
    _stamp(directory).write_text(stamp or secrets.token_hex(16))


def _stamp(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.stamp")
