"""Attributes of sources, which are texts, as values.

Reference: moby/buildkit, solver/pb/attr.go.
"""

import json
from collections.abc import Mapping, Sequence

from sampan.errors import InvalidArgumentError
from sampan.oci.digest import Digest


def check_attributes(scheme: str, attributes: Mapping[str, str], known: Sequence[str]) -> None:
    """Refuse what nobody would look at. Raises InvalidArgumentError, naming the attribute."""
    for name in attributes:
        if name not in known and not any(each.endswith(".") and name.startswith(each) for each in known):
            raise InvalidArgumentError(f"source {scheme}:// does not know the attribute {name}")


def flag(attributes: Mapping[str, str], name: str) -> bool:
    """Return an attribute that is a yes or no."""
    return attributes.get(name, "") in ("true", "1")


def texts(attributes: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Return an attribute that is a JSON list of texts. Raises InvalidArgumentError: it is none."""
    if not attributes.get(name):
        return ()
    try:
        found = json.loads(attributes[name])
    except ValueError as error:
        raise InvalidArgumentError(f"invalid {name} {attributes[name][:100]!r}: {error}") from error
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise InvalidArgumentError(f"invalid {name} {attributes[name][:100]!r}: not a list of texts")
    return tuple(found)


def number(attributes: Mapping[str, str], name: str, default: int = 0) -> int:
    """Return an attribute that is a number, as Go writes one: octal after a 0. Raises InvalidArgumentError."""
    text = attributes.get(name, "")
    if not text:
        return default
    try:
        value = int(text, 8 if text.startswith("0") and text.isdigit() else 0)
    except ValueError:
        raise InvalidArgumentError(f"invalid {name} {text[:100]!r}: not a number") from None
    if value < 0:
        raise InvalidArgumentError(f"invalid {name} {text[:100]!r}: negative")
    return value


def digest(attributes: Mapping[str, str], name: str) -> Digest | None:
    """Return an attribute that is a digest, None if it is not there. Raises InvalidArgumentError: it is none."""
    text = attributes.get(name, "")
    return Digest.parse(text) if text else None
