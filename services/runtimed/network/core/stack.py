"""The network side of containers: namespaces, endpoints, published ports. Satisfies ``protocol.Networking``.

Order of work at attach, so that a crash anywhere leaves nothing unknown: addresses and ports are taken in memory, the
sandbox's record is written, then the kernel is changed, rules last. Detach goes the other way. What was taken in memory
only is free after a crash; what the kernel has is in a record, and ``recover`` compares the two.
"""

import asyncio
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Self

from runtimed.containers.hostname import hostname_of
from runtimed.network.core import recovery
from runtimed.network.core.container_files import compose, linked_to
from runtimed.network.core.model import (
    BRIDGE,
    CONTAINER_PREFIX,
    HOST,
    WIRED,
    Attached,
    Sandbox,
)
from runtimed.network.core.names import new_id
from runtimed.network.core.state import NetworkState
from runtimed.network.core.store import predefined
from runtimed.network.dns.server_pool import needs_server
from runtimed.network.kernel import rules
from runtimed.network.kernel.dataplane import Exits, pools_locked
from runtimed.network.planning import plan
from sampan.cancellation import to_the_end
from sampan.docker.options.namespaces import namespace_path
from sampan.errors import ConflictError
from sampan.log import log
from sampan.resource.container import Container, NetworkSettings
from sampan.resource.container_spec import ContainerSpec
from sampan.sys.netns import in_own_thread


class NetworkStack(NetworkState):
    """An engine's networks and the sandboxes of its running containers.

    Enter it, then call ``recover``. It changes its own memory only between awaits, so calls for different containers
    may overlap freely; calls for one container take turns.
    """

    async def __aenter__(self) -> Self:
        """Load what there is, and make the predefined networks if there are none."""
        self.files_of.create()
        await self.kept.fetch()
        self.networks.update((network.id, network) for network in await self.store.all())
        if not self.networks:
            await self._predefine()
        await self._redefine()
        for container_id, sandbox in self.files_of.all().items():
            if sandbox is not None and all(a.state.network_id in self.networks for a in sandbox.endpoints):
                self.sandboxes[container_id] = sandbox
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop. Running containers stay connected; if there are none, nothing of ours stays in the kernel."""
        await asyncio.gather(*self._leaving.values(), return_exceptions=True)
        await self._guard.close()
        await self.dns_servers.close()
        await self.relays.close()
        self.ports.close()
        self.kept.close()
        if not any(sandbox.owns_namespace for sandbox in self.sandboxes.values()):
            await self._purge()
        self._table.close()

    # -- Networking ----------------------------------------------------------------------------------------------------

    async def check(self, spec: ContainerSpec) -> tuple[NetworkSettings, tuple[str, ...]]:
        """See ``Networking.check``."""
        return plan.check(spec, self.resolve)

    async def attach(self, container: Container) -> NetworkSettings:
        """See ``Networking.attach``."""
        mode = plan.network_mode(container.spec)
        if mode.startswith(CONTAINER_PREFIX):
            return self._joined(mode.removeprefix(CONTAINER_PREFIX))
        if path := namespace_path(mode):
            return NetworkSettings(sandbox_path=path)
        async with self.turn(container.id):
            await self._drop(container.id)  # of an attach whose caller never heard the end of it
            try:
                sandbox = await to_the_end(self._build(container))
            except BaseException:
                await to_the_end(self._drop(container.id))
                raise
        for attached in sandbox.endpoints if sandbox.shown else ():
            self.announce("connect", self.networks[attached.state.network_id], container.id)
        return self.settings(container)

    async def detach(self, container_id: str) -> None:
        """See ``Networking.detach``."""
        async with self.turn(container_id):
            sandbox = await to_the_end(self._drop(container_id))
        for attached in sandbox.endpoints if sandbox and sandbox.shown else ():
            network = self.networks.get(attached.state.network_id)
            if network is not None:
                self.announce("disconnect", network, container_id)

    async def files(self, container: Container, settings: NetworkSettings) -> Mapping[str, bytes]:
        """See ``Networking.files``."""
        mode = plan.network_mode(container.spec)
        if namespace_path(mode):
            return {}  # they are the affair of whoever made the namespace
        owner = mode.removeprefix(CONTAINER_PREFIX) if mode.startswith(CONTAINER_PREFIX) else container.id
        sandbox = self.sandboxes.get(owner)
        if sandbox is None:
            raise ConflictError(f"container {owner} is not connected: {len(settings.endpoints)} networks are recorded")
        others = tuple(self.sandboxes.values())
        own = tuple(str(pool.gateway) for pool in self.default.pools)
        gateways = self._host_gateways or own
        return await asyncio.to_thread(compose, container, sandbox, self._host, host_gateways=gateways, others=others)

    def linked(self, container_id: str) -> Mapping[str, Sequence[tuple[str, str]]]:
        """See ``Networking.linked``."""
        sandbox = self.sandboxes.get(container_id)
        return linked_to(sandbox, self.sandboxes.values()) if sandbox is not None else {}

    async def renamed(self, container: Container) -> NetworkSettings | None:
        """See ``Networking.renamed``."""
        async with self.turn(container.id):
            sandbox = self.sandboxes.get(container.id)
            if sandbox is None:
                return None
            self.keep(plan.renamed(sandbox, container.name))
            return self.settings(container)

    async def recover(self, running: Collection[Container]) -> Mapping[str, NetworkSettings]:
        """See ``Networking.recover``."""
        self._guard.start()
        await recovery.recover(self, running)
        return {each.id: self.settings(each) for each in running if recovery.has_left(self, each)}

    # -- inside --------------------------------------------------------------------------------------------------------

    async def _build(self, container: Container) -> Sandbox:
        sandbox = self._plan(container)
        self.sandboxes[container.id] = sandbox
        for attached in sandbox.endpoints:
            await self.left(attached)
        if not sandbox.owns_namespace:
            self.keep(sandbox)
            return sandbox
        sandbox = replace(sandbox, ports=self.reserve_ports(container, sandbox))
        self.keep(sandbox)
        path, wires = self.files_of.namespace(container.id), self.wires(sandbox.endpoints)
        exits = Exits(sandbox.gateway(4), sandbox.gateway(6))
        users = namespace_path(container.spec.namespaces.user)
        await in_own_thread(lambda: self.dataplane.build(path, wires, exits, users), f"netns-{container.short_id}")
        await self.ports_changed(sandbox, sandbox.ports)
        if needs_server(sandbox):
            await self.dns_servers.start(container.id, path, container.spec.dns)
        return sandbox

    def _plan(self, container: Container) -> Sandbox:
        endpoints: list[Attached] = []
        for endpoint in plan.wanted(container.spec):
            network = self.resolve(endpoint.network)
            if any(attached.state.network_id == network.id for attached in endpoints):
                continue  # named by its name and its ID, or recorded twice by an earlier version
            in_use = self.in_use(network.id) if network.driver in WIRED else ()
            endpoints.append(plan.connect(network, endpoint, container, in_use, endpoints))
        return Sandbox(
            container_id=container.id,
            container_name=container.name,
            hostname=hostname_of(container, socket.gethostname()),
            sandbox_id=new_id(),
            owns_namespace=plan.network_mode(container.spec) != HOST,
            endpoints=tuple(endpoints),
            gateway_endpoint=plan.gateway_endpoint(endpoints),
            gateway6_endpoint=plan.gateway_endpoint(endpoints, 6),
        )

    def _joined(self, container_id: str) -> NetworkSettings:
        other = self.sandboxes.get(container_id)
        if other is None:
            raise ConflictError(f"cannot join network of a non running container: {container_id}")
        path = str(self.files_of.namespace(container_id)) if other.owns_namespace else ""
        return NetworkSettings(sandbox_path=path)

    async def _drop(self, container_id: str) -> Sandbox | None:
        sandbox = self.sandboxes.pop(container_id, None)
        if sandbox is None:
            return None
        await self.dns_servers.stop(container_id)
        await self.ports_changed(replace(sandbox, ports=()), sandbox.ports)
        self.ports.release(container_id)
        await asyncio.to_thread(self.dataplane.tear_down, self.files_of.namespace(container_id))
        self.let_go(sandbox.endpoints)
        self.files_of.remove(container_id)
        return sandbox

    async def _predefine(self) -> None:
        async with pools_locked():
            wanted = self.default_bridge
            made = predefined(await self.default_pools(), self.names.default_bridge, datetime.now(UTC))
            networks = [wanted.of(network) if network.driver == BRIDGE else network for network in made]
            await self.store.add(*networks)
            self.networks.update((network.id, network) for network in networks)
            await asyncio.to_thread(self.dataplane.make, self.default)

    async def _redefine(self) -> None:
        """Define those of the predefined networks anew whose records cannot be read: nothing in them is a user's."""
        broken = [each for each in self.networks.values() if each.fault and each.predefined]
        if not broken:
            return
        async with pools_locked():
            fresh = predefined(await self.default_pools(), self.names.default_bridge, datetime.now(UTC))
        for network in broken:
            (made,) = (replace(one, id=network.id) for one in fresh if one.name == network.name)
            made = self.default_bridge.of(made) if made.driver == BRIDGE else made
            log.warning("network defined anew", network=network.name, reason=network.fault)
            await self.store.redefine(made)
            self.networks[network.id] = made

    async def _purge(self) -> None:
        await asyncio.to_thread(self.dataplane.remove, *self.networks.values())
        await asyncio.to_thread(self._table.apply, rules.drop(self.names.table, ipv6=self._ipv6))
        for firewall in self._firewalls[: 2 if self._ipv6 else 1]:
            await asyncio.to_thread(firewall.admit, ())
