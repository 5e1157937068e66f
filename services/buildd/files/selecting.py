"""Which files are meant: wildcards in a path, and patterns that include and exclude.

Reference: Go's ``path/filepath.Match``; the Dockerfile reference, "COPY --parents", "COPY --exclude".
"""

import os
import posixpath
import re
import stat
from collections.abc import Callable, Sequence
from typing import Final

from buildd.files.root import Root, clean, join, names_in
from sampan.dockerfile.ignore import IgnorePatterns

_META: Final = re.compile(r"[*?\[\\]")


class Patterns:
    """Include and exclude patterns. Paths are relative to what is copied."""

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        """Raises InvalidArgumentError: a pattern that cannot be; named."""
        self._include = IgnorePatterns(_clean(include)) if include else None
        self._exclude = IgnorePatterns(_clean(exclude)) if exclude else None
        self._prefixes = [] if not include else [_literal(text) for text in _clean(include)]

    @property
    def all(self) -> bool:
        """Whether there is no pattern at all."""
        return self._include is None and self._exclude is None

    def takes(self, path: str) -> bool:
        """Say whether a path is meant."""
        if self._include is not None and not self._include.excludes(path):
            return False
        return self._exclude is None or not self._exclude.excludes(path)

    def enters(self, path: str, *, taken: bool) -> bool:
        """Say whether something in the directory ``path`` may be meant."""
        if taken:
            return True
        if self._exclude is not None and not self._exclude.has_exceptions and self._exclude.excludes(path):
            return False
        if self._include is None or self._include.has_exceptions or self._include.excludes(path):
            return True
        return any(_related(path, prefix) for prefix in self._prefixes)


def _related(path: str, prefix: str) -> bool:
    """Say whether one of two paths is above the other, or both are the same."""
    mine, theirs = f"{path}/", f"{prefix}/" if prefix else ""
    return mine.startswith(theirs) or theirs.startswith(mine)


def _clean(patterns: Sequence[str]) -> list[str]:
    cleaned = []
    for text in patterns:
        exception = text.startswith("!")
        pattern = posixpath.normpath(text.removeprefix("!").strip() or ".").lstrip("/") or "/"
        cleaned.append(f"!{pattern}" if exception else pattern)
    return cleaned


def _literal(pattern: str) -> str:
    """Return the components of a pattern before the first that stands for something else."""
    parts = pattern.removeprefix("!").split("/")
    end = next((index for index, part in enumerate(parts) if _META.search(part)), len(parts))
    return "/".join(parts[:end])


def has_wildcards(text: str) -> bool:
    """Say whether ``text`` may stand for something else than itself."""
    return re.search(r"(?<!\\)(?:\\\\)*[*?\[]", text) is not None


def expand(root: Root, path: str, *, follow: bool) -> list[str]:
    """Return the paths that a path with wildcards stands for, in order; a path without is returned as it is.

    Up to the first component with a wildcard links are followed, after it none is.

    Raises:
        InvalidArgumentError: a wildcard that cannot be.
    """
    parts = clean(path).split("/")[1:]
    first = next((index for index, part in enumerate(parts) if has_wildcards(part)), None)
    if first is None:
        return [path]
    base = root.real("/".join(parts[:first]), follow=follow)
    found = [base]
    for part in parts[first:]:
        matches = match(part)
        found = [join(parent, name) for parent in found for name in _names(root, parent) if matches(name)]
        if not found:
            break
    return [f"/{each}" for each in found]


def match(pattern: str) -> Callable[[str], bool]:
    """Return what says whether a name fits one component of a wildcard. Raises InvalidArgumentError."""
    if not _META.search(pattern):
        return pattern.__eq__
    # There is neither ``**`` nor an exception here.
    single = re.sub(r"(?<!\\)((?:\\\\)*)\*{2,}", r"\1*", pattern)
    return IgnorePatterns([f"[!]{single[1:]}" if single.startswith("!") else single]).excludes


def _names(root: Root, real: str) -> list[str]:
    found = root.stat(real)
    if found is None or not stat.S_ISDIR(found.st_mode):
        return []
    fd = root.directory(real)
    try:
        return names_in(fd)
    finally:
        os.close(fd)
