"""One record of comma-separated fields, as Go's ``encoding/csv`` reads it: the form of many options' values.

A field may stand in double quotes, with a quote in it doubled. Python's ``csv`` reads another dialect: a quote in the
middle of a field is a character to it, and what it says of others names neither the place nor the option.
"""

import re
from typing import Final

from sampan.errors import InvalidArgumentError

_QUOTED: Final = re.compile(r'"((?:[^"]|"")*+)"(?=,|\Z)')
_PLAIN: Final = re.compile(r'[^,"\n]*+')


def comma_fields(text: str) -> tuple[str, ...]:
    """Return the fields of ``text``; one that is empty has none.

    Raises:
        InvalidArgumentError: in Go's words, a quote that is not at an end of its field. A line's end outside of quotes,
            after which Go reads nothing more, is refused as well.
    """
    fields: list[str] = []
    at = -1 if text else 0
    while at < len(text):
        at += 1
        if text.startswith('"', at):
            field = _QUOTED.match(text, at)
            if field is None:
                raise _refused(text, _misplaced(text, at), 'extraneous or missing " in quoted-field')
            fields.append(field[1].replace('""', '"'))
        else:
            field = _PLAIN.match(text, at)
            assert field is not None  # nothing at all matches, too
            if text.startswith('"', field.end()):
                raise _refused(text, field.end(), 'bare " in non-quoted-field')
            if text.startswith("\n", field.end()):
                raise _refused(text, field.end(), "end of line in non-quoted-field")
            fields.append(field[0])
        at = field.end()
    return tuple(fields)


def _misplaced(text: str, begin: int) -> int:
    """Return where the quote is that ends a quoted field and must not, or the end of ``text`` if there is none."""
    at = begin + 1
    while (at := text.find('"', at)) >= 0:
        if not text.startswith('"', at + 1):
            return at
        at += 2
    return len(text)


def _refused(text: str, at: int, words: str) -> InvalidArgumentError:
    line = text.count("\n", 0, at) + 1
    column = len(text[text.rfind("\n", 0, at) + 1 : at].encode(errors="replace")) + 1  # in bytes, as Go counts
    return InvalidArgumentError(f"parse error on line {line}, column {column}: {words}")
