"""Words of a Dockerfile's line: quotes, escapes and variables.

Reference: the Dockerfile reference, "Environment replacement" and "ENV".
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from sampan.dockerfile.expansion import Expander
from sampan.errors import InvalidArgumentError

_PAIR_WORDS: Final = 2
_ESCAPES: Final = {"\a": "a", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v", '"': '"', "\\": "\\"}


def json_words(text: str) -> tuple[str, ...] | None:
    """Return the items of a JSON list of text; None if it is not one, and so means the shell form.

    Raises:
        InvalidArgumentError: a list of something else; in Docker's words.
    """
    text = text.lstrip()
    if not text.startswith("["):
        return None
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(item, str) for item in items):
        raise InvalidArgumentError("when using JSON array syntax, arrays must be comprised of strings only")
    return tuple(items)


def split_words(text: str) -> Iterator[str]:
    """Yield words between blanks; quotes and backslashes protect blanks and stay in the words."""
    word, quote, escaped = "", "", False
    for char in text:
        if escaped:
            escaped = False
        elif char == "\\" and quote != "'":
            escaped = True
        elif quote:
            if char == quote:
                quote = ""
        elif char in "\"'":
            quote = char
        elif char.isspace():
            if word:
                yield word
            word = ""
            continue
        word += char
    if word:
        yield word


def expand(word: str, env: Mapping[str, str]) -> str:
    """Take away quotes and escapes and put variables in. Raises as ``Expander.expand``."""
    return Expander(env).expand(word)


def split_pairs(instruction: str, text: str) -> tuple[tuple[tuple[str, str], ...], bool]:
    """Return the pairs of ``ENV`` or ``LABEL``, and whether they are of the old form: ``a=b c="d e"``, or ``a b c``.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    words = list(split_words(text))
    if not words or "=" not in words[0]:
        parts = text.split(None, 1)
        if len(parts) < _PAIR_WORDS:
            raise InvalidArgumentError(f"{instruction} must have two arguments")
        return ((parts[0], parts[1].rstrip()),), True
    pairs: list[tuple[str, str]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise InvalidArgumentError(
                f"Syntax error - can't find = in {json.dumps(word)}. Must be of the form: name=value"
            )
        pairs.append((name, value))
    return tuple(pairs), False


def assignments(instruction: str, text: str, env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of ``ENV`` or ``LABEL`` with their variables put in. Raises as ``split_pairs``."""
    if not text.strip():
        raise InvalidArgumentError(f"{instruction} requires at least one argument")
    pairs, _ = split_pairs(instruction, text)
    for name, value in pairs:
        if not name:
            raise InvalidArgumentError(f"{instruction} names can not be blank")
        yield expand(name, env), expand(value, env)


_FAR: Final = 3  # single changes that make another word of it


def nearest(word: str, known: Iterable[str], *, fold: bool = False) -> str:
    """Return the one of ``known`` that ``word`` may be a slip of, the first of several; empty if none is near.

    With ``fold`` case does not matter, and what is returned is written as ``word`` is.
    """
    wanted = word.lower() if fold else word
    found, least = "", _FAR
    for each in known:
        option = each.lower() if fold else each
        if option == wanted:
            return ""
        if abs(len(option) - len(wanted)) < least and (distance := _distance(wanted, option)) < least:
            found, least = option, distance
    return found.upper() if fold and word == word.upper() else found


def _distance(one: str, other: str) -> int:
    """Return how many insertions, removals and replacements make one word of another (Levenshtein)."""
    row = list(range(len(other) + 1))
    for number, mine in enumerate(one, 1):
        before, row[0] = row[0], number
        for column, theirs in enumerate(other, 1):
            before, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, before + (mine != theirs))
    return row[-1]


def did_you_mean(word: str, known: Iterable[str], sign: str = "", *, fold: bool = False) -> str:
    """Return what is added to an error about ``word``; empty if nothing is near."""
    near = nearest(word, known, fold=fold)
    return f" (did you mean {sign}{near}?)" if near else ""


def quoted(text: str) -> str:
    """Return ``text`` as Go's ``%q`` writes it: lists, histories and errors hold commands in this form."""
    out = []
    for char in text:
        if char in _ESCAPES:
            out.append(f"\\{_ESCAPES[char]}")
        elif char.isprintable():
            out.append(char)
        elif ord(char) < 0x80:
            out.append(f"\\x{ord(char):02x}")
        elif 0xDC80 <= ord(char) < 0xDD00:  # a byte that is no UTF-8
            out.append(f"\\x{ord(char) - 0xDC00:02x}")
        else:
            out.append(f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}")
    return f'"{"".join(out)}"'
