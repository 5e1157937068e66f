"""One entry of a tree as a sender tells it: its name, which is checked, and its mode, which is Go's.

Reference: tonistiigi/fsutil, ``types/stat.proto``; Go's io/fs, ``FileMode``.
"""

import stat
from collections.abc import Mapping
from typing import Final, NamedTuple

from sampan.errors import InvalidArgumentError
from sampan.sys.trees import shortened

MAX_PATH_BYTES: Final = 4095  # PATH_MAX, of which one is NUL

_GO_DIRECTORY: Final = 1 << 31
_GO_SYMLINK: Final = 1 << 27
_GO_DEVICE: Final = 1 << 26
_GO_FIFO: Final = 1 << 25
_GO_SOCKET: Final = 1 << 24
_GO_SETUID: Final = 1 << 23
_GO_SETGID: Final = 1 << 22
_GO_CHARACTER_DEVICE: Final = 1 << 21
_GO_STICKY: Final = 1 << 20
_GO_IRREGULAR: Final = 1 << 19
_GO_TYPE: Final = (
    _GO_DIRECTORY | _GO_SYMLINK | _GO_DEVICE | _GO_FIFO | _GO_SOCKET | _GO_CHARACTER_DEVICE | _GO_IRREGULAR
)

_TYPES: Final = {
    0: stat.S_IFREG,
    _GO_DIRECTORY: stat.S_IFDIR,
    _GO_SYMLINK: stat.S_IFLNK,
    _GO_FIFO: stat.S_IFIFO,
    _GO_DEVICE: stat.S_IFBLK,
    _GO_DEVICE | _GO_CHARACTER_DEVICE: stat.S_IFCHR,
}
_GO_TYPES: Final = {kind: bits for bits, kind in _TYPES.items()}
_SPECIAL: Final = ((_GO_SETUID, stat.S_ISUID), (_GO_SETGID, stat.S_ISGID), (_GO_STICKY, stat.S_ISVTX))

# Most of a tree has a few modes.
_known: dict[int, int] = {}
_KNOWN: Final = 1024


class Entry(NamedTuple):
    """What a sender says of a file. A tuple, for there is one for each."""

    path: bytes  # relative to the tree
    mode: int  # st_mode
    size: int = 0  # of a hard link 0
    mtime_ns: int = 0
    link: bytes = b""  # what a symbolic link says; of another file, the path that it is a hard link to
    major: int = 0
    minor: int = 0
    xattrs: Mapping[str, bytes] | None = None
    uid: int = 0
    gid: int = 0


def mode_from_go(mode: int) -> int:
    """Return st_mode. Raises InvalidArgumentError for a type that no file has."""
    known = _known.get(mode)
    if known is not None:
        return known
    kind = _TYPES.get(mode & _GO_TYPE)
    if kind is None:
        raise InvalidArgumentError(f"a file of an unknown type: mode {mode:#x}")
    result = kind | mode & 0o777
    for go, bit in _SPECIAL:
        if mode & go:
            result |= bit
    if len(_known) < _KNOWN:
        _known[mode] = result
    return result


def mode_to_go(mode: int) -> int:
    """Return Go's mode; a socket is told as a regular file, which it becomes where it is copied to."""
    result = _GO_TYPES.get(stat.S_IFMT(mode), 0) | mode & 0o777
    for go, bit in _SPECIAL:
        if mode & bit:
            result |= go
    return result


def split(path: bytes) -> tuple[bytes, bytes]:
    """Return the directory, empty for the root, and the name in it.

    The directory is not looked at: whoever compares it with one whose parts went through here knows that it is clean.

    Raises:
        InvalidArgumentError: the name is none, or leads elsewhere.
    """
    parent, _, name = path.rpartition(b"/")
    if name in (b"", b".", b"..") or b"\0" in name or len(path) > MAX_PATH_BYTES or path[:1] == b"/":
        raise InvalidArgumentError(f"the sender of files names one {shortened(path)!r}, which no directory can hold")
    return parent, name


def check_path(path: bytes) -> tuple[bytes, bytes]:
    """As ``split``, and look at every part. Raises InvalidArgumentError."""
    result = split(path)
    for name in path.split(b"/"):
        split(name)
    return result
