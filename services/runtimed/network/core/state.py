"""What an engine's networks and sandboxes are: in memory, in records, and in the kernel's rules."""

import asyncio
import contextlib
import functools
import weakref
from collections.abc import Collection, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Protocol

from runtimed.network.core import sandboxes
from runtimed.network.core.container_files import HostFiles
from runtimed.network.core.model import (
    BRIDGE,
    OPTION_HOST_BINDING,
    ROUTED,
    Address,
    Attached,
    Network,
    Pool,
    Sandbox,
    Subnet,
)
from runtimed.network.core.names import KernelNames
from runtimed.network.core.sandboxes import SandboxFiles
from runtimed.network.core.store import NetworkStore
from runtimed.network.dns.server_pool import ServerPool
from runtimed.network.kernel import rules
from runtimed.network.kernel.dataplane import Dataplane, Wire
from runtimed.network.kernel.firewall import Firewall
from runtimed.network.kernel.guard import Guard
from runtimed.network.planning import ipam, plan
from runtimed.network.planning.default_bridge import DefaultBridge
from runtimed.network.publish import conntrack, ports
from runtimed.network.publish.keeping import NOTHING_KEPT, KeptSockets
from runtimed.network.publish.relay import Carried, Relays
from runtimed.protocol import Publish
from sampan.cancellation import to_the_end
from sampan.errors import ConflictError, NotFoundError
from sampan.log import log
from sampan.resource.container import Container, NetworkSettings, PublishedPort
from sampan.service.set_aside import SetAside


class RuleTable(Protocol):
    """Something that applies nftables commands; ``nftables.Nftables``."""

    def apply(self, whole: str, change: str = "") -> None:
        """Run ``whole`` as one transaction, or ``change`` where that leads to the same; StartError if refused."""

    def again(self) -> None:
        """Run once more, as a whole, what was run last."""

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
        pools: Sequence[tuple[Subnet, int]] = (),
        default_bridge: DefaultBridge = DefaultBridge(),  # noqa: B008  # frozen
        host_gateways: Sequence[str] = (),
        kept: KeptSockets = NOTHING_KEPT,
    ) -> None:
        """Keep records and namespaces below directory ``run``; ``table`` is closed with the stack.

        ``pools`` are what networks without addresses of their own get theirs from; a family that has none there uses
        the default ones. ``default_bridge`` is what the configuration says of the network that there always is.
        ``host_gateways`` are what the name host-gateway stands for; without any, that network's own addresses.
        ``kept`` is where sockets are left that have to outlive this process; it is closed with the stack.
        """
        self.store: Final = store
        self.dataplane: Final = Dataplane(names)
        self.networks: Final[dict[str, Network]] = {}  # by ID
        self.sandboxes: Final[dict[str, Sandbox]] = {}  # by container ID
        self.publish: Final = publish
        self.set_aside: Final = set_aside
        self.names: Final = names
        self.files_of: Final = SandboxFiles(run)
        self.kept: Final = kept
        self.ports: Final = ports.PortTable(kept)
        self.relays: Final = Relays()
        self._pools: Final = pools
        self.default_bridge: Final = default_bridge
        self._host_gateways = tuple(host_gateways)
        self._table = table
        self._host = host
        self.dns_servers: Final = ServerPool(self.sandboxes, host)
        self._firewalls = (Firewall(names.table), Firewall(names.table, "ip6tables"))
        self._ipv6 = False  # whether the kernel may have a table of ours for it
        self._guard = Guard(names.table, table, self._restore_rules)
        self._applied: tuple[rules.Table, ...] = ()  # the rules that the kernel has
        self._admitted: tuple[tuple[str, ...], tuple[str, ...]] | None = (
            None  # the bridges that the machine's firewall lets through
        )
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

    def in_use(self, network_id: str) -> set[Address]:
        """Return the addresses that containers have on a network."""
        endpoints = (sandbox.on(network_id) for sandbox in self.sandboxes.values())
        states = [attached.state for attached in endpoints if attached is not None]
        return {ip_address(text) for state in states for text in (state.ipv4_address, state.ipv6_address) if text}

    def wires(self, endpoints: Collection[Attached]) -> tuple[Wire, ...]:
        """Return those endpoints that are interfaces, each with its network."""
        return tuple(Wire(a, self.networks[a.state.network_id]) for a in endpoints if a.interface)

    def settings(self, container: Container) -> NetworkSettings:
        """Return the settings of a container that has a sandbox."""
        sandbox = self.sandboxes[container.id]
        path = str(self.files_of.namespace(container.id)) if sandbox.owns_namespace else ""
        exposed = ports.exposed_only(container.spec, sandbox.ports) if self.leads_out(sandbox) else ()
        return plan.settings(sandbox, path, exposed)

    def keep(self, sandbox: Sandbox) -> None:
        """Make this the container's sandbox, in memory and on disk."""
        self.sandboxes[sandbox.container_id] = sandbox
        self.files_of.write(sandbox)

    def leads_out(self, sandbox: Sandbox) -> bool:
        """Whether ports of the container can be published: one of its networks leads out through a bridge of ours."""
        return any(self._bridged(sandbox, version) for version in (4, 6))

    def _bridged(self, sandbox: Sandbox, version: int) -> Network | None:
        target = sandbox.gateway(version)
        network = self.networks[target.state.network_id] if target is not None else None
        return network if network is not None and network.driver == BRIDGE else None

    def reserve_ports(self, container: Container, sandbox: Sandbox) -> tuple[PublishedPort, ...]:
        """Take the host ports that a container publishes, if one of its networks leads out.

        Raises:
            StartError: one is taken.
        """
        v4, v6 = self._bridged(sandbox, 4), self._bridged(sandbox, 6)
        target = sandbox.gateway(4) if v4 else sandbox.gateway(6)
        first = v4 or v6
        if target is None or first is None:
            return ()
        wanted = ports.requests(container.spec, first.options.get(OPTION_HOST_BINDING, ""))
        if not wanted:
            return ()
        routed = {
            version for version, network in ((4, v4), (6, v6)) if network and network.gateway_mode(version) == ROUTED
        }
        # A container that has no address of a family is still reached by it, through a relay, if its ports are the
        # host's.
        carried = v4 is not None and 4 not in routed
        reach = ports.Reach(v4 is not None, ports.hosts_ipv6() and (v6 is not None or carried), frozenset(routed))
        endpoint = f"{container.name} ({target.state.endpoint_id})"
        return self.ports.reserve(container.id, wanted, endpoint, reach)

    async def relay(self, sandbox: Sandbox) -> None:
        """Carry what arrives at the container's IPv6 ports and that rules do not forward."""
        target, version = sandbox.gateway(6), 6
        if target is None or not target.state.ipv6_address:
            target, version = sandbox.gateway(4), 4
        carried = []
        for port in sandbox.ports if target is not None else ():
            held = self.ports.held(port) if ":" in port.host_ip and port.host_port else None
            if target is not None and held is not None and port.protocol in ("tcp", "udp"):
                carried.append(Carried(port.protocol, held, target.address(version), port.container_port))
        await self.relays.serve(sandbox.container_id, carried)

    async def left(self, attached: Attached) -> None:
        """Wait until interfaces that were just taken down with these addresses are really gone."""
        for address in (attached.state.ipv4_address, attached.state.ipv6_address):
            leaving = self._leaving.get((attached.state.network_id, address))
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
            wanted = self._rules()
            if wanted != self._applied:
                before, self._applied = self._applied, ()  # should it fail, the next one applies all of it
                await self._apply(before, wanted)
                self._applied = wanted
            admitted = (
                tuple(bridge.name for bridge in bridges),
                tuple(bridge.name for bridge in bridges if bridge.of(6)),
            )
            if admitted != self._admitted:
                lasts = self._admitted or (None, None)
                for firewall, names, last in zip(self._firewalls, admitted, lasts, strict=True):
                    if names != last and (names or last is not None):
                        await asyncio.to_thread(firewall.admit, names)
                self._admitted = admitted

    async def apply_table(self) -> None:
        """Put our table in force ahead of everything else; ``apply_rules`` does it again, with what belongs to it."""
        self._ipv6 = ports.hosts_ipv6()  # one of ours may be left, of networks that are no more
        await self._apply((), self._rules())

    def _rules(self) -> tuple[rules.Table, ...]:
        bridges = sandboxes.bridges(self.networks.values())
        # Once there, it is kept up even if the last network that needs it goes: that network's rules have to go, too.
        self._ipv6 = self._ipv6 or any(bridge.of(6) for bridge in bridges)
        forwardings = sandboxes.forwardings(self.sandboxes.values())
        return rules.tables(bridges, forwardings, ipv6=self._ipv6)

    async def _apply(self, before: tuple[rules.Table, ...], wanted: tuple[rules.Table, ...]) -> None:
        carriers = sandboxes.publishing(self.networks.values(), self.sandboxes.values())
        name = self.names.table

        def apply() -> None:
            change = rules.change(name, before, wanted) if len(before) == len(wanted) else ""
            self._table.apply(rules.whole(name, wanted), change)
            self.dataplane.carry_localhost(carriers)

        await to_the_end(asyncio.to_thread(apply))

    async def ports_changed(self, sandbox: Sandbox, changed: Collection[PublishedPort]) -> None:
        """Make rules and relays follow: these ports were published, lead elsewhere, or are published no more.

        Raises:
            StartError: the kernel refused.
        """
        if changed:
            await self.apply_rules()
            await self.relay(sandbox)
        udp = {(ip_address(port.host_ip), port.host_port) for port in changed if port.protocol == "udp"}
        if udp:
            try:
                await to_the_end(asyncio.to_thread(conntrack.forget_udp, udp))
            except OSError as error:
                log.warning("flows through published ports could not be ended", error=str(error))

    async def _restore_rules(self) -> None:
        self._applied, self._admitted = (), None
        await self.apply_rules()

    def let_go(self, endpoints: Collection[Attached]) -> None:
        """Delete interfaces in the background: it takes the kernel a grace period of 10 ms and more.

        Mostly the namespace's end has deleted them by then. Not so if another process is still in it.
        """
        for attached in endpoints:
            if attached.veth:
                task = asyncio.create_task(asyncio.to_thread(self.dataplane.delete_links, (attached.veth,)))
                for address in (attached.state.ipv4_address, attached.state.ipv6_address):
                    if address:
                        key = (attached.state.network_id, address)
                        self._leaving[key] = task
                        task.add_done_callback(functools.partial(self._gone, key))

    def _gone(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        if self._leaving.get(key) is task:
            del self._leaving[key]
        if not task.cancelled() and task.exception() is not None:
            log.warning("interface could not be deleted", address=key[1], error=str(task.exception()))

    async def default_pools(self, known: Sequence[Pool] = ()) -> tuple[Pool, ...]:
        """Return addresses for the default network: those that it is to have, those in ``known``, or free ones.

        Hold ``pools_locked``. Raises as ``free_pool``.
        """
        wanted = self.default_bridge
        there: dict[int, Pool] = {pool.subnet.version: pool for pool in known}
        return tuple([wanted.pool(each) or there.get(each) or await self.free_pool(each) for each in wanted.versions])

    async def free_pool(self, version: int = 4) -> Pool:
        """Choose addresses of a family that nobody uses; hold ``pools_locked``.

        Raises:
            ResourceExhaustedError: every default pool is in use.
        """
        ours = [pool.subnet for network in self.networks.values() if not network.config_only for pool in network.pools]
        bases = [base for base in self._pools if base[0].version == version]
        if not bases:
            bases = [*ipam.DEFAULT_POOLS] if version == 4 else [(ipam.local_prefix(self.names.owner + _machine()), 64)]
        return ipam.choose_pool([*await asyncio.to_thread(self.dataplane.taken), *ours], bases, version)


def _machine() -> str:
    """Return what tells this machine from others; empty where it does not say."""
    with contextlib.suppress(OSError):
        return Path("/etc/machine-id").read_text().strip()
    return ""
