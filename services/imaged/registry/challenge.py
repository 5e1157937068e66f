"""How and where a registry wants to be asked: ``WWW-Authenticate``, and the URLs that it names.

URLs lead to its token server and its storage. They come from strangers, and are asked from inside.
Reference: RFC 9110, sections 11.3 and 11.6.1.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import SplitResult, urlsplit

from sampan.errors import RemoteError


def split_url(url: str, what: str) -> SplitResult:
    """Return the parts of a URL that may be talked to; ``what`` says in errors who names it.

    Raises:
        RemoteError: not http or https, no host, or a link-local address, where clouds keep their metadata services.
    """
    shown = repr(url[:200])
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for one that is no number
    except ValueError as error:
        raise RemoteError(f"{what} {shown}, which is not a URL") from error
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host:
        raise RemoteError(f"{what} {shown}, which is not http or https")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise RemoteError(f"{what} {shown}, which is not a URL")
    if is_link_local(host):
        raise RemoteError(f"{what} the link-local address {shown}")
    return parts


def is_link_local(name: str) -> bool:
    """Say whether a host name or address is a link-local address."""
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_link_local


_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER: Final = re.compile(rf'\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))')
_SCHEME: Final = re.compile(rf"\s*({_WORD})(?=\s|,|$)")
_SEPARATOR: Final = re.compile(r"\s*,\s*|\s+")
_MAX_LENGTH: Final = 8192


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate: a scheme, in lower case, and its parameters."""

    scheme: str
    parameters: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str:
        """Return a parameter, empty if it is not there."""
        return next((value for key, value in self.parameters if key == name), "")

    @classmethod
    def parse_all(cls, text: str) -> tuple[Self, ...]:
        """Return the challenges of a header, or of several joined by commas; what makes no sense is skipped."""
        return tuple(cls._scan(text[:_MAX_LENGTH]))

    @classmethod
    def _scan(cls, text: str) -> Iterator[Self]:
        scheme = ""
        parameters: list[tuple[str, str]] = []
        position = 0
        while position < len(text):
            # "a=b" goes with the scheme before it; a word without "=" begins the next challenge.
            if scheme and (match := _PARAMETER.match(text, position)):
                quoted = match[2]
                value = match[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                parameters.append((match[1].lower(), value))
            elif match := _SCHEME.match(text, position):
                if scheme:
                    yield cls(scheme, tuple(parameters))
                scheme, parameters = match[1].lower(), []
            else:
                match = _SEPARATOR.match(text, position)
            position = match.end() if match else position + 1
        if scheme:
            yield cls(scheme, tuple(parameters))
