"""What requests about images carry: a platform, JSON in the query; credentials, in a header or in the body of /auth."""

import base64
import binascii

from dockerapi.http.decode import decode, shown
from dockerapi.http.fields import Fields
from sampan.errors import InvalidArgumentError
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


def from_header(text: str) -> Credentials | None:
    """Decode ``X-Registry-Auth``: base64 in the URL alphabet, with padding or without; None if there is nothing in it.

    Raises:
        InvalidArgumentError: not base64 of a JSON object.
    """
    if not text:
        return None
    plain = text.replace("+", "-").replace("/", "_").rstrip("=")
    what = "invalid X-Registry-Auth header: expected JSON in base64url"
    try:
        document = base64.urlsafe_b64decode(plain + "=" * (-len(plain) % 4))
    except (binascii.Error, ValueError):
        raise InvalidArgumentError(what) from None
    decoded = decode(document, what)
    if not isinstance(decoded, dict):
        raise InvalidArgumentError("invalid X-Registry-Auth header: expected a JSON object")
    return from_json(Fields(decoded, "X-Registry-Auth."))


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
