"""What networks and endpoints are in the kernel: bridges, veth pairs, addresses and routes.

Everything here blocks. What enters a namespace belongs in a thread of its own, see ``netns.in_own_thread``. Each method
but ``build`` and ``plug`` can be repeated: what is there already is kept or put right.
"""

import asyncio
import contextlib
import fcntl
import os
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Final

from runtimed.network.core.model import (
    BRIDGE,
    OPTION_BRIDGE_NAME,
    OPTION_ICC,
    OPTION_PARENT,
    WIRED,
    Attached,
    Network,
    Subnet,
)
from runtimed.network.core.names import KernelNames, random_mac
from runtimed.network.kernel import sysctls, vlan
from runtimed.network.kernel.rtnetlink import LOOPBACK_INDEX, Link, Rtnetlink
from sampan.cancellation import to_the_end
from sampan.errors import ConflictError, NotFoundError, StartError
from sampan.sys import netns
from sampan.sys.idmaps import create_network

_SYSCTL: Final = Path("/proc/sys/net")  # shows the namespace of the thread that opens it
_POOLS_LOCK: Final = Path("/run/sampan-pools.lock")  # for all engines of the machine, whatever their roots


@dataclass(frozen=True, slots=True)
class Wire:
    """An endpoint together with the network that it is on."""

    attached: Attached
    network: Network


@dataclass(frozen=True, slots=True)
class Exits:
    """The endpoints that a container's default routes lead through, of each family; None: none, or it stays."""

    v4: Attached | None = None
    v6: Attached | None = None


class Dataplane:
    """Makes and removes kernel objects of one engine."""

    def __init__(self, names: KernelNames) -> None:
        self._names = names
        self._configured: set[str] = set()  # bridges that were set up completely by this process
        self._carriers: frozenset[str] = frozenset()  # those that carry packets of 127.0.0.0/8
        self._lock = threading.Lock()

    def build(self, path: Path, wires: Sequence[Wire], exits: Exits, users: str = "") -> None:
        """Make the namespace ``path`` with every interface in it; leaves the calling thread inside.

        With ``users`` it belongs to the user namespace of that file, which can then change what is in it.

        After an error part of it may be there: ``tear_down`` removes that.
        """
        with Rtnetlink() as host:
            links = [self._ensure_link(host, wire.network) for wire in wires]
            if users:
                create_network(path, Path(users))
                netns.enter(path)
            else:
                netns.create(path)
            with Rtnetlink() as inside:
                inside.set_up(LOOPBACK_INDEX)
                for link, wire in zip(links, wires, strict=True):
                    _plug(host, inside, path, link, wire)
                _lead_out(inside, exits)

    def plug(self, path: Path, wire: Wire, exits: Exits) -> None:
        """Give a running container one more interface; its default routes lead through ``exits`` then."""
        with Rtnetlink() as host:
            link = self._ensure_link(host, wire.network)
            netns.enter(path)
            with Rtnetlink() as inside:
                _plug(host, inside, path, link, wire)
                _lead_out(inside, exits)

    def unplug(self, path: Path, wire: Wire, exits: Exits) -> None:
        """Take an interface away; the default routes lead through ``exits`` then."""
        with Rtnetlink() as host:
            if wire.attached.veth:
                host.delete(wire.attached.veth)
            if netns.exists(path):
                netns.enter(path)
                with Rtnetlink() as inside:
                    if not wire.attached.veth:
                        inside.delete(wire.attached.interface)
                    _lead_out(inside, exits)

    def tear_down(self, path: Path) -> None:
        """Let go of the namespace; its interfaces end with its last process. No error if there is none."""
        netns.remove(path)

    def delete_links(self, names: Sequence[str]) -> None:
        """Delete what is left of these host interfaces."""
        with Rtnetlink() as host:
            for name in names:
                host.delete(name)

    def ensure_bridge(self, host: Rtnetlink, network: Network) -> int:
        """Return the index of a network's bridge; make it if it is not there.

        Raises:
            ConflictError: another engine's bridge, or something else, has its name.
        """
        with self._lock:
            link = host.find(network.bridge)
            if link is not None and network.bridge in self._configured:
                return link.index
            if link is None:
                host.add_bridge(network.bridge, random_mac(), network.mtu)
                link = _found(host, network.bridge)
                host.set_alias(link.index, self._names.alias(network.id))
            elif link.kind != "bridge" or not self._may_use(link, network):
                raise ConflictError(f"interface {link.name} exists and does not belong to network {network.name}")
            _write(_SYSCTL / f"ipv6/conf/{link.name}/disable_ipv6", "0" if network.enable_ipv6 else "1")
            if network.enable_ipv6:
                _write(_SYSCTL / f"ipv6/conf/{link.name}/accept_ra", "0")  # a container is no router of ours
                _enable_forwarding6()
            for pool in network.pools:
                if pool.gateway is not None and network.has_address(pool.subnet.version):
                    host.add_address(link.index, ip_interface((pool.gateway, pool.subnet.prefixlen)))
            _refuse_local_sources(_SYSCTL / f"ipv4/conf/{link.name}/rp_filter")
            host.set_up(link.index)
            _enable_forwarding()
            self._carry(network.bridge, network.bridge in self._carriers)
            self._configured.add(network.bridge)
            return link.index

    def carry_localhost(self, bridges: frozenset[str]) -> None:
        """Say which bridges carry packets of 127.0.0.0/8: those to which ports lead that are reached from there.

        Call it when the rules are in force that keep containers from sending such packets themselves.
        """
        with self._lock:
            for name in bridges ^ self._carriers:
                self._carry(name, name in bridges)
            self._carriers = bridges

    def _carry(self, bridge: str, carries: bool) -> None:
        _write(_SYSCTL / f"ipv4/conf/{bridge}/route_localnet", "1" if carries else "0")

    def _ensure_link(self, host: Rtnetlink, network: Network) -> int:
        """Return the index of what containers are plugged into: the bridge, or the interface that they share."""
        if network.driver == BRIDGE:
            return self.ensure_bridge(host, network)
        return self.ensure_parent(host, network)

    def ensure_parent(self, host: Rtnetlink, network: Network, *, make: bool = False) -> int:
        """Return the index of a macvlan or ipvlan network's parent.

        With ``make``, one that is not there is made if its name says how: ``eth0.10`` for a VLAN. One of our own, which
        stands for a parent that nobody named, is always made.

        Raises:
            StartError, InvalidArgumentError: there is none, in Docker's words.
        """
        with self._lock:
            link = host.find(network.parent)
            if link is None and (make or not network.options.get(OPTION_PARENT)):
                vlan.make_parent(host, network)
                link = _found(host, network.parent)
                host.set_alias(link.index, self._names.alias(network.id))
                host.set_up(link.index)
            if link is None:
                raise StartError(f"the requested parent interface {network.parent} was not found on the Docker host")
            return link.index

    def make(self, network: Network) -> None:
        """Make what a network has in the kernel: as ``ensure_bridge``, or ``ensure_parent`` with ``make``.

        Raises:
            StartError: the kernel refused something; also as those two.
        """
        if network.config_only or network.driver not in WIRED:
            return
        try:
            with Rtnetlink() as host:
                if network.driver == BRIDGE:
                    self.ensure_bridge(host, network)
                else:
                    self.ensure_parent(host, network, make=True)
        except OSError as error:
            raise StartError(f"network {network.name} cannot be made: {error.filename}: {error.strerror}") from error

    def remove(self, *networks: Network) -> None:
        """Delete what ``make`` made, if it is ours."""
        with self._lock, Rtnetlink() as host:
            found = []
            for network in networks:
                self._configured.discard(network.bridge)
                name = network.bridge or network.parent
                link = host.find(name) if name else None
                if link is not None and link.alias == self._names.alias(network.id):
                    found.append(link)
            self._delete(host, found)

    def sweep(self, networks: Sequence[Network], veths: Sequence[str]) -> list[str]:
        """Delete our bridges of unknown networks, and what is plugged into ours and not in ``veths``.

        Returns the names of what was deleted.
        """
        known = {self._names.alias(network.id) for network in networks}
        with self._lock, Rtnetlink() as host:
            links = host.links()
            bridges = {link.index: link for link in links if link.alias.startswith(self._names.owner)}
            stale = [link.name for link in bridges.values() if link.alias not in known]
            stale += [
                link.name
                for link in links
                if link.kind == "veth"
                and link.master in bridges
                and link.name.startswith("ve")
                and link.name not in veths
            ]
            return [name for name in stale if host.delete(name)]

    def _delete(self, host: Rtnetlink, links: Sequence[Link]) -> None:
        if len(links) > 1:
            with contextlib.suppress(OSError):  # one is gone, or is of a kind that is only deleted by itself
                host.delete_together(links)
                return
        for link in links:
            host.delete(link.name)

    def taken(self, except_bridge: str = "") -> tuple[Subnet, ...]:
        """Return what the host's addresses and routes cover, but for one bridge's."""
        with Rtnetlink() as host:
            link = host.find(except_bridge) if except_bridge else None
            skip = link.index if link else -1
            addresses: list[Subnet] = [address.network for index, address in host.addresses() if index != skip]
            routes = [network for index, network in host.routes() if index != skip and network.prefixlen > 0]
        return tuple(dict.fromkeys(addresses + routes))

    def _may_use(self, link: Link, network: Network) -> bool:
        # A user may name a bridge that somebody else made and looks after.
        return link.alias == self._names.alias(network.id) or (
            not link.alias.startswith("sampan") and network.options.get(OPTION_BRIDGE_NAME) == link.name
        )


@contextlib.asynccontextmanager
async def pools_locked() -> AsyncIterator[None]:
    """Keep other engines on this machine from choosing addresses.

    To be held from looking what is taken until a bridge has the addresses, where others see them.
    """
    fd = os.open(_POOLS_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        await to_the_end(asyncio.to_thread(fcntl.flock, fd, fcntl.LOCK_EX))
        yield
    finally:
        os.close(fd)


def _plug(host: Rtnetlink, inside: Rtnetlink, path: Path, link: int, wire: Wire) -> None:
    attached, state, network = wire.attached, wire.attached.state, wire.network
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if network.driver == BRIDGE:
            host.add_veth(attached.veth, link, attached.interface, state.mac_address, fd, network.mtu)
        else:
            vlan.add(host, network, link, attached.interface, state.mac_address, fd)
    finally:
        os.close(fd)
    if network.driver == BRIDGE:
        _connect_port(host, network, attached)
    index = _found(inside, attached.interface).index
    _configure(_SYSCTL / f"ipv6/conf/{attached.interface}", ipv6=bool(state.ipv6_address))
    for text, prefix in ((state.ipv4_address, state.ipv4_prefix), (state.ipv6_address, state.ipv6_prefix)):
        if text:
            inside.add_address(index, ip_interface(f"{text}/{prefix}"))
    for text in state.requested.link_local_ips:
        inside.add_address(index, ip_interface(f"{text}/{64 if ':' in text else 16}"))
    for setting, value in sysctls.of_endpoint(state.requested.driver_options, attached.interface):
        sysctls.write(_SYSCTL, setting, value)
    inside.set_up(index)
    if state.ipv6_address and network.driver == BRIDGE:
        sysctls.announce(index, state.ipv6_address, state.mac_address)


def _connect_port(host: Rtnetlink, network: Network, attached: Attached) -> None:
    port = _found(host, attached.veth).index
    host.forgo_ipv6(port)  # a bridge port needs no address
    # Where br_netfilter is loaded, what a container sends to a port that it publishes itself is translated inside the
    # bridge and has to go back the way it came.
    host.set_hairpin(port)
    if not network.flag(OPTION_ICC, default=True):
        # Netfilter sees what passes from port to port only where br_netfilter is loaded, and can be flushed. Where it
        # is loaded, this also stops what goes to a neighbour's published port.
        host.isolate(port)
    host.set_up(port)
    # The address may have been another container's a moment ago, whose port the bridge still remembers.
    host.pin(port, attached.state.mac_address)


def _configure(directory: Path, *, ipv6: bool) -> None:
    """Settle an interface's IPv6 before it is up: off where the network has none, or it would take a local address."""
    _write(directory / "disable_ipv6", "0" if ipv6 else "1")
    if ipv6:
        _write(directory / "accept_ra", "0")  # routes are the engine's business, whatever a neighbour announces


def _lead_out(inside: Rtnetlink, exits: Exits) -> None:
    for version, attached in ((4, exits.v4), (6, exits.v6)):
        if attached is not None:
            text = attached.state.gateway if version == 4 else attached.state.ipv6_gateway
            gateway = None if attached.on_link else ip_address(text)
            inside.set_default_route(gateway, _found(inside, attached.interface).index, version)


def _found(socket: Rtnetlink, name: str) -> Link:
    link = socket.find(name)
    if link is None:
        raise NotFoundError(f"interface {name} is gone")
    return link


def _enable_forwarding() -> None:
    # For the whole host, as any router needs it and as Docker does.
    path = _SYSCTL / "ipv4/ip_forward"
    if path.read_text().strip() != "1":
        path.write_text("1")


def _enable_forwarding6() -> None:
    # A router takes no routes from advertisements unless it is told to: an uplink that had its own from there keeps it.
    conf = _SYSCTL / "ipv6/conf"
    with contextlib.suppress(FileNotFoundError):
        if (conf / "all/forwarding").read_text().strip() == "1":
            return
        for accepts in conf.glob("*/accept_ra"):
            if accepts.parent.name not in ("all", "lo") and accepts.read_text().strip() == "1":
                accepts.write_text("2")
        (conf / "all/forwarding").write_text("1")


def _refuse_local_sources(rp_filter: Path) -> None:
    # A second wall beside our rules, which stands while they are gone: at least in its loose mode, the kernel takes no
    # packet from the wire whose sender is the machine itself, 127.0.0.0/8 included. A strict mode is left as it is, and
    # so is one for all interfaces, of which the larger number counts: 2, the loose one, would weaken it.
    with contextlib.suppress(FileNotFoundError):
        if "1" not in (rp_filter.read_text().strip(), (rp_filter.parent.parent / "all/rp_filter").read_text().strip()):
            rp_filter.write_text("2")


def _write(path: Path, value: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
        path.write_text(value)
