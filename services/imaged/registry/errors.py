"""What registries refuse, in the words Docker uses for it.

Reference: OCI distribution spec 1.1, "Error Codes".
"""

import email.utils
import json
import time
from dataclasses import dataclass
from typing import Final

from imaged.registry.challenge import Challenge
from sampan.errors import NotFoundError, PermissionDeniedError, RemoteError, SampanError, UnauthenticatedError
from sampan.oci.reference import Reference

# Seconds; a registry that asks for more is not waited for.
MAX_RETRY_AFTER_S: Final = 60.0

_RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504})

# What a status means where the body does not say.
_CODES: Final = {401: "UNAUTHORIZED", 403: "DENIED", 404: "NOT_FOUND", 429: "TOOMANYREQUESTS"}
_TEXTS: Final = {
    "UNAUTHORIZED": "authentication required",
    "DENIED": "requested access to the resource is denied",
    "TOOMANYREQUESTS": "too many requests",
    "MANIFEST_UNKNOWN": "manifest unknown",
    "NAME_UNKNOWN": "repository name not known to registry",
    "BLOB_UNKNOWN": "blob unknown to registry",
}
_DENIED: Final = "DENIED"
_NOT_HERE: Final = frozenset({"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND"})


class TransportError(RemoteError):
    """The other side could not be reached, or broke off; trying again may help."""


@dataclass(eq=False)
class Refusal(Exception):  # noqa: N818  # what the registry says; whoever knows the reference makes an error of it
    """An answer with an error status. Not frozen, since raising writes to an exception."""

    method: str
    url: str
    status: int
    code: str  # "MANIFEST_UNKNOWN"
    message: str
    retry_after_s: float | None
    challenges: tuple[Challenge, ...]

    @property
    def retriable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in _RETRIED and (self.retry_after_s or 0) <= MAX_RETRY_AFTER_S

    @property
    def text(self) -> str:
        """Code and message as Docker prints them: ``manifest unknown: manifest unknown``."""
        return f"{self.code.lower().replace('_', ' ')}: {self.message}"

    def __str__(self) -> str:
        return f'{self.method} "{self.url}": {self.text}'

    def as_error(self, reference: Reference) -> SampanError:
        """Return what to tell whoever wanted ``reference``."""
        name = reference.familiar_name
        if self.code == _DENIED:
            return NotFoundError(
                f"pull access denied for {name}, repository does not exist or may require 'docker login': {self.text}"
            )
        if self.code == "MANIFEST_UNKNOWN":
            return NotFoundError(f"manifest for {reference.familiar} not found: {self.text}")
        if self.code == "NAME_UNKNOWN":
            return NotFoundError(f"repository {name} not found: {self.text}")
        if self.status == 401:
            return UnauthenticatedError(str(self))
        if self.status == 404:
            return NotFoundError(f"manifest for {reference.familiar} not found: {self.text}")
        return RemoteError(str(self))

    def as_push_error(self) -> SampanError:
        """Return what to tell whoever pushed, in the words that Docker prints."""
        if self.status == 401 and self.code == "UNAUTHORIZED":
            return UnauthenticatedError(self.text)
        if self.status in (401, 403):
            return PermissionDeniedError(self.text)
        return RemoteError(self.text if self.status < 500 else str(self))

    def as_lookup_error(self) -> SampanError:
        """Return what to tell whoever looked at something."""
        if self.code in _NOT_HERE or self.status == 404:
            return NotFoundError(self.text)
        if self.code == _DENIED:
            return PermissionDeniedError(self.text)
        if self.status == 401:
            return UnauthenticatedError(self.text)
        return RemoteError(str(self))


def refusal(method: str, url: str, status: int, headers: dict[str, str], body: bytes) -> Refusal:
    """Make sense of an error answer: the first of the body's errors, or else what the status says."""
    code, message = _parse_body(body)
    code = code or _CODES.get(status, "UNKNOWN")
    challenges = Challenge.parse_all(headers.get("www-authenticate", ""))
    if status == 401 and any(c.scheme == "bearer" and c.get("error") == "insufficient_scope" for c in challenges):
        # A token was shown and is good for less than this: Docker calls it denied, whatever the body says.
        code, message = _DENIED, _TEXTS[_DENIED]
    message = message or _TEXTS.get(code, f"unexpected status code {status}")
    retry_after_s = _retry_after(headers.get("retry-after", ""))
    if status in _RETRIED and (retry_after_s or 0) > MAX_RETRY_AFTER_S:
        message += f" (try again in {retry_after_s:.0f} seconds)"
    return Refusal(method, url, status, code, message, retry_after_s, challenges)


def _parse_body(body: bytes) -> tuple[str, str]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(answer, dict):
        return "", ""
    errors = answer.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else {}
    if not isinstance(first, dict) or not first:
        # Token servers also answer in the manner of OAuth2, or with "details" alone.
        details = answer.get("details") or answer.get("error_description") or answer.get("message")
        return "", _printable(details)
    return _printable(first.get("code")).upper(), _printable(first.get("message"))


def _printable(text: object) -> str:
    if not isinstance(text, str):
        return ""
    return "".join(c if c.isprintable() else " " for c in text[:500])


def _retry_after(text: str) -> float | None:
    """Parse ``Retry-After`` in either form: seconds, or a date."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time())
