"""Words of a Dockerfile's line: quotes, escapes and variables.

Reference: the Dockerfile reference, "Environment replacement" and "ENV".
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from sampan.dockerfile.expansion import Expander
from sampan.errors import InvalidArgumentError

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


def assignments(instruction: str, text: str, env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of ``ENV`` or ``LABEL``: ``a=b c="d e"``, or the old form ``a b c``.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    words = list(split_words(text))
    if not words:
        raise InvalidArgumentError(f"{instruction} requires at least one argument")
    if "=" not in words[0]:
        name, _, value = text.strip().partition(words[0])[2].partition(" ")
        value = value.strip()
        if name or not value:
            raise InvalidArgumentError(f"{instruction} must have two arguments")
        yield expand(words[0], env), expand(value, env)
        return
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise InvalidArgumentError(
                f"Syntax error - can't find = in {json.dumps(word)}. Must be of the form: name=value"
            )
        if not name:
            raise InvalidArgumentError(f"{instruction} names can not be blank")
        yield expand(name, env), expand(value, env)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the one of ``known`` that ``word`` may be a slip of; empty if none is near."""
    import difflib  # only for those who have made a mistake

    folded = {each.lower(): each for each in known if each.lower() != word.lower()}
    return folded.get(next(iter(difflib.get_close_matches(word.lower(), folded, 1, 0.7)), ""), "")


def did_you_mean(word: str, known: Iterable[str], sign: str = "") -> str:
    """Return what is added to an error about ``word``; empty if nothing is near."""
    near = nearest(word, known)
    return f" (did you mean {sign}{near}?)" if near else ""


def quoted(text: str) -> str:
    """Return ``text`` as Go's ``%q`` writes it: histories and errors hold commands in this form."""
    out = []
    for char in text:
        if char in _ESCAPES:
            out.append(f"\\{_ESCAPES[char]}")
        elif char.isprintable():
            out.append(char)
        elif ord(char) < 0x80:
            out.append(f"\\x{ord(char):02x}")
        else:
            out.append(f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}")
    return f'"{"".join(out)}"'
