"""Platforms as the API takes them: JSON in a query parameter."""

from dockerapi.http.decode import decode, shown
from sampan.errors import InvalidArgumentError


def from_query(text: str) -> str:
    """Return ``os/architecture[/variant]`` of a JSON object, empty if there is none.

    Raises:
        InvalidArgumentError: not such an object.
    """
    if not text:
        return ""
    try:
        sent = decode(text, f"invalid platform: {shown(text)} is not a JSON object")
        parts = [sent.get(name) or "" for name in ("os", "architecture", "variant")]
    except AttributeError:
        raise InvalidArgumentError(f"invalid platform: {shown(text)} is not a JSON object") from None
    if not all(isinstance(part, str) for part in parts):
        raise InvalidArgumentError(f"invalid platform: {shown(text)}")
    return "/".join(part for part in parts if part)
