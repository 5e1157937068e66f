"""URLs that a registry names: its token server, its storage. They come from strangers, and are asked from inside."""

import ipaddress
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
