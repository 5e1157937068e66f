"""JSON and texts that a client sent, made into what the services can be told, or refused."""

import json
from typing import Any, Final, NoReturn

from sampan.errors import InvalidArgumentError

# Docker's own bodies are a dozen levels deep. Go stops at 10,000, where Python would have run out of stack.
_MAX_DEPTH: Final = 100
# Each value but the first follows a comma or a bracket; empty lists alone would take half a gigabyte otherwise.
_MAX_VALUES: Final = 500_000


def decode(raw: bytes | str, what: str) -> Any:
    """Parse JSON as Go does: what is no UTF-8, half of a surrogate pair for one, becomes U+FFFD; NaN is no number.

    Args:
        raw: the document.
        what: begins the sentence of a refusal, such as ``invalid JSON``.

    Raises:
        InvalidArgumentError: it is malformed, too deep, or holds too many values.
    """
    text = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
    if text.count(",") + text.count("[") + text.count("{") > _MAX_VALUES:
        raise InvalidArgumentError(f"{what}: more than {_MAX_VALUES} values")
    try:
        value = json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise InvalidArgumentError(f"{what}: exceeded max depth") from None
    except ValueError as error:
        raise InvalidArgumentError(f"{what}: {error}") from error
    return _well_formed(value, what, 0)


def well_formed(text: str) -> str:
    """Return ``text`` with U+FFFD for every half of a surrogate pair, as Go reads it; no service can be told of these.

    They come from escapes in JSON, and from bytes in a URL or a header that are no UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def shown(value: object) -> str:
    """Return a value as an error quotes it: not longer than a line."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _well_formed(value: Any, what: str, depth: int) -> Any:
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, (dict, list)) and depth >= _MAX_DEPTH:
        raise InvalidArgumentError(f"{what}: exceeded max depth")
    if isinstance(value, dict):
        return {well_formed(key): _well_formed(item, what, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_well_formed(item, what, depth + 1) for item in value]
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"invalid character '{name[0]}' looking for beginning of value")
