"""What a template can call, and how a value looks when it is printed."""

import json as _json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sampan_cli.template.tokens import TemplateError


class GoMap(dict[str, Any]):
    """A map with keys of the user's, such as labels. A missing key is nothing; a missing field is an error."""


@dataclass(frozen=True, slots=True)
class Nil:
    """Go's nil, which prints by its type. In JSON it is null, or no field at all if it is ``omitted``."""

    shown: str
    omitted: bool = False

    def __len__(self) -> int:
        """Count as empty: for ``len``, and for whatever asks whether there is something."""
        return 0


NIL: Final = Nil("<nil>")
NIL_LIST: Final = Nil("[]")
NIL_MAP: Final = Nil("map[]")

# Parts that Docker's JSON does not have where there is nothing to say.
ABSENT: Final = Nil("<nil>", omitted=True)
ABSENT_LIST: Final = Nil("[]", omitted=True)
ABSENT_MAP: Final = Nil("map[]", omitted=True)
ABSENT_TEXT: Final = Nil("", omitted=True)


def show(value: object) -> str:
    """Return ``value`` as Go prints it with ``%v``."""
    if value is None:
        return "<no value>"
    if isinstance(value, Nil):
        return value.shown
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        entries = (f"{key}:{_inner(value[key])}" for key in sorted(value))
        return f"map[{' '.join(entries)}]"
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(map(_inner, value))}]"
    return str(value)


def _inner(value: object) -> str:
    return "<nil>" if value is None else show(value)


def to_json(value: object) -> str:
    """Return ``value`` as one line of JSON."""
    return _json.dumps(plain(value), separators=(",", ":"), ensure_ascii=False)


def plain(value: object) -> object:
    """Return ``value`` as JSON has it: without functions, and with null for Go's nil."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items() if not _left_out(item)}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, Nil) else value


def _left_out(value: object) -> bool:
    return callable(value) or (isinstance(value, Nil) and value.omitted)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, (list, tuple, str)) and isinstance(key, int):
            if not 0 <= key < len(value):
                raise TemplateError(f"template: error calling index: index out of range: {key}")
            value = value[key]
        elif value in (NIL_MAP, ABSENT_MAP):
            value = None
        elif value is None or isinstance(value, Nil):
            raise TemplateError("template: error calling index: index of untyped nil")
        else:
            raise TemplateError(f"template: error calling index: can't index item of type {type(value).__name__}")
    return value


def _slice(value: Any, *bounds: int) -> Any:
    return value[slice(*bounds)] if len(bounds) != 1 else value[bounds[0] :]


def _join(items: Sequence[Any], separator: str) -> str:
    return separator.join(map(show, items or ()))


def _pad(text: str, before: int, after: int) -> str:
    return f"{' ' * before}{text}{' ' * after}" if text else text


_VERB: Final = re.compile(r"%([-+# 0]*\d*(?:\.\d+)?)([a-zA-Z%])")


def _printf(template: str, *values: Any) -> str:
    left = list(values)

    def replace(match: re.Match[str]) -> str:
        flags, verb = match.groups()
        if verb == "%":
            return "%"
        if not left:
            return f"%!{verb}(MISSING)"
        value = left.pop(0)
        if verb == "q":
            from sampan.dockerfile.words import quoted  # which few templates ask for

            return quoted(show(value))
        return f"%{flags}s" % show(value) if verb in "vs" else f"%{flags}{verb}" % value

    return _VERB.sub(replace, template)


def _equal(first: object, *others: object) -> bool:
    return any(first == other for other in others)


def _all(*values: object) -> object:
    return next((value for value in values if not value), values[-1])


def _any(*values: object) -> object:
    return next((value for value in values if value), values[-1])


FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "json": to_json,
    "join": _join,
    "split": lambda text, separator: text.split(separator),
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
    "title": lambda text: text.title(),
    "pad": _pad,
    "truncate": lambda text, length: text[:length],
    "len": len,
    "index": _index,
    "slice": _slice,
    "print": lambda *values: "".join(map(show, values)),
    "printf": _printf,
    "println": lambda *values: " ".join(map(show, values)) + "\n",
    "not": lambda value: not value,
    "and": _all,
    "or": _any,
    "eq": _equal,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
