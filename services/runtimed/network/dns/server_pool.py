"""The DNS servers of all running containers, and whom they ask."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from runtimed.network.core.container_files import HostFiles
from runtimed.network.core.files import FALLBACK_SERVERS
from runtimed.network.core.model import Sandbox
from runtimed.network.dns.directory import Directory
from runtimed.network.dns.server import DnsServer, Forward, Sockets, open_sockets
from runtimed.network.dns.upstream import exchange
from sampan.errors import SampanError
from sampan.log import log
from sampan.resource.container_spec import Dns
from sampan.sys import netns
from sampan.sys.netns import in_own_thread

_FRESH_S: Final = 5.0  # how long the host's resolv.conf is taken for unchanged


def needs_server(sandbox: Sandbox) -> bool:
    """Tell whether a container is on a network on which names resolve."""
    return any(attached.state.dns_names for attached in sandbox.endpoints)


class ServerPool:
    """Starts and stops them; owns what they do in the background."""

    def __init__(self, sandboxes: Mapping[str, Sandbox], host: HostFiles) -> None:
        self._directory = Directory(sandboxes)
        self._host = host
        self._running: dict[str, DnsServer] = {}
        self._servers: tuple[float, tuple[str, ...]] | None = None  # the host's, and when they were read

    async def start(self, container_id: str, namespace: Path, dns: Dns) -> None:
        """Answer the container's questions; no change if that is so already.

        Args:
            container_id: whose.
            namespace: where it is.
            dns: whom it wants to be asked for names outside.

        Raises:
            OSError, StartError: its sockets could not be opened.
        """
        if container_id in self._running:
            return

        def open_inside() -> Sockets:
            netns.enter(namespace)
            return open_sockets()

        opened = await in_own_thread(open_inside, f"dns-{container_id[:12]}")
        server = DnsServer(container_id, self._directory, self._forward(namespace, dns))
        self._running[container_id] = server
        await server.start(opened)

    async def restart(self, container_id: str, namespace: Path, dns: Dns) -> None:
        """As ``start``, for a container that ran while we did not: a failure is logged, and it goes on without."""
        try:
            await self.start(container_id, namespace, dns)
        except (OSError, SampanError) as error:
            log.warning("container has no name resolution", container=container_id, error=str(error))

    async def stop(self, container_id: str) -> None:
        """Stop; no error if there is none."""
        server = self._running.pop(container_id, None)
        if server is not None:
            await server.close()

    async def close(self) -> None:
        """Stop all."""
        for container_id in tuple(self._running):
            await self.stop(container_id)

    def _forward(self, namespace: Path, dns: Dns) -> Forward:
        async def forward(message: bytes, stream: bool) -> bytes | None:
            if dns.servers:
                # The user's choice may be a server that only the container reaches, over a tunnel of its own.
                return await exchange(message, dns.servers, stream=stream, namespace=namespace)
            # The host's servers are asked from the host: one of them may well be on its loopback.
            return await exchange(message, await self._host_servers(), stream=stream, namespace=None)

        return forward

    async def _host_servers(self) -> tuple[str, ...]:
        now = time.monotonic()
        if self._servers is None or now - self._servers[0] > _FRESH_S:
            found = (await asyncio.to_thread(self._host.resolv)).servers
            self._servers = (now, found or FALLBACK_SERVERS)
        return self._servers[1]
