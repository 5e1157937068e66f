"""What requests about images carry: a platform, JSON in the query; credentials, in a header or in the body of /auth."""

import base64
from collections.abc import Iterable

from dockerapi.http.decode import decode, shown
from dockerapi.http.fields import Fields
from sampan.errors import InvalidArgumentError
from sampan.log import log
from sampan.resource.image import Credentials


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


def all_from_query(texts: Iterable[str]) -> list[str]:
    """Return the platforms of a parameter that may be there several times. Raises as ``from_query``."""
    return [platform for platform in map(from_query, texts) if platform]


def from_header(text: str) -> Credentials | None:
    """Decode ``X-Registry-Auth``: base64 in the URL alphabet, with padding or without; None if it names nobody.

    What cannot be read means nobody, as for dockerd: clients send ``bnVsbA==``, an empty string's base64 or a text of
    their own when they have no credentials, and a registry that wants some says so.
    """
    plain = text.replace("+", "-").replace("/", "_").rstrip("=")
    try:
        decoded = decode(base64.urlsafe_b64decode(plain + "=" * (-len(plain) % 4)), "X-Registry-Auth")
        return from_json(Fields(decoded, "X-Registry-Auth.")) if isinstance(decoded, dict) else None
    except (ValueError, InvalidArgumentError) as error:
        if text:
            log.warning("X-Registry-Auth cannot be read, and means nobody", error=str(error)[:200])
        return None


def from_json(sent: Fields) -> Credentials | None:
    """Read Docker's ``AuthConfig``; None if it names nobody."""
    username, password = sent.text("username"), sent.text("password")
    if not username and (packed := sent.text("auth")):
        try:
            username, _, password = base64.b64decode(packed).decode().partition(":")
        except ValueError:
            raise InvalidArgumentError("invalid auth: expected base64 of user:password") from None
    credentials = Credentials(
        username=username,
        password=password,
        identity_token=sent.text("identitytoken"),
        registry_token=sent.text("registrytoken"),
    )
    return credentials or None
