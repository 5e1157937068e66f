"""What of a request may be written down: no value of a variable, no password, and nothing of endless length."""

import re
from collections.abc import Mapping
from typing import Final

HIDDEN: Final = "***"

_LONGEST_TEXT: Final = 500
_MOST_ITEMS: Final = 50
_DEEPEST: Final = 8

# Keys, in any case, whose values are nobody's business.
_SECRET: Final = re.compile(r"passw|passphrase|secret|token|credential|^auth$|apikey|api_key|private", re.IGNORECASE)

# Lists of NAME=value, and mappings from names to values.
_VARIABLES: Final = frozenset(("env", "buildargs", "secrets", "frontendattrs"))

# Within a text: options of a volume, a log driver's address, a URL with a password.
_IN_TEXT: Final = re.compile(r"((?:passw(?:or)?d|pwd|secret|token|key)\s*[=:]\s*)[^\s,;&]+", re.IGNORECASE)
_IN_URL: Final = re.compile(r"(\w+://[^/\s:@]*:)[^/\s@]+@")


def redacted(value: object, key: str = "", depth: int = 0) -> object:
    """Return a JSON value as it may be written down; ``key`` is what it stood under."""
    folded = key.lower().replace("_", "")
    if value in (None, "", [], {}, False):
        return value
    if folded in _VARIABLES:
        return _without_values(value)
    if key and _SECRET.search(key):
        return HIDDEN
    if depth >= _DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        some = list(value.items())[:_MOST_ITEMS]
        return {name[:_LONGEST_TEXT]: redacted(item, name, depth + 1) for name, item in some if not _says_nothing(item)}
    if isinstance(value, list):
        shown = [redacted(item, "", depth + 1) for item in value[:_MOST_ITEMS]]
        return shown if len(value) <= _MOST_ITEMS else [*shown, f"… {len(value) - _MOST_ITEMS} more"]
    return redacted_text(value) if isinstance(value, str) else value


def redacted_text(text: str) -> str:
    """Return a text without what looks like a password, and not longer than a few lines."""
    text = _IN_URL.sub(rf"\1{HIDDEN}@", _IN_TEXT.sub(rf"\1{HIDDEN}", text[: _LONGEST_TEXT + 200]))
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


def _without_values(value: object) -> object:
    if isinstance(value, list):
        some = [item.partition("=") if isinstance(item, str) else (HIDDEN, "", "") for item in value[:_MOST_ITEMS]]
        return [f"{name}={HIDDEN}" if equals else name for name, equals, _ in some]
    if isinstance(value, Mapping):
        return dict.fromkeys(list(value)[:_MOST_ITEMS], HIDDEN)
    return HIDDEN


def _says_nothing(value: object) -> bool:
    return value is None or value in ("", [], {}, 0, False)
