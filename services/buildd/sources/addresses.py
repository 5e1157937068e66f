"""Where downloads may lead: names of hosts to addresses, and which addresses a redirect may go to.

A public server must not be able to send the builder to what only this host and its networks can reach.
"""

import ipaddress
import socket
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from sampan.errors import PermissionDeniedError


@dataclass(slots=True)
class Hop:
    """One request on the way to a file."""

    public_only: bool  # it may go to public addresses alone
    public: bool = False  # it went to one


# The request that is being sent.
HOP: Final[ContextVar[Hop | None]] = ContextVar("hop", default=None)


class RefusedAddressError(OSError):
    """A host that has no address that may be talked to."""


class HostResolver(AbstractResolver):
    """The system's resolver, without addresses that may not be talked to."""

    def __init__(self) -> None:
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raise OSError if no address is left."""
        found = await self._inner.resolve(host, port, family)
        hop = HOP.get() or Hop(public_only=False)
        usable = [each for each in found if is_allowed(each["host"], public_only=hop.public_only)]
        hop.public = any(is_public(each["host"]) for each in usable)
        if not usable:
            raise RefusedAddressError(None, f"{host} has no address that may be talked to")
        return usable

    async def close(self) -> None:
        """Let the inner one go."""
        await self._inner.close()


def is_allowed(address: str, *, public_only: bool) -> bool:
    """Say whether an address may be talked to: never a link-local one, where clouds keep their secrets."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    if parsed.is_link_local:
        return False
    return not public_only or is_public(address)


def is_public(address: str) -> bool:
    """Say whether an address is one of the internet's."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    return parsed.is_global and not parsed.is_multicast


def check_literal(host: str, url: str, hop: Hop) -> None:
    """Look at an address that stands in a URL itself, which no resolver sees. Raises PermissionDeniedError."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return
    if not is_allowed(host, public_only=hop.public_only):
        raise refused(url)
    hop.public = is_public(host)


def refused(url: str) -> PermissionDeniedError:
    """Return what to say of a URL that leads where it may not."""
    return PermissionDeniedError(f"{url} leads to an address that a download must not be led to")
