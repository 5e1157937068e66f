"""What differs between two stacks of directories: for ``docker diff``, and for making a layer of it.

Directories that come from the same pieces are the same and are not looked into, so the work is in proportion to what
the nearest piece changes, and not to the tree.
"""

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from snapshotter.diff.merged import Found, MergedDirectory
from snapshotter.model import Change, ChangeKind, Piece

_COMPARED_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Difference:
    """A path that differs; ``found`` is what the right side has there, good until the next difference."""

    path: bytes
    kind: ChangeKind
    found: Found | None  # None for DELETED, and for the root itself
    inside: bool = False  # DELETED is not ``path``, a directory, but all that the left side has in it


class _Frame:
    """A directory being compared."""

    def __init__(
        self, path: bytes, found: Found | None, left: MergedDirectory | None, right: MergedDirectory, *, told: bool
    ) -> None:
        self.path = path
        self.found = found
        self.left = left
        self.right = right
        self.told = told  # whether the directory itself has been yielded
        self.before = left.entries() if left is not None else {}
        self.after = right.entries()
        self.names = sorted(self.before.keys() | self.after.keys(), reverse=True)

    def close(self) -> None:
        self.right.close()
        if self.left is not None:
            self.left.close()


def compare(left: Sequence[Piece], right: Sequence[Piece], *, opaque: bool = False) -> Iterator[Difference]:
    """Yield what makes ``left`` into ``right``, both nearest piece first; no ``left`` means nothing at all.

    A directory comes before what is in it, and is MODIFIED if anything in it differs. A directory that is gone is one
    difference, and one that is new comes with all that is in it. Times of files count, those of directories do not.
    With ``opaque`` a directory that was removed and made again is told as that: DELETED ``inside``, then all of it.
    """
    before = MergedDirectory.of(left) if left else None
    stack = [_Frame(b"", None, before, MergedDirectory.of(right), told=False)]
    try:
        while stack:
            frame = stack[-1]
            if frame.names:
                yield from _compare_entry(stack, frame, frame.names.pop(), opaque=opaque)
            else:
                stack.pop().close()
    finally:
        for frame in stack:
            frame.close()


def _compare_entry(stack: list[_Frame], frame: _Frame, name: bytes, *, opaque: bool) -> Iterator[Difference]:
    path = frame.path + b"/" + name if frame.path else name
    before, after = frame.before.get(name), frame.after.get(name)
    if after is None:
        yield from _tell(stack)
        yield Difference(path, ChangeKind.DELETED, None)
        return
    both_directories = before is not None and before.is_directory and after.is_directory
    changed = before is None or not _same(before, after)
    if changed:
        yield from _tell(stack)
        yield Difference(path, ChangeKind.ADDED if before is None else ChangeKind.MODIFIED, after)
    if not after.is_directory:
        return
    try:
        right = frame.right.child(after)
    except (FileNotFoundError, NotADirectoryError):  # removed meanwhile
        return
    left = frame.left.child(before) if both_directories and before is not None and frame.left is not None else None
    if left is not None and left.identity == right.identity:
        left.close()
        right.close()
        return
    if left is not None and opaque and right.opaque:
        left.close()
        left = None
        if not changed:
            yield from _tell(stack)
            yield Difference(path, ChangeKind.MODIFIED, after)
            changed = True
        yield Difference(path, ChangeKind.DELETED, None, inside=True)
    stack.append(_Frame(path, after, left, right, told=changed))


def _tell(stack: list[_Frame]) -> Iterator[Difference]:
    """Yield the directories that are on the way to a difference."""
    for frame in stack:
        if not frame.told:
            frame.told = True
            if frame.path:
                yield Difference(frame.path, ChangeKind.MODIFIED, frame.found)


def _same(before: Found, after: Found) -> bool:
    if before.identity == after.identity:
        return True
    old, new = before.stat, after.stat
    if (old.st_mode, old.st_uid, old.st_gid, old.st_rdev) != (new.st_mode, new.st_uid, new.st_gid, new.st_rdev):
        return False
    if before.xattrs() != after.xattrs():
        return False
    if stat.S_ISDIR(new.st_mode):
        return True
    if stat.S_ISLNK(new.st_mode):
        return before.link() == after.link()
    if (old.st_size, old.st_mtime_ns) != (new.st_size, new.st_mtime_ns):
        return False
    # A time without a fraction may come from an archive, and files of a build can share it and their size.
    return not stat.S_ISREG(new.st_mode) or old.st_mtime_ns % 10**9 != 0 or _same_content(before, after)


def _same_content(before: Found, after: Found) -> bool:
    with open(before.open(), "rb", buffering=0) as old, open(after.open(), "rb", buffering=0) as new:
        while True:
            piece = old.read(_COMPARED_BYTES)
            if piece != new.read(len(piece) or 1):
                return False
            if not piece:
                return True


def changes_between(left: Sequence[Piece], right: Sequence[Piece]) -> list[Change]:
    """Return all differences, sorted by path."""
    return sorted(
        (Change(difference.path, difference.kind) for difference in compare(left, right)),
        key=lambda change: change.path,
    )
