"""What an engine's networks and sandboxes are: in memory, in records, and in the kernel's rules."""

import asyncio
import functools
import weakref
from collections.abc import Collection, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Protocol

from runtimed.network.core import ipam, plan, ports, sandboxes
from runtimed.network.core.container_files import HostFiles
from runtimed.network.core.model import (
    BRIDGE,
    OPTION_HOST_BINDING,
    Attached,
    Network,
    Pool,
    Sandbox,
)
from runtimed.network.core.names import KernelNames
from runtimed.network.core.sandboxes import SandboxFiles
from runtimed.network.core.store import NetworkStore
from runtimed.network.dns.server_pool import ServerPool
from runtimed.network.kernel import conntrack, rules
from runtimed.network.kernel.dataplane import Dataplane, Wire
from runtimed.network.kernel.firewall import Firewall
from runtimed.network.kernel.guard import Guard
from runtimed.protocol import Publish
from sampan.cancellation import to_the_end
from sampan.errors import ConflictError, NotFoundError
from sampan.log import log
from sampan.resource.container import Container, NetworkSettings, PublishedPort
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


class NetworkState:
    """Networks and the sandboxes of running containers, for all that works on them.

    It changes its own memory only between awaits.
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
        self.dns_servers: Final = ServerPool(self.sandboxes, host)
        self._firewall = Firewall(names.table)
        self._guard = Guard(names.table, table, self._restore_rules)
        self._applied = ""  # the rules that the kernel has
        self._admitted: tuple[str, ...] | None = None  # the bridges that the machine's firewall lets through
        self._applying = asyncio.Lock()
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._leaving: dict[
            tuple[str, str], asyncio.Task[None]
        ] = {}  # interfaces on their way out, by network, address

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

    async def free_pool(self) -> Pool:
        """Choose addresses that nobody uses; hold ``pools_locked``.

        Raises:
            ResourceExhaustedError: every default pool is in use.
        """
        ours = [pool.subnet for network in self.networks.values() for pool in network.pools]
        return ipam.choose_pool([*await asyncio.to_thread(self.dataplane.taken), *ours])
