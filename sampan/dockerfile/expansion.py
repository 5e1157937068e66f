"""Variables in a Dockerfile's words, with all their modifiers; quotes and escapes taken away.

Reference: the Dockerfile reference, "Environment replacement"; POSIX.1-2017, Shell Command Language 2.6.2. Patterns are
matched in linear time: a pattern comes from a stranger, and is applied to a stranger's value.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sampan.errors import InvalidArgumentError

_NAME_START: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_NAME: Final = _NAME_START | frozenset("0123456789")
_SPECIAL: Final = frozenset("@*#?-$!")
_DIGITS: Final = frozenset("0123456789")
_QUOTE_NAMES: Final = {'"': "double", "'": "single"}

# A value may be put into another one, and that into a third; without an end a few lines make gigabytes.
MAX_EXPANDED_CHARACTERS: Final = 1 << 20

# ``${a:-${b:-…}}``: far above what people write, far below what fills a stack.
MAX_NESTED: Final = 50

# ``${name//a*b/c}`` looks for a match at every position: the square of the value's length, in the worst case.
MAX_PATTERN_STEPS: Final = 1 << 21


@dataclass(slots=True)
class Expander:
    """Expands words against one set of variables, and notes which were asked for.

    With ``keep_quotes`` quotes are text like any other, as in the content of a here-document. With ``show`` the word is
    for people to read: quotes still protect, but stay, and so does what asks for a variable that is not there.
    """

    env: Mapping[str, str]
    escape: str = "\\"
    keep_quotes: bool = False
    show: bool = False
    _depth: int = field(default=0, init=False)
    used: set[str] = field(default_factory=set)
    unset: set[str] = field(default_factory=set)  # asked for, with a default or without one, and not there

    def expand(self, word: str) -> str:
        """Return ``word`` with its variables put in.

        Raises:
            InvalidArgumentError: a quote or a brace that is not closed, an unknown modifier, ``${name:?}`` of an unset
                variable, or a result of more than ``MAX_EXPANDED_CHARACTERS``.
        """
        try:
            text, end = self._until(word, 0, "")
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"failed to process {_shown(word)}: {error}") from error
        assert end == len(word)
        if len(text) > MAX_EXPANDED_CHARACTERS:
            raise InvalidArgumentError(
                f"failed to process {_shown(word)}: expands to more than {MAX_EXPANDED_CHARACTERS} characters"
            )
        return text

    def _until(self, word: str, position: int, stop: str) -> tuple[str, int]:
        """Expand until a bare character of ``stop``, which is not taken, or to the end."""
        out: list[str] = []
        while position < len(word):
            char = word[position]
            if char in stop and stop:
                break
            if char == "'" and not self.keep_quotes:
                end = word.find("'", position + 1)
                if end < 0:
                    raise _unclosed("'")
                out.append(word[position : end + 1] if self.show else word[position + 1 : end])
                position = end + 1
            elif char == '"' and not self.keep_quotes:
                text, position = self._double_quoted(word, position + 1)
                out.append(f'"{text}"' if self.show else text)
            elif char == self.escape:
                text, position = self._escaped(word, position)
                out.append(text)
            elif char == "$":
                text, position = self._variable(word, position + 1)
                out.append(text)
            else:
                out.append(char)
                position += 1
        return "".join(out), position

    def _escaped(self, word: str, position: int) -> tuple[str, int]:
        following = word[position + 1 : position + 2]
        return following or self.escape, position + 1 + len(following)

    def _double_quoted(self, word: str, position: int) -> tuple[str, int]:
        out: list[str] = []
        while position < len(word):
            char = word[position]
            if char == '"':
                return "".join(out), position + 1
            if char == "$":
                text, position = self._variable(word, position + 1)
                out.append(text)
                continue
            if char == self.escape and position + 1 < len(word):
                following = word[position + 1]
                # Between double quotes an escape is itself unless it takes away a meaning.
                out.append(following if following in ('"', "$", self.escape) else char + following)
                position += 2
                continue
            out.append(char)
            position += 1
        raise _unclosed('"')

    def _variable(self, word: str, position: int) -> tuple[str, int]:
        """Return the value of what follows a dollar sign, and where it ends."""
        braced = word.startswith("{", position)
        name, end = _name(word, position + braced)
        if not braced and not name:
            return "$", position
        text, end = self._braced(word, position + 1) if braced else (self._value(name), end)
        return (f"${word[position:end]}" if self.show and name not in self.env else text), end

    def _value(self, name: str) -> str:
        self.used.add(name)
        value = self.env.get(name)
        if value is None:
            self.unset.add(name)
        return value or ""

    def _braced(self, word: str, position: int) -> tuple[str, int]:
        name, position = _name(word, position)
        if position >= len(word):
            raise _missing_brace()
        if not name:
            raise InvalidArgumentError("syntax error: bad substitution")
        if word[position] == "}":
            return self._value(name), position + 1
        operator = next((each for each in _OPERATORS if word.startswith(each, position)), "")
        if not operator:
            raise InvalidArgumentError(f"unsupported modifier ({word[position : position + 2]}) in substitution")
        return self._modified(word, name, operator, position + len(operator))

    def _modified(self, word: str, name: str, operator: str, position: int) -> tuple[str, int]:
        self.used.add(name)
        value = self.env.get(name)
        if value is None:
            self.unset.add(name)
        self._depth += 1
        if self._depth > MAX_NESTED:
            raise InvalidArgumentError(f"nests more than {MAX_NESTED} substitutions")
        argument, position = self._until(word, position, "/}" if operator in ("/", "//") else "}")
        replacement = ""
        if operator in ("/", "//") and word.startswith("/", position):
            replacement, position = self._until(word, position + 1, "}")
        if not word.startswith("}", position):
            raise _missing_brace()
        self._depth -= 1
        end = position + 1
        there = bool(value) if operator.startswith(":") else value is not None
        match operator.removeprefix(":"):
            case "-":
                return (value or "") if there else argument, end
            case "+":
                return argument if there else "", end
            case "?":
                if not there:
                    kind = "not allowed to be empty" if operator == ":?" and value == "" else "not allowed to be unset"
                    raise InvalidArgumentError(f"{name}: {argument or kind}")
                return value or "", end
            case _:
                return _patterned(self._value(name), operator, argument, replacement), end


# Longer ones first.
_OPERATORS: Final = (":-", ":+", ":?", "##", "%%", "//", "-", "+", "?", "#", "%", "/")


def _name(word: str, position: int) -> tuple[str, int]:
    """Return the name of a variable, a positional or a special parameter; empty if there is none."""
    if position >= len(word):
        return "", position
    char = word[position]
    if char in _SPECIAL:
        return char, position + 1
    allowed = _DIGITS if char in _DIGITS else _NAME if char in _NAME_START else frozenset[str]()
    end = position
    while end < len(word) and word[end] in allowed:
        end += 1
    return word[position:end], end


def _patterned(value: str, operator: str, pattern: str, replacement: str) -> str:
    """Take away a prefix or suffix that matches, or replace what matches."""
    glob = _Glob(pattern)
    match operator:
        case "#" | "##":
            ends = glob.ends(value, 0)
            return value[(min if operator == "#" else max)(ends) :] if ends else value
        case "%" | "%%":
            lengths = glob.reversed().ends(value[::-1], 0)  # a suffix is a prefix read backwards
            return value[: len(value) - (min if operator == "%" else max)(lengths)] if lengths else value
        case _:
            return _replaced(value, glob, replacement, every=operator == "//")


def _replaced(value: str, glob: "_Glob", replacement: str, *, every: bool) -> str:
    out: list[str] = []
    position = 0
    while position < len(value):
        ends = [end for end in glob.ends(value, position) if end > position]
        if ends:
            out.append(replacement)
            position = max(ends)
            if not every:
                break
        else:
            out.append(value[position])
            position += 1
    return "".join(out) + value[position:]


class _Glob:
    """A shell pattern of ``*``, ``?`` and escaped characters, matched as a set of states: no backtracking."""

    def __init__(self, pattern: str) -> None:
        self._items: list[str | None] = []  # a character, "?" as "", "*" as None
        self._steps = 0
        escaped = False
        for char in pattern:
            if not escaped and char == "\\":
                escaped = True
                continue
            self._items.append(char if escaped or char not in "*?" else None if char == "*" else "")
            escaped = False
        if escaped:
            self._items.append("\\")

    def reversed(self) -> "_Glob":
        """Return the pattern that matches the same texts read backwards."""
        other = _Glob("")
        other._items = self._items[::-1]
        return other

    def ends(self, text: str, start: int) -> set[int]:
        """Return every position at which a match that begins at ``start`` may end."""
        found: set[int] = set()
        states = self._closure({0})
        position = start
        while states:
            if len(self._items) in states:
                found.add(position)
            if position == len(text):
                break
            states = self._closure(self._step(states, text[position]))
            position += 1
            self._steps += len(states) + 1
            if self._steps > MAX_PATTERN_STEPS:
                raise InvalidArgumentError(
                    f"a pattern in a substitution takes more than {MAX_PATTERN_STEPS} steps to match"
                )
        return found

    def _step(self, states: set[int], char: str) -> set[int]:
        following: set[int] = set()
        for state in states:
            if state < len(self._items):
                item = self._items[state]
                if item is None:
                    following.add(state)
                elif item in ("", char):
                    following.add(state + 1)
        return following

    def _closure(self, states: set[int]) -> set[int]:
        """Add the states that are reached without a character: past a star."""
        waiting = list(states)
        while waiting:
            state = waiting.pop()
            if state < len(self._items) and self._items[state] is None and state + 1 not in states:
                states.add(state + 1)
                waiting.append(state + 1)
        return states


def _missing_brace() -> InvalidArgumentError:
    return InvalidArgumentError("syntax error: missing '}'")


def _unclosed(quote: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"unexpected end of statement while looking for matching {_QUOTE_NAMES[quote]}-quote")


def _shown(word: str) -> str:
    return json.dumps(word if len(word) <= 200 else f"{word[:200]}…", ensure_ascii=False)
