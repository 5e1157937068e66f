"""Which files of a directory a receiver wants: ``include-patterns``, ``exclude-patterns`` and ``followpaths``.

Patterns are those of ``.dockerignore``. Paths to follow are names, with wildcards, of what is wanted with all that is
in it; a link on such a path is wanted, and so is what it leads to.

Reference: tonistiigi/fsutil, ``filter.go``, ``followlinks.go``; written anew.
"""

import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.dockerfile.ignore import IgnorePatterns

_MAX_LINKS: Final = 255
_WILD: Final = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Chosen:
    """What becomes of one entry of a walk."""

    told: bool  # the receiver is told of it
    entered: bool  # of a directory: something in it may be told


_NOTHING: Final = Chosen(told=False, entered=False)


class Selection:
    """Chooses among the entries of one directory."""

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        """Include everything without patterns.

        Raises:
            InvalidArgumentError: a pattern that cannot be; named.
        """
        self._include = IgnorePatterns(include) if include else None
        self._exclude = IgnorePatterns(exclude) if exclude else None
        # What a directory above a wanted path is called; with wildcards in it, any may be one.
        self._ways = (
            None if any(_WILD & set(each) for each in include) else {way for each in include for way in _ways(each)}
        )

    def choose(self, path: bytes, *, directory: bool) -> Chosen:
        """Say what becomes of an entry; ``path`` is relative to the directory."""
        text = os.fsdecode(path)
        if self._exclude is not None and self._exclude.excludes(text):
            # An exception may bring back what is below.
            return Chosen(told=False, entered=directory and self._exclude.has_exceptions)
        if self._include is None or self._include.excludes(text):
            return Chosen(told=True, entered=directory)
        if not directory or (self._ways is not None and text not in self._ways):
            return _NOTHING
        return Chosen(told=False, entered=True)


def _ways(path: str) -> list[str]:
    parts = path.strip("/").split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


def follow_links(root: Path, paths: Sequence[str]) -> list[str]:
    """Return what ``paths`` name in ``root``, with what links on the way lead to, as patterns to include.

    A path that leads nowhere is returned as it is; nothing leads out of ``root``.
    """
    found: dict[str, None] = {}
    waiting = [_clean(path) for path in paths]
    links = 0
    while waiting:
        path = waiting.pop()
        if path == "":
            return []  # everything
        for way in _expand(root, path):
            link = _first_link(root, way)
            if link is None:
                found[way] = None
                continue
            name, target, rest = link
            found[name] = None
            links += 1
            if links <= _MAX_LINKS:
                base = "/" if target.startswith("/") else posixpath.join("/", posixpath.dirname(name))
                waiting.append(_clean(posixpath.join(base, target, rest)))
    return list(found)


def _clean(path: str) -> str:
    return posixpath.normpath(posixpath.join("/", path)).lstrip("/")


def _expand(root: Path, path: str) -> list[str]:
    """Return the paths that a path with wildcards stands for, or itself."""
    parts = path.split("/")
    ways = [""]
    for number, part in enumerate(parts):
        if not _WILD & set(part):
            ways = [posixpath.join(way, part) for way in ways]
            continue
        pattern = IgnorePatterns([part])
        found = []
        for way in ways:
            link = _first_link(root, way) if way else None
            if link is not None:  # what is behind it has other names: the link is followed first
                found.append(posixpath.join(way, *parts[number:]))
                continue
            try:
                names = sorted(each.name for each in (root / way).iterdir())
            except OSError:
                continue
            found += [posixpath.join(way, name) for name in names if pattern.excludes(name)]
        ways = found
    return ways or [path]


def _first_link(root: Path, path: str) -> tuple[str, str, str] | None:
    """Return the first link on a path, where it leads and what follows it; None if there is none."""
    parts = path.split("/")
    for end in range(1, len(parts) + 1):
        name = "/".join(parts[:end])
        try:
            target = str((root / name).readlink())
        except OSError:
            continue
        return name, target, "/".join(parts[end:])
    return None
