"""containerd's filter expressions, as its clients send them.

A filter is a comma-separated list of selectors that must all hold: ``field``, ``field==value``, ``field!=value``,
``field~=regexp``. A field is a dotted path, and both its parts and the value may be quoted: ``labels."a.b"==c``.
Several filters are alternatives; none at all lets everything pass.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.pattern import any_found

# Returns a field's value, or None where the thing has no such field.
Fields = Callable[[tuple[str, ...]], str | None]
Filter = Callable[[Fields], bool]

_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_PART: Final = rf"(?:[A-Za-z_][\w/-]*|{_QUOTED})"
_SELECTOR: Final = re.compile(
    rf"\s*+(?P<field>{_PART}(?:\.{_PART})*)\s*+(?:(?P<operator>==|!=|~=)\s*+(?P<value>{_QUOTED}|[^\s,]++))?\s*+(?:,|$)"
)
_PARTS: Final = re.compile(_PART)
_MAX_LENGTH: Final = 4096


def parse_filters(texts: Iterable[str]) -> Filter:
    """Return a predicate that holds if any of the filters does, or if there is none.

    Raises:
        InvalidArgumentError: an expression that is not a filter.
    """
    alternatives = [_parse(text) for text in texts]
    if not alternatives:
        return lambda _fields: True
    return lambda fields: any(all(selector(fields) for selector in one) for one in alternatives)


def _parse(text: str) -> list[Filter]:
    if len(text) > _MAX_LENGTH:
        raise InvalidArgumentError(f"filter is {len(text)} characters long, the most is {_MAX_LENGTH}")
    selectors = []
    position = 0
    while position < len(text):
        match = _SELECTOR.match(text, position)
        if not match:
            raise InvalidArgumentError(f"filter {text!r}: parse error at {text[position:]!r}")
        path = tuple(_unquote(part) for part in _PARTS.findall(match["field"]))
        selectors.append(_selector(path, match["operator"], _unquote(match["value"] or "")))
        position = match.end()
    return selectors


def _unquote(text: str) -> str:
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except ValueError as error:
        raise InvalidArgumentError(f"filter: bad quoting in {text}") from error


def _selector(path: tuple[str, ...], operator: str | None, value: str) -> Filter:
    if operator is None:
        return lambda fields: fields(path) is not None
    if operator == "==":
        return lambda fields: fields(path) == value
    if operator == "!=":
        return lambda fields: fields(path) != value
    found = any_found((value,), "filter")
    return lambda fields: (field := fields(path)) is not None and found(field)
