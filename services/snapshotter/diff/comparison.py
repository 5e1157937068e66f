"""What differs between two stacks of directories: for ``docker diff``, and for making a layer of it.

Directories that come from the same pieces are the same and are not looked into, so the work is in proportion to what
the nearest piece changes, and not to the tree.
"""

import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.resource.snapshot import Change, ChangeKind
from sampan.sys.trees import AbandonedError, Stop, never, shortened
from sampan.tar.entry import MAX_NAME_BYTES
from snapshotter.diff.merged import Found, MergedTree
from snapshotter.model import Piece

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
        self, path: bytes, found: Found | None, left: MergedTree | None, right: MergedTree, *, told: bool
    ) -> None:
        self.path = path
        self.found = found
        self.left = left  # None: it has no such directory
        self.told = told  # whether the directory itself has been yielded
        self.before = left.entries() if left is not None else {}
        self.after = right.entries()
        self.names = sorted(self.before.keys() | self.after.keys(), reverse=True)


def compare(
    left: Sequence[Piece],
    right: Sequence[Piece],
    *,
    opaque: bool = False,
    stop: Stop = never,
    max_path_bytes: int = MAX_NAME_BYTES,
) -> Iterator[Difference]:
    """Yield what makes ``left`` into ``right``, both nearest piece first; no ``left`` means nothing at all.

    A directory comes before what is in it, and is MODIFIED if anything in it differs. A directory that is gone is one
    difference, and one that is new comes with all that is in it. Times of files count, those of directories do not.
    With ``opaque`` a directory that was removed and made again is told as that: DELETED ``inside``, then all of it.

    Raises:
        InvalidArgumentError: a path is longer than ``max_path_bytes``, which is by itself what any layer may hold.
        AbandonedError: ``stop`` said so.
    """
    with ExitStack() as stack:
        before = stack.enter_context(MergedTree(left)) if left else None
        yield from _Comparison(before, stack.enter_context(MergedTree(right)), opaque, stop, max_path_bytes).run()


class _Comparison:
    def __init__(
        self, left: MergedTree | None, right: MergedTree, opaque: bool, stop: Stop, max_path_bytes: int
    ) -> None:
        self._right = right
        self._opaque = opaque
        self._stop = stop
        self._max_path_bytes = max_path_bytes
        self._frames = [_Frame(b"", None, left, right, told=False)]

    def run(self) -> Iterator[Difference]:
        while True:
            frame = self._frames[-1]
            if frame.names:
                if self._stop():
                    raise AbandonedError
                yield from self._entry(frame, frame.names.pop())
            elif len(self._frames) == 1:
                return
            else:
                self._frames.pop()
                self._right.leave()
                if frame.left is not None:
                    frame.left.leave()

    def _entry(self, frame: _Frame, name: bytes) -> Iterator[Difference]:
        path = frame.path + b"/" + name if frame.path else name
        if len(path) > self._max_path_bytes:
            raise InvalidArgumentError(
                f"path {shortened(path)} has {len(path)} bytes, "
                f"and an archive or layer holds at most {self._max_path_bytes}"
            )
        listed = name in frame.after
        before = frame.left.find(name, frame.before.pop(name, None)) if frame.left is not None else None
        after = self._right.find(name, frame.after.pop(name, None))
        if after is None:
            if before is not None or not listed:
                yield from _tell(self._frames)
                yield Difference(path, ChangeKind.DELETED, None)
            return
        changed = before is None or not _same(before, after)
        if changed:
            yield from _tell(self._frames)
            yield Difference(path, ChangeKind.ADDED if before is None else ChangeKind.MODIFIED, after)
        if after.is_directory:
            yield from self._directory(frame, path, before, after, changed=changed)

    def _directory(
        self, frame: _Frame, path: bytes, before: Found | None, after: Found, *, changed: bool
    ) -> Iterator[Difference]:
        if not changed:
            after = after.kept()  # it may be told later, because of what is inside
        try:
            self._right.enter(after)
        except (FileNotFoundError, NotADirectoryError):  # removed meanwhile
            return
        left = frame.left if before is not None and before.is_directory else None
        if left is not None and before is not None:
            try:
                left.enter(before)
            except (FileNotFoundError, NotADirectoryError):
                left = None
        if left is not None and left.identity == self._right.identity:
            left.leave()
            self._right.leave()
            return
        if left is not None and self._opaque and self._right.opaque:
            left.leave()
            left = None
            if not changed:
                yield from _tell(self._frames)
                yield Difference(path, ChangeKind.MODIFIED, after)
                changed = True
            yield Difference(path, ChangeKind.DELETED, None, inside=True)
        self._frames.append(_Frame(path, after, left, self._right, told=changed))


def stored(layer: Piece) -> Iterator[Difference]:
    """Yield all that a stored layer's own tree says, in the order in which ``compare`` told it when the layer was made.

    A whiteout is told as what is DELETED, and a directory's mark as in ``compare``.
    """
    with MergedTree((layer,)) as tree:
        frames = [_names(b"", tree)]
        while frames:
            entry = next(frames[-1], None)
            if entry is None:
                frames.pop()
                if frames:
                    tree.leave()
                continue
            path, found = entry
            if found is None:
                yield Difference(path, ChangeKind.DELETED, None)
                continue
            yield Difference(path, ChangeKind.ADDED, found)
            if found.is_directory:
                tree.enter(found)
                if tree.opaque:
                    yield Difference(path, ChangeKind.DELETED, None, inside=True)
                frames.append(_names(path + b"/", tree))


def _names(prefix: bytes, tree: MergedTree) -> Iterator[tuple[bytes, Found | None]]:
    """Yield what is in the directory where the tree is, by path; None stands for a whiteout."""
    removed: set[bytes] = set()
    here = tree.entries(removed)
    for name in sorted(here.keys() | removed):
        found = tree.find(name, here.get(name))
        if found is not None or name in removed:
            yield prefix + name, found


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


def changes_between(left: Sequence[Piece], right: Sequence[Piece], stop: Stop = never) -> list[Change]:
    """Return all differences, sorted by path. Raises as ``compare``."""
    return sorted(
        (Change(difference.path, difference.kind) for difference in compare(left, right, stop=stop)),
        key=lambda change: change.path,
    )
