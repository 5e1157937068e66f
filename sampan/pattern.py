"""Patterns that clients send: RE2's regular expressions and a shell's, matched in time linear in the text.

Docker's and containerd's patterns are Go's, and Go's are RE2's. Python's ``re`` reads another language, and backtracks:
``(a+)+$`` against thirty letters holds a service for minutes. ``re`` is for the expressions that are written in the
source.

RE2 is imported with the first pattern: a service that gets none pays nothing for it, one that does 3 MB.
"""

import json
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from sampan.errors import InvalidArgumentError

# What one expression may take once compiled, its automaton included. RE2 refuses what does not fit into a part of it
# (some 5,000 characters), and matches without the automaton what outgrows it: slower, still in linear time.
_MAX_COMPILED_BYTES: Final = 1 << 20
# All patterns of one call together: each is tried on everything that is listed.
_MAX_LENGTH: Final = 64 << 10

# RE2 says the same things in other words than Go's package.
_GO_WORDS: Final = {
    "missing )": "missing closing )",
    "missing ]": "missing closing ]",
    "no argument for repetition operator": "missing argument to repetition operator",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid repetition size": "invalid repeat count",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "trailing \\": "trailing backslash at end of expression",
    "invalid named capture group": "invalid named capture",
    "pattern too large - compile failed": "expression too large",
}


class _Match(Protocol):
    """Where an expression matches."""

    def group(self, number: int, /) -> bytes | None:
        """Return what one group matched, 0 for all; None if it is not part of the match."""

    def groups(self) -> tuple[bytes | None, ...]:
        """Return what each group matched."""


class _Compiled(Protocol):
    """RE2's compiled expression, as much of it as is called."""

    def search(self, text: bytes, /) -> _Match | None:
        """Return the first match anywhere in ``text``."""

    def fullmatch(self, text: bytes, /) -> _Match | None:
        """Return the match of the whole of ``text``."""


class Pattern:
    """A compiled regular expression."""

    def __init__(self, text: str) -> None:
        """Compile ``text``.

        Raises:
            InvalidArgumentError: in Go's words, if it is no expression or one that is too large.
        """
        self._compiled = _compile(text)

    def found_in(self, text: str) -> bool:
        """Whether the expression matches anywhere in ``text``."""
        return self._compiled.search(text.encode(errors="replace")) is not None

    def groups(self, text: str) -> tuple[str, ...] | None:
        """Return the first match in ``text`` and its groups, "" for one that is not part of it; None: no match."""
        found = self._compiled.search(text.encode(errors="replace"))
        if found is None:
            return None
        parts = (found.group(0), *found.groups())
        return tuple((part or b"").decode(errors="replace") for part in parts)

    def matches(self, text: str) -> bool:
        """Whether the expression matches the whole of ``text``."""
        return self._compiled.fullmatch(text.encode(errors="replace")) is not None


def any_found(texts: Sequence[str], what: str) -> Callable[[str], bool]:
    """Return a test whether any of the expressions is found in a text, or is the text.

    Args:
        texts: the expressions.
        what: begins the sentence of a refusal, such as ``invalid filter 'name'``.

    Raises:
        InvalidArgumentError: one of them cannot be compiled, or they are too long together.
    """
    if sum(map(len, texts)) > _MAX_LENGTH:
        raise InvalidArgumentError(f"{what}: patterns are longer than {_MAX_LENGTH} characters together")
    try:
        patterns = [Pattern(text) for text in texts]
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{what}: {error}") from error
    exact = frozenset(texts)
    return lambda text: text in exact or any(pattern.found_in(text) for pattern in patterns)


def glob(text: str) -> Pattern:
    """Compile a shell's pattern as Go's ``path.Match`` reads it: ``*`` and ``?`` stop at a slash.

    Raises:
        InvalidArgumentError: in Go's words.
    """
    if len(text) > _MAX_LENGTH:
        raise InvalidArgumentError("syntax error in pattern")
    parts, at = [], 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "*":
            parts.append("[^/]*")
        elif char == "?":
            parts.append("[^/]")
        elif char == "[":
            piece, at = _class(text, at)
            parts.append(piece)
        else:
            literal, at = _literal(text, at - 1)
            parts.append(literal)
    try:
        return Pattern("".join(parts))
    except InvalidArgumentError as error:  # a range that runs backwards
        raise InvalidArgumentError("syntax error in pattern") from error


def _class(text: str, at: int) -> tuple[str, int]:
    """Return the class that begins after the bracket before ``at``, and where it ends."""
    negated = text.startswith("^", at)
    at += negated
    members: list[str] = []
    while at < len(text) and (text[at] != "]" or not members):
        if text[at] in "-]":
            raise InvalidArgumentError("syntax error in pattern")
        low, at = _literal(text, at)
        if text.startswith("-", at):
            if at + 1 < len(text) and text[at + 1] in "-]":
                raise InvalidArgumentError("syntax error in pattern")
            high, at = _literal(text, at + 1)
            members.append(f"{low}-{high}")
        else:
            members.append(low)
    if at >= len(text):
        raise InvalidArgumentError("syntax error in pattern")
    return f"[{'^/' if negated else ''}{''.join(members)}]", at + 1


def _literal(text: str, at: int) -> tuple[str, int]:
    """Return the character at ``at``, which a backslash may precede, as RE2 takes it literally."""
    at += text.startswith("\\", at)
    if at >= len(text):
        raise InvalidArgumentError("syntax error in pattern")
    char = text[at]
    return (char if char.isalnum() or char in "_/" else f"\\x{{{ord(char):x}}}"), at + 1


def _compile(text: str) -> _Compiled:
    import re2

    options = re2.Options()
    options.max_mem = _MAX_COMPILED_BYTES
    options.log_errors = False
    try:
        compiled: _Compiled = re2.compile(text.encode(), options)
        return compiled
    except UnicodeEncodeError:
        raise InvalidArgumentError(f"error parsing regexp: invalid UTF-8: {_quoted(text)}") from None
    except re2.error as error:
        raise InvalidArgumentError(_in_go_words(error, text)) from error
    finally:
        re2.purge()  # it would keep the last 128, and with them what a stranger made large


def _in_go_words(error: Exception, text: str) -> str:
    said = error.args[0].decode(errors="replace") if error.args else ""
    code, _, operand = said.partition(": ")
    shown = f"`{operand}`" if operand else _quoted(text)
    return f"error parsing regexp: {_GO_WORDS.get(code, code)}: {shown}"


def _quoted(text: str) -> str:
    short = text if len(text) <= 100 else f"{text[:100]}…"
    return json.dumps(short) if not short.isprintable() else f"`{short}`"
