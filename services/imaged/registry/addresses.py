"""Host names to addresses, without those where clouds keep their secrets."""

import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from imaged.registry.challenge import is_link_local


class HostResolver(AbstractResolver):
    """The system's resolver; link-local addresses are left out.

    A registry names the hosts of its token server and its storage. By a name that resolves to 169.254.169.254 it
    would have the engine talk to the machine's metadata service.
    """

    def __init__(self) -> None:
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raise OSError if no address is left."""
        found = await self._inner.resolve(host, port, family)
        usable = [address for address in found if not is_link_local(address["host"])]
        if not usable:
            raise OSError(None, f"{host} has link-local addresses only")
        return usable

    async def close(self) -> None:
        """Let the inner one go."""
        await self._inner.close()
