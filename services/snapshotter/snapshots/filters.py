"""containerd's filters: which snapshots a List is about.

A filter is selectors joined by commas, all of which must hold; of several filters one must. A selector is a field
(``name``, ``parent``, ``kind``, ``labels.<name>``), alone for "is there", or with ``==``, ``!=`` or ``~=`` (a regular
expression, anywhere in the value) and a value, which may be quoted.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.pattern import any_found
from snapshotter.model import Snapshot

Match = Callable[[Snapshot], bool]

_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_SELECTOR: Final = re.compile(
    rf"(?P<field>\w+)(?:\.(?P<part>{_QUOTED}|[^,=!~\"]+))?(?:(?P<operator>==|!=|~=)(?P<value>{_QUOTED}|[^,\"]*))?"
)


def parse(filters: Sequence[str]) -> Match:
    """Return a test of a snapshot; without filters it lets all pass.

    Raises:
        InvalidArgumentError: a malformed filter, an unknown field, a regular expression that is none.
    """
    tests = [_parse(text) for text in filters]
    return lambda snapshot: not tests or any(test(snapshot) for test in tests)


def _parse(text: str) -> Match:
    selectors: list[Match] = []
    at = 0
    while at < len(text):
        match = _SELECTOR.match(text, at)
        if match is None or (match.end() < len(text) and text[match.end()] != ","):
            raise InvalidArgumentError(f"filter {text!r} is malformed at {text[at : at + 40]!r}")
        selectors.append(_selector(match, text))
        at = match.end() + 1
    return lambda snapshot: all(selector(snapshot) for selector in selectors)


def _selector(match: re.Match[str], text: str) -> Match:
    field, part, operator = match["field"], _unquoted(match["part"], text), match["operator"]
    wanted = _unquoted(match["value"], text)
    if field not in ("name", "parent", "kind", "labels") or (field == "labels") != bool(part):
        raise InvalidArgumentError(
            f"filter {text!r} has an unknown field: known are name, parent, kind and labels.<name>"
        )
    compare: Callable[[str], bool]
    if operator == "~=":
        compare = any_found((wanted,), f"filter {text!r}")
    elif operator == "==":
        compare = wanted.__eq__
    elif operator == "!=":
        compare = wanted.__ne__
    else:
        compare = bool
    return lambda snapshot: bool(compare(_value(snapshot, field, part)))


def _value(snapshot: Snapshot, field: str, part: str) -> str:
    if field == "labels":
        return snapshot.labels.get(part, "")
    return {"name": snapshot.key, "parent": snapshot.parent or "", "kind": snapshot.kind.value}[field]


def _unquoted(value: str | None, text: str) -> str:
    if value is None or not value.startswith('"'):
        return value or ""
    try:
        return str(json.loads(value))
    except ValueError:
        raise InvalidArgumentError(f"filter {text!r} has a malformed string {value}") from None
