"""The network side of containers: namespaces, endpoints, published ports. Satisfies ``protocol.Networking``.

Order of work at attach, so that a crash anywhere leaves nothing unknown: addresses and ports are taken in memory, the
sandbox's record is written, then the kernel is changed, rules last. Detach goes the other way. What was taken in memory
only is free after a crash; what the kernel has is in a record, and ``recover`` compares the two.
"""

import asyncio
import functools
import socket
import weakref
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Protocol, Self

from runtimed.containers.hostname import hostname_of
from runtimed.network.core import ipam, plan, ports, recovery, sandboxes
from runtimed.network.core.container_files import HostFiles, compose
from runtimed.network.core.model import (
    BRIDGE,
    CONTAINER_PREFIX,
    HOST,
    OPTION_HOST_BINDING,
    Attached,
    Network,
    Pool,
    Sandbox,
)
from runtimed.network.core.names import KernelNames, new_id
from runtimed.network.core.sandboxes import SandboxFiles
from runtimed.network.core.store import NetworkStore, predefined
from runtimed.network.dns.server_pool import Resolvers, needs_resolver
from runtimed.network.kernel import conntrack, rules
from runtimed.network.kernel.dataplane import Dataplane, Wire, pools_locked
from runtimed.network.kernel.firewall import Firewall
from runtimed.network.kernel.guard import Guard
from runtimed.network.kernel.netns import in_own_thread, to_the_end
from runtimed.protocol import Publish
from sampan.errors import ConflictError, NotFoundError
from sampan.log import log
from sampan.resource.container import Container, NetworkSettings, PublishedPort
from sampan.resource.container_spec import ContainerSpec
from sampan.service.set_aside import SetAside


class RuleTable(Protocol):
    """Something that applies nftables commands; ``nftables.Nftables``."""

    def apply(self, commands: str) -> None:
        """Run them as one transaction; StartError if refused."""

    def again(self) -> None:
        """Run once more what was run last."""

    def is_own(self, port: int) -> bool:
        """Say whether a netlink socket of ours has this port ID."""

    def close(self) -> None:
        """Let go of it; rules stay."""


class NetworkStack:
    """An engine's networks and the sandboxes of its running containers.

    Enter it, then call ``recover``. It changes its own memory only between awaits, so calls for different containers
    may overlap freely; calls for one container take turns.
    """

    def __init__(
        self,
        *,
        names: KernelNames,
        run: Path,
        store: NetworkStore,
        table: RuleTable,
        publish: Publish,
        set_aside: SetAside,
        host: HostFiles = HostFiles(),  # noqa: B008  # frozen
    ) -> None:
        """Keep records and namespaces below directory ``run``; ``table`` is closed with the stack."""
        self.store: Final = store
        self.dataplane: Final = Dataplane(names)
        self.networks: Final[dict[str, Network]] = {}  # by ID
        self.sandboxes: Final[dict[str, Sandbox]] = {}  # by container ID
        self.publish: Final = publish
        self.set_aside: Final = set_aside
        self.names: Final = names
        self.files_of: Final = SandboxFiles(run)
        self.ports: Final = ports.PortTable()
        self._table = table
        self._host = host
        self.resolvers: Final = Resolvers(self.sandboxes, host)
        self._firewall = Firewall(names.table)
        self._guard = Guard(names.table, table, self._restore_rules)
        self._applied = ""  # the rules that the kernel has
        self._admitted: tuple[str, ...] | None = None  # the bridges that the machine's firewall lets through
        self._applying = asyncio.Lock()
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._leaving: dict[
            tuple[str, str], asyncio.Task[None]
        ] = {}  # interfaces on their way out, by network, address

    async def __aenter__(self) -> Self:
        """Load what there is, and make the predefined networks if there are none."""
        self.files_of.create()
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
        await self.resolvers.close()
        self.ports.close()
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
        async with self.turn(container.id):
            await self._drop(container.id)  # of an attach whose caller never heard the end of it
            try:
                sandbox = await to_the_end(self._build(container))
            except BaseException:
                await to_the_end(self._drop(container.id))
                raise
        for attached in sandbox.endpoints:
            self.announce("connect", self.networks[attached.state.network_id], container.id)
        return self.settings(container)

    async def detach(self, container_id: str) -> None:
        """See ``Networking.detach``."""
        async with self.turn(container_id):
            sandbox = await to_the_end(self._drop(container_id))
        for attached in sandbox.endpoints if sandbox else ():
            network = self.networks.get(attached.state.network_id)
            if network is not None:
                self.announce("disconnect", network, container_id)

    async def files(self, container: Container, settings: NetworkSettings) -> Mapping[str, bytes]:
        """See ``Networking.files``."""
        mode = plan.network_mode(container.spec)
        owner = mode.removeprefix(CONTAINER_PREFIX) if mode.startswith(CONTAINER_PREFIX) else container.id
        sandbox = self.sandboxes.get(owner)
        if sandbox is None:
            raise ConflictError(f"container {owner} is not connected: {len(settings.endpoints)} networks are recorded")
        others = tuple(self.sandboxes.values())
        gateway = str(self.default.pools[0].gateway)
        return await asyncio.to_thread(compose, container, sandbox, self._host, host_gateway=gateway, others=others)

    async def renamed(self, container_id: str, name: str) -> None:
        """See ``Networking.renamed``."""
        async with self.turn(container_id):
            sandbox = self.sandboxes.get(container_id)
            if sandbox is not None:
                self.keep(plan.renamed(sandbox, name))

    async def recover(self, running: Collection[Container]) -> None:
        """See ``Networking.recover``."""
        self._guard.start()
        await recovery.recover(self, running)

    # -- shared with operations on networks ----------------------------------------------------------------------------

    def turn(self, container_id: str) -> asyncio.Lock:
        """Return the lock under which one container's network changes."""
        return self._locks.setdefault(container_id, asyncio.Lock())

    def resolve(self, reference: str) -> Network:
        """Return the network with this ID, name, or unambiguous prefix of an ID.

        Raises:
            NotFoundError: there is none.
            ConflictError: several have the prefix.
        """
        if reference in self.networks:
            return self.networks[reference]
        by_name = [network for network in self.networks.values() if network.name == reference]
        found = by_name or [n for n in self.networks.values() if reference and n.id.startswith(reference)]
        if not found:
            raise NotFoundError(f"network {reference} not found")
        if len(found) > 1:
            raise ConflictError(f"network {reference} is ambiguous ({len(found)} matches found on ID prefix)")
        return found[0]

    @property
    def default(self) -> Network:
        """The network of containers that name none."""
        return next(network for network in self.networks.values() if network.name == BRIDGE)

    def in_use(self, network_id: str) -> set[IPv4Address]:
        """Return the addresses that containers have on a network."""
        endpoints = (sandbox.on(network_id) for sandbox in self.sandboxes.values())
        return {IPv4Address(a.state.ipv4_address) for a in endpoints if a is not None and a.state.ipv4_address}

    def wires(self, endpoints: Collection[Attached]) -> tuple[Wire, ...]:
        """Return those endpoints that are interfaces, each with its network."""
        return tuple(Wire(a, self.networks[a.state.network_id]) for a in endpoints if a.veth)

    def settings(self, container: Container) -> NetworkSettings:
        """Return the settings of a container that has a sandbox."""
        sandbox = self.sandboxes[container.id]
        path = str(self.files_of.namespace(container.id)) if sandbox.owns_namespace else ""
        exposed = ports.exposed_only(container.spec, sandbox.ports) if sandbox.target else ()
        return plan.settings(sandbox, path, exposed)

    def keep(self, sandbox: Sandbox) -> None:
        """Make this the container's sandbox, in memory and on disk."""
        self.sandboxes[sandbox.container_id] = sandbox
        self.files_of.write(sandbox)

    def reserve_ports(self, container: Container, sandbox: Sandbox) -> tuple[PublishedPort, ...]:
        """Take the host ports that a container publishes, if one of its networks leads out.

        Raises:
            StartError: one is taken.
        """
        target = sandbox.target
        if target is None:
            return ()
        default = self.networks[target.state.network_id].options.get(OPTION_HOST_BINDING, "")
        endpoint = f"{container.name} ({target.state.endpoint_id})"
        return self.ports.reserve(container.id, ports.requests(container.spec, default), endpoint)

    async def left(self, network_id: str, address: str) -> None:
        """Wait until an interface that was just taken down with this address is really gone."""
        leaving = self._leaving.get((network_id, address))
        if leaving is not None:
            await asyncio.wait((leaving,))

    def announce(self, action: str, network: Network, container_id: str = "") -> None:
        """Publish a network event."""
        attributes = {"name": network.name, "type": network.driver}
        if container_id:
            attributes["container"] = container_id
        self.publish("network", action, network.id, attributes)

    async def apply_rules(self) -> None:
        """Make the kernel's rules those that follow from networks and sandboxes.

        Raises:
            StartError: the kernel refused them.
        """
        async with self._applying:
            bridges = sandboxes.bridges(self.networks.values())
            text = rules.table(self.names.table, bridges, sandboxes.forwardings(self.sandboxes.values()))
            if text != self._applied:
                publishing = sandboxes.publishing(self.networks.values(), self.sandboxes.values())
                carries = {bridge.name: bridge.name in publishing for bridge in bridges}
                await to_the_end(asyncio.to_thread(self._apply_now, text, carries))
                self._applied = text
            admitted = tuple(bridge.name for bridge in bridges)
            if admitted != self._admitted:
                await asyncio.to_thread(self._firewall.admit, admitted)
                self._admitted = admitted

    async def apply_table(self) -> None:
        """Put our table in force ahead of everything else; ``apply_rules`` does it again, with what belongs to it."""
        bridges = sandboxes.bridges(self.networks.values())
        text = rules.table(self.names.table, bridges, sandboxes.forwardings(self.sandboxes.values()))
        await to_the_end(asyncio.to_thread(self._table.apply, text))

    def _apply_now(self, text: str, carries: Mapping[str, bool]) -> None:
        self._table.apply(text)
        self.dataplane.carry_localhost(carries)

    async def ports_changed(self, changed: Collection[PublishedPort]) -> None:
        """Make the rules follow: these ports were published, lead elsewhere, or are published no more.

        Raises:
            StartError: the kernel refused.
        """
        if changed:
            await self.apply_rules()
        udp = {(IPv4Address(port.host_ip), port.host_port) for port in changed if port.protocol == "udp"}
        if udp:
            try:
                await to_the_end(asyncio.to_thread(conntrack.forget_udp, udp))
            except OSError as error:
                log.warning("flows through published ports could not be ended", error=str(error))

    async def _restore_rules(self) -> None:
        self._applied, self._admitted = "", None
        await self.apply_rules()

    # -- inside --------------------------------------------------------------------------------------------------------

    async def _build(self, container: Container) -> Sandbox:
        sandbox = self._plan(container)
        self.sandboxes[container.id] = sandbox
        for attached in sandbox.endpoints:
            await self.left(attached.state.network_id, attached.state.ipv4_address)
        if not sandbox.owns_namespace:
            self.keep(sandbox)
            return sandbox
        sandbox = replace(sandbox, ports=self.reserve_ports(container, sandbox))
        target = sandbox.target
        self.keep(sandbox)
        path, wires = self.files_of.namespace(container.id), self.wires(sandbox.endpoints)
        gateway = IPv4Address(target.state.gateway) if target else None
        await in_own_thread(lambda: self.dataplane.build(path, wires, gateway), f"netns-{container.short_id}")
        await self.ports_changed(sandbox.ports)
        if needs_resolver(sandbox):
            await self.resolvers.start(container.id, path, container.spec.dns)
        return sandbox

    def _plan(self, container: Container) -> Sandbox:
        endpoints: list[Attached] = []
        for endpoint in plan.wanted(container.spec):
            network = self.resolve(endpoint.network)
            in_use = self.in_use(network.id) if network.driver == BRIDGE else ()
            endpoints.append(plan.connect(network, endpoint, container, in_use, plan.next_interface(endpoints)))
        return Sandbox(
            container_id=container.id,
            container_name=container.name,
            hostname=hostname_of(container, socket.gethostname()),
            sandbox_id=new_id(),
            owns_namespace=plan.network_mode(container.spec) != HOST,
            endpoints=tuple(endpoints),
            gateway_endpoint=plan.gateway_endpoint(endpoints),
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
        await self.resolvers.stop(container_id)
        await self.ports_changed(sandbox.ports)
        self.ports.release(container_id)
        await asyncio.to_thread(self.dataplane.tear_down, self.files_of.namespace(container_id))
        self.let_go(sandbox.endpoints)
        self.files_of.remove(container_id)
        return sandbox

    def let_go(self, endpoints: Collection[Attached]) -> None:
        """Delete interfaces in the background: it takes the kernel a grace period of 10 ms and more.

        Mostly the namespace's end has deleted them by then. Not so if another process is still in it.
        """
        for attached in endpoints:
            if attached.veth:
                key = (attached.state.network_id, attached.state.ipv4_address)
                task = asyncio.create_task(asyncio.to_thread(self.dataplane.delete_links, (attached.veth,)))
                self._leaving[key] = task
                task.add_done_callback(functools.partial(self._gone, key))

    def _gone(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        if self._leaving.get(key) is task:
            del self._leaving[key]
        if not task.cancelled() and task.exception() is not None:
            log.warning("interface could not be deleted", address=key[1], error=str(task.exception()))

    async def _predefine(self) -> None:
        async with pools_locked():
            networks = predefined(await self.free_pool(), self.names.default_bridge, datetime.now(UTC))
            await self.store.add(*networks)
            self.networks.update((network.id, network) for network in networks)
            await asyncio.to_thread(self.dataplane.make_bridge, self.default)

    async def _redefine(self) -> None:
        """Define those of the predefined networks anew whose records cannot be read: nothing in them is a user's."""
        broken = [each for each in self.networks.values() if each.fault and each.predefined]
        if not broken:
            return
        async with pools_locked():
            fresh = predefined(await self.free_pool(), self.names.default_bridge, datetime.now(UTC))
        for network in broken:
            (made,) = (replace(one, id=network.id) for one in fresh if one.name == network.name)
            log.warning("network defined anew", network=network.name, reason=network.fault)
            await self.store.redefine(made)
            self.networks[network.id] = made

    async def free_pool(self) -> Pool:
        """Choose addresses that nobody uses; hold ``pools_locked``.

        Raises:
            ResourceExhaustedError: every default pool is in use.
        """
        ours = [pool.subnet for network in self.networks.values() for pool in network.pools]
        return ipam.choose_pool([*await asyncio.to_thread(self.dataplane.taken), *ours])

    async def _purge(self) -> None:
        for network in self.networks.values():
            if network.driver == BRIDGE:
                await asyncio.to_thread(self.dataplane.remove_bridge, network)
        await asyncio.to_thread(self._table.apply, rules.drop(self.names.table))
        await asyncio.to_thread(self._firewall.admit, ())
