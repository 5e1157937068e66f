"""Platforms as the API takes them: JSON in a query parameter."""

import json

from sampan.errors import InvalidArgumentError


def from_query(text: str) -> str:
    """Return ``os/architecture[/variant]`` of a JSON object, empty if there is none.

    Raises:
        InvalidArgumentError: not such an object.
    """
    if not text:
        return ""
    try:
        sent = json.loads(text)
        parts = [sent.get(name) or "" for name in ("os", "architecture", "variant")]
    except (ValueError, AttributeError):
        raise InvalidArgumentError(f"invalid platform: {text!r} is not a JSON object") from None
    if not all(isinstance(part, str) for part in parts):
        raise InvalidArgumentError(f"invalid platform: {text!r}")
    return "/".join(part for part in parts if part)
