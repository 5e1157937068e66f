"""A digest of exactly the files that a step reads: names, types, modes, owners, link targets, attributes and bytes.

No times: two checkouts of one commit are the same files. What is digested, in order: a record per file, each field of
which says how long it is, and a mark where a directory ends.
"""

import hashlib
import os
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from buildd.files.index import Content, Index
from buildd.files.root import Root, clean, split
from buildd.files.selecting import Patterns, expand, has_wildcards
from buildd.files.walk import Xattrs, proc_path, read_xattrs, walk
from buildd.protocol import Selection
from sampan.errors import NotFoundError
from sampan.oci.digest import Digest

_PIECE: Final = 1 << 20
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_HEAD: Final = struct.Struct("<IIIQI")  # mode, owner, group, device, length of the name
_END: Final = b"\0" * _HEAD.size  # no file has the mode 0
_LENGTH: Final = struct.Struct("<I")

# Attributes that a copy has only by chance.
_SYSTEM: Final = ("security.", "system.")
_CAPABILITY: Final = "security.capability"


def checksum(root: Root, selection: Selection, index: Index | None = None) -> Digest:
    """Digest what is selected. An ``index`` spares reading files that it knows.

    Raises:
        NotFoundError: there is no such path; a wildcard may stand for nothing.
        InvalidArgumentError: a path, wildcard or pattern that cannot be.
    """
    patterns = Patterns(selection.include_patterns, selection.exclude_patterns)
    content: Content = _content if index is None else index.reader(_content)
    digest = _TreeDigest(content)
    if selection.wildcard and any(map(has_wildcards, clean(selection.path).split("/"))):
        for path in expand(root, selection.path, follow=selection.follow_symlink):
            digest.add(root, path, patterns, follow=selection.follow_symlink, named=True)
    else:
        digest.add(root, selection.path, patterns, follow=selection.follow_symlink, named=False)
    return digest.finish()


def digest_files(root: Root) -> Mapping[str, Digest]:
    """Digest the bytes of each regular file; paths have no slash at their beginning, and U+FFFD for what is no text."""
    visitor = _FileDigests()
    fd = root.directory("")
    try:
        walk(fd, visitor, Patterns())
    finally:
        os.close(fd)
    return visitor.found


class _FileDigests:
    """Satisfies ``walk.Visitor``."""

    def __init__(self) -> None:
        self.found: dict[str, Digest] = {}
        self._above: list[str] = []

    def enter(self, name: str, status: os.stat_result, xattrs: Xattrs) -> None:
        del status, xattrs  # only what is in a directory counts
        self._above.append(name)

    def leave(self) -> None:
        self._above.pop()

    def file(self, parent: int, name: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            return
        with os.fdopen(os.open(name, _READ, dir_fd=parent), "rb", buffering=0) as file:
            found = hashlib.file_digest(file, "sha256")
        path = "/".join((*self._above, name)).encode(errors="surrogateescape").decode(errors="replace")
        self.found[path] = Digest(f"sha256:{found.hexdigest()}")


def checksum_of_directory(path: Path, selection: Selection) -> Digest:
    """As ``checksum``, of a directory that keeps an index beside it."""
    index = Index.of(path)
    with Root.open(path) as root:
        found = checksum(root, selection, index)
    index.save(whole=clean(selection.path) == "/" and not selection.include_patterns and not selection.exclude_patterns)
    return found


class _TreeDigest:
    """Satisfies ``walk.Visitor``."""

    def __init__(self, content: Content) -> None:
        self._hash = hashlib.sha256()
        self._content = content

    def add(self, root: Root, path: str, patterns: Patterns, *, follow: bool, named: bool) -> None:
        real = root.real(path, follow=follow)
        status = root.stat(real)
        if status is None:
            raise NotFoundError(f'"{clean(path)}": not found')
        parent, name = split(real)
        shown = name if named else ""
        if stat.S_ISDIR(status.st_mode):
            fd = root.directory(real)
            try:
                self.enter(shown, status, read_xattrs(fd))
                walk(fd, self, patterns)
                self.leave()
            finally:
                os.close(fd)
            return
        fd = root.directory(parent)
        try:
            self._file(fd, name, status, shown)
        finally:
            os.close(fd)

    def finish(self) -> Digest:
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def enter(self, name: str, status: os.stat_result, xattrs: Xattrs) -> None:
        shown = os.fsencode(name)
        self._hash.update(
            _HEAD.pack(status.st_mode, status.st_uid, status.st_gid, 0, len(shown)) + shown + _pack(xattrs)
        )

    def leave(self) -> None:
        self._hash.update(_END)

    def file(self, parent: int, name: str, status: os.stat_result) -> None:
        self._file(parent, name, status, name)

    def _file(self, parent: int, name: str, status: os.stat_result, shown_name: str) -> None:
        shown = os.fsencode(shown_name)
        mode = status.st_mode
        kind = stat.S_IFMT(mode)
        if kind == stat.S_IFREG:
            rest = self._content(parent, name, status)
        elif kind == stat.S_IFLNK:
            mode = kind  # file systems do not agree on the rest
            target = os.fsencode(os.readlink(name, dir_fd=parent))
            rest = _LENGTH.pack(len(target)) + target + _pack(read_xattrs(proc_path(parent, name)))
        else:
            rest = _pack(read_xattrs(proc_path(parent, name)))
        device = status.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
        self._hash.update(_HEAD.pack(mode, status.st_uid, status.st_gid, device, len(shown)) + shown + rest)


def _content(parent: int, name: str, status: os.stat_result) -> bytes:
    fd = os.open(name, _READ, dir_fd=parent)
    try:
        found = hashlib.sha256(_pack(read_xattrs(fd)))
        read = os.read
        piece = read(fd, min(_PIECE, status.st_size + 1))
        while piece:
            found.update(piece)
            piece = read(fd, _PIECE)
    finally:
        os.close(fd)
    return found.digest()


def _pack(xattrs: Xattrs) -> bytes:
    if not xattrs:
        return _LENGTH.pack(0)
    kept = sorted((name, value) for name, value in xattrs.items() if _counts(name))
    packed = [_LENGTH.pack(len(kept))]
    for name, value in kept:
        raw = os.fsencode(name)
        packed += [_LENGTH.pack(len(raw)), raw, _LENGTH.pack(len(value)), value]
    return b"".join(packed)


def _counts(name: str) -> bool:
    return name == _CAPABILITY or not name.startswith(_SYSTEM)
