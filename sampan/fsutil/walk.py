"""Where the walk of a tree is: the directories down to the entry that was told last, and what is left in each.

Entries come in the order of names, directory by directory, so whatever precedes an entry in its directory and was not
told before it is not told any more.
"""

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.fsutil.entry import split
from sampan.sys.beneath import OPEN_DIRECTORY, open_directory
from sampan.sys.trees import shortened

_FIRST: Final = b""  # before every name

# Takes a directory and a name in it.
Remove = Callable[[bytes, bytes], None]


class Place:
    """A directory below the root, kept open while it is the one that is asked for."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._path = b""
        self._fd = os.dup(root)

    def at(self, path: bytes) -> int:
        """Return the descriptor of the directory ``path``; good until the next call."""
        if path != self._path:
            parent, _, name = path.rpartition(b"/")
            if path and parent == self._path:
                fd = os.open(name, OPEN_DIRECTORY, dir_fd=self._fd)
            else:
                fd = open_directory(self._root, path)
            os.close(self._fd)
            self._fd, self._path = fd, path
        return self._fd

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)


class Directory:
    """A directory on the way to where the walk is."""

    __slots__ = ("_passed", "last", "path", "present")

    def __init__(self, path: bytes, present: set[bytes]) -> None:
        self.path = path
        self.present = present  # names that are here and were not told, but for those that were passed over
        self.last = b""  # the name that was told last
        self._passed: list[tuple[bytes, bytes]] = []  # the first and the last name of each run

    def passes(self, first: bytes, last: bytes) -> None:
        """Take all names that are here from ``first`` to ``last`` as told."""
        self._passed.append((first, last))
        self.last = last

    def passes_rest(self, first: bytes) -> None:
        """Take all names that are here from ``first`` on as told."""
        self.present = {name for name in self.present if name < first}

    def left(self) -> Iterator[bytes]:
        """Yield the names that are here and were not told."""
        firsts = [first for first, _ in self._passed]
        for name in self.present:
            at = bisect_right(firsts, name)
            if not at or name > self._passed[at - 1][1]:
                yield name


class Way:
    """The directories from the root down."""

    def __init__(self, root: int, remove: Remove | None) -> None:
        """``remove`` is called for what was not told of a directory, when the walk leaves it; None: it stays."""
        self.place = Place(root)
        self._remove = remove
        self._way = [Directory(b"", names(root))]

    def close(self) -> None:
        """Let go of what is open."""
        self.place.close()

    def tell(self, parent: bytes, name: bytes, path: bytes) -> bool:
        """Go on to the entry ``path``, which is ``name`` in ``parent``; return whether something is there.

        Raises:
            InvalidArgumentError: it is out of order, or its directory was not told.
        """
        directory = self._reach(parent, path)
        if name <= directory.last:
            raise InvalidArgumentError(f"the sender of files tells {shortened(path)!r} twice, or out of order")
        directory.last = name
        if name in directory.present:
            directory.present.discard(name)
            return True
        return False

    def enter(self, path: bytes, present: set[bytes]) -> None:
        """Go down into the directory that was told last, in which ``present`` are."""
        self._way.append(Directory(path, present))

    def pass_over(self, first: bytes, last: bytes, *, into: bool) -> Iterator[bytes]:
        """Take all entries that are here, from ``first`` to ``last`` in the order of the walk, as told.

        ``into``: the last one is a directory. Yields the paths of directories that the walk is in afterwards and was
        not before. Raises InvalidArgumentError as ``tell``.
        """
        parent, floor = split(first)
        if floor <= self._reach(parent, first).last:
            raise InvalidArgumentError(f"the sender of files tells {shortened(first)!r} twice, or out of order")
        while True:
            directory = self._way[-1]
            prefix = directory.path + b"/" if directory.path else b""
            if last.startswith(prefix):
                break
            directory.passes_rest(floor)
            self._leave()
            floor = self._way[-1].last
        name, _, rest = last[len(prefix) :].partition(b"/")
        directory.passes(floor, name)
        path = prefix + name
        while rest or into:
            self.enter(path, names(self.place.at(path)))
            yield path
            if not rest:
                return
            name, _, rest = rest.partition(b"/")
            self._way[-1].passes(_FIRST, name)
            path = path + b"/" + name

    def end(self) -> None:
        """Leave all directories: the walk is over."""
        while self._way:
            self._leave()

    def _reach(self, parent: bytes, path: bytes) -> Directory:
        while self._way[-1].path != parent:
            if len(self._way) == 1:
                raise InvalidArgumentError(
                    f"the sender of files tells {shortened(path)!r}, and not before it the directory that this is in"
                )
            self._leave()
        return self._way[-1]

    def _leave(self) -> None:
        directory = self._way.pop()
        if self._remove is not None:
            for name in directory.left():
                self._remove(directory.path, name)


def names(fd: int) -> set[bytes]:
    """Return the names in an open directory."""
    return set(map(os.fsencode, os.listdir(fd)))
