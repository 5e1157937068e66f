"""``.dockerignore``: its patterns, and what they leave out.

Reference: the Docker documentation, ".dockerignore files"; Go's ``path/filepath.Match`` for one component of a pattern.
A pattern comes from a stranger: it is matched as a set of states, in time proportional to the path's length times the
pattern's.
"""

import json
import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sampan.errors import InvalidArgumentError

_META: Final = frozenset("*?[\\")


def parse_ignore_file(data: bytes) -> tuple[str, ...]:
    """Return the patterns of a ``.dockerignore``, cleaned; an exception begins with ``!``.

    What is no UTF-8 is kept as in names of files (``surrogateescape``): these need be no text either.

    Raises:
        InvalidArgumentError: a pattern that cannot be; the message names it.
    """
    text = data.decode("utf-8-sig", errors="surrogateescape")
    patterns: list[str] = []
    for line in text.split("\n"):
        if line.startswith("#"):
            continue
        pattern = line.strip()
        if not pattern:
            continue
        exception = pattern.startswith("!")
        pattern = pattern.removeprefix("!").strip() if exception else pattern
        if not pattern:
            IgnorePatterns(patterns)  # the first one that cannot be is told
            raise InvalidArgumentError('illegal exclusion pattern: "!"')
        pattern = posixpath.normpath(pattern)
        if len(pattern) > 1:
            pattern = pattern.lstrip("/") or "/"
        patterns.append(f"!{pattern}" if exception else pattern)
    IgnorePatterns(patterns)
    return tuple(patterns)


class IgnorePatterns:
    """Patterns of which the last one that fits a path decides."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Compile patterns as ``parse_ignore_file`` returns them.

        Raises:
            InvalidArgumentError: one that cannot be; named.
        """
        self._patterns = [(not text.startswith("!"), _compile(text.removeprefix("!"))) for text in patterns]

    @property
    def has_exceptions(self) -> bool:
        """Whether a pattern brings back what an earlier one left out."""
        return not all(excludes for excludes, _ in self._patterns)

    def excludes(self, path: str) -> bool:
        """Say whether a path relative to the context's root is left out, by itself or with a directory above it."""
        excluded = False
        components = path.split("/")
        for excludes, pattern in self._patterns:
            if excludes != excluded and pattern.fits(path, components):
                excluded = excludes
        return excluded


@dataclass(frozen=True, slots=True)
class _Class:
    """``[a-z]``."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool

    def has(self, char: str) -> bool:
        return any(first <= char <= last for first, last in self.ranges) != self.negated


class _Any:
    """What stands for something else than itself."""

    ONE = "?"  # one character of a component
    COMPONENT = "*"  # any number of them
    PATH = "**"  # anything at all
    DIRECTORIES = "**/"  # nothing, or anything that ends in a slash: two items, of which the first may be left out
    INSIDE = "…/"  # what it takes up to its last slash


@dataclass(frozen=True, slots=True)
class _Item:
    """One part of a pattern."""

    char: str = ""  # itself
    any: str = ""  # one of ``_Any``
    one_of: _Class | None = None


@dataclass(frozen=True, slots=True)
class _Components:
    """A pattern in which ``**`` stands for whole components alone, as it nearly always does."""

    parts: tuple[Callable[[str], bool] | None, ...]  # None is ``**``

    def fits(self, _path: str, components: Sequence[str]) -> bool:
        """Say whether the whole path, or a directory above it, matches."""
        end = len(self.parts)
        states = self._entered(0)
        for component in components:
            following: set[int] = set()
            for state in states:
                part = self.parts[state]
                if part is None:
                    if state + 1 == end:
                        return True
                    following.add(state)
                elif part(component):
                    if state + 1 == end:
                        return True
                    following |= self._entered(state + 1)
            if not following:
                return False
            # ``**`` may end before every component.
            states = {each for state in following for each in self._entered(state)}
        return False

    def _entered(self, state: int) -> set[int]:
        """Return the states that begin where ``state`` does: those after a ``**`` that takes nothing, too."""
        entered = {state}
        while self.parts[state] is None and state + 1 < len(self.parts):
            state += 1
            entered.add(state)
        return entered


@dataclass(frozen=True, slots=True)
class _Characters:
    """Any pattern: a path is matched character by character."""

    items: tuple[_Item, ...]

    def fits(self, path: str, _components: Sequence[str] = ()) -> bool:
        """Say whether the whole path, or a directory above it, matches."""
        states = self._closure({0})
        end = len(self.items)
        for char in path:
            if char == "/" and end in states:
                return True
            states = self._closure(self._step(states, char))
            if not states:
                return False
        return end in states

    def _step(self, states: set[int], char: str) -> set[int]:
        following: set[int] = set()
        for state in states:
            if state == len(self.items):
                continue
            item = self.items[state]
            if item.any == _Any.DIRECTORIES:
                continue
            if item.any in (_Any.PATH, _Any.INSIDE):
                following.add(state)
                if item.any == _Any.INSIDE and char == "/":
                    following.add(state + 1)
            elif item.any == _Any.COMPONENT:
                if char != "/":
                    following.add(state)
            elif item.any == _Any.ONE:
                if char != "/":
                    following.add(state + 1)
            elif item.one_of.has(char) if item.one_of else item.char == char:
                following.add(state + 1)
        return following

    def _closure(self, states: set[int]) -> set[int]:
        """Add the states that are reached without a character."""
        waiting = list(states)
        while waiting:
            state = waiting.pop()
            item = self.items[state] if state < len(self.items) else _Item()
            skips = (1, 2) if item.any == _Any.DIRECTORIES else (1,) if item.any in (_Any.PATH, _Any.COMPONENT) else ()
            fresh = {state + skip for skip in skips} - states
            states |= fresh
            waiting += fresh
        return states


def _compile(pattern: str) -> _Components | _Characters:
    try:
        items = tuple(_items(pattern))
        components = pattern.split("/")
        # A class or an escape may hold a slash; then the pattern has other components than it seems.
        if any("**" in part and part != "**" for part in components) or "[" in pattern or "\\" in pattern:
            return _Characters(items)
        return _Components(tuple(None if part == "**" else _component(part) for part in components))
    except ValueError as error:
        raise InvalidArgumentError(f"invalid pattern {json.dumps(pattern)}: syntax error in pattern") from error


def _component(pattern: str) -> Callable[[str], bool]:
    if not _META & set(pattern):
        return pattern.__eq__
    before, star, after = pattern.partition("*")
    if star and not _META & set(before + after):
        least = len(before) + len(after)
        return lambda text: len(text) >= least and text.startswith(before) and text.endswith(after)
    return _Characters(tuple(_items(pattern))).fits


def _items(pattern: str) -> Iterator[_Item]:
    position = 0
    while position < len(pattern):
        char = pattern[position]
        if pattern.startswith("**", position):
            position += 2
            if pattern.startswith("/", position):
                position += 1
                yield _Item(any=_Any.DIRECTORIES)
                yield _Item(any=_Any.INSIDE)
            else:
                yield _Item(any=_Any.PATH)
            continue
        position += 1
        if char == "*":
            yield _Item(any=_Any.COMPONENT)
        elif char == "?":
            yield _Item(any=_Any.ONE)
        elif char == "[":
            one_of, position = _class(pattern, position)
            yield _Item(one_of=one_of)
        else:
            if char == "\\":
                char, position = _escaped(pattern, position)
            yield _Item(char)


def _escaped(pattern: str, position: int) -> tuple[str, int]:
    if position >= len(pattern):
        raise ValueError("ends in a backslash")
    return pattern[position], position + 1


def _class(pattern: str, position: int) -> tuple[_Class, int]:
    negated = pattern.startswith("^", position)
    position += negated
    ranges: list[tuple[str, str]] = []
    while not (pattern.startswith("]", position) and ranges):
        first, position = _member(pattern, position)
        last = first
        if pattern.startswith("-", position):
            last, position = _member(pattern, position + 1)
        ranges.append((first, last))
    return _Class(tuple(ranges), negated), position + 1


def _member(pattern: str, position: int) -> tuple[str, int]:
    if position >= len(pattern) or pattern[position] in "]-":
        raise ValueError("not a class")
    if pattern[position] == "\\":
        return _escaped(pattern, position + 1)
    return pattern[position], position + 1
