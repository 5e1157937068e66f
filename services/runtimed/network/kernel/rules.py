"""The engine's nftables tables as text, from what should be: which bridges there are, and which ports are published.

There is one table of each family. Its chains are always the same: what is of one bridge or one port is an element of a
set, so that a packet meets as few rules with a thousand networks as with one, and a change is a few elements, however
many there are. A table comes and is repaired as a whole. Either way it is one transaction, so the kernel never shows
half of it. Connections that are being translated go on: conntrack has them.

Other tables have a say too. ``accept`` here ends only our own chain: a forward chain elsewhere with policy ``drop``
still drops, and has to let our bridges pass. ``firewall.py`` sees to that for iptables' FORWARD; for chains that an
administrator wrote in nftables' own language it is theirs to do.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

ANY = IPv4Address(0)
ANY6 = IPv6Address(0)

NAT: Final = "nat"
NAT_UNPROTECTED: Final = "nat-unprotected"
ROUTED: Final = "routed"


@dataclass(frozen=True, slots=True)
class Bridge:
    """A network, as far as rules are concerned."""

    name: str
    subnets: tuple[IPv4Network | IPv6Network, ...]
    internal: bool = False
    icc: bool = True  # whether its containers reach each other
    masquerade: bool = True
    modes: Mapping[int, str] = field(default_factory=dict)  # by family, how it is reached; "nat" unless said
    sources: Mapping[int, str] = field(default_factory=dict)  # by family, whom its containers are taken for outside
    trusted: tuple[str, ...] = ()  # interfaces from which published ports are also reached at containers' own addresses

    def of(self, version: int) -> tuple[IPv4Network | IPv6Network, ...]:
        """Its subnets of a family."""
        return tuple(subnet for subnet in self.subnets if subnet.version == version)

    def mode(self, version: int) -> str:
        """How it is reached by a family."""
        return self.modes.get(version, NAT)


@dataclass(frozen=True, slots=True)
class Forwarding:
    """A published port: where it arrives and where it goes. ``host_ip`` 0.0.0.0 and :: are all of the host's.

    Without ``host_port`` nothing is translated: the container's own address is reached there.
    """

    protocol: str  # "tcp", "udp", "sctp"
    host_ip: IPv4Address | IPv6Address
    host_port: int
    target: IPv4Address | IPv6Address
    target_port: int


@dataclass(frozen=True, slots=True)
class _Family:
    version: int
    name: str  # nftables' name of it, of its addresses in expressions
    type: str  # of its addresses in sets
    loopback: str
    echo: str  # matches what ping sends


_FAMILIES: Final = (
    _Family(4, "ip", "ipv4_addr", "127.0.0.0/8", "icmp type echo-request"),
    _Family(6, "ip6", "ipv6_addr", "::1", "icmpv6 type echo-request"),
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of one family: what is in its sets and maps."""

    family: _Family
    elements: Mapping[str, Mapping[str, str]]  # by set, what each element leads to; empty in sets that are no maps


def tables(bridges: Iterable[Bridge], ports: Iterable[Forwarding], *, ipv6: bool = False) -> tuple[Table, ...]:
    """Return what our tables should be; that of IPv6 where it is wanted."""
    ours, published = tuple(bridges), tuple(ports)
    return tuple(_table(family, ours, published) for family in _FAMILIES if ipv6 or family.version == 4)


def whole(name: str, wanted: Iterable[Table]) -> str:
    """Return the commands that put tables in place of the present ones, if any."""
    return "".join(_whole(name, table) for table in wanted)


def change(name: str, before: tuple[Table, ...], after: tuple[Table, ...]) -> str:
    """Return the commands that make of tables that are there others of the same families; empty: they are the same."""
    pairs = zip(before, after, strict=True)
    return "".join(_change(f"{old.family.name} {name}", old.elements, new.elements) for old, new in pairs)


def drop(name: str, *, ipv6: bool = False) -> str:
    """Return the commands that remove our tables, whether they are there or not."""
    return "".join(_drop(name, family) for family in _FAMILIES if ipv6 or family.version == 4)


def _drop(name: str, family: _Family) -> str:
    return f"add table {family.name} {name}\ndelete table {family.name} {name}\n"


def _change(table: str, before: Mapping[str, Mapping[str, str]], after: Mapping[str, Mapping[str, str]]) -> str:
    lines = []
    for name, elements in after.items():
        gone = [key for key, value in before[name].items() if elements.get(key) != value]
        come = {key: value for key, value in elements.items() if before[name].get(key) != value}
        lines += [f"delete element {table} {name} {{ {', '.join(gone)} }}\n"] if gone else []
        lines += [f"add element {table} {name} {{ {_listed(come)} }}\n"] if come else []
    return "".join(lines)


def _whole(name: str, table: Table) -> str:
    body = [*_sets(table), *_nat(table.family), *_filter(table.family)]
    return f"{_drop(name, table.family)}table {table.family.name} {name} {{\n" + "\n".join(body) + "\n}\n"


def _listed(elements: Mapping[str, str]) -> str:
    return ", ".join(f"{key} : {value}" if value else key for key, value in elements.items())


def _types(family: _Family) -> Mapping[str, str]:
    """Return of what each set and map is made."""
    address = family.type
    return {
        "bridges": "type ifname",
        "own": f"type ifname . {address}; flags interval",  # each bridge with its subnets
        "subnets": f"type {address}; flags interval",
        "masqueraded": f"type {address}; flags interval",
        "sources": f"type {address} : {address}; flags interval",  # whom a subnet's containers are taken for outside
        "within": "type ifname . ifname : verdict",  # whether containers of one bridge reach each other
        "internal": "type ifname",
        "inside": "type ifname . ifname",  # internal bridges, twice
        "routed": "type ifname",
        "unprotected": "type ifname",
        "published": f"type inet_proto . inet_service : {address} . inet_service",
        "published_at": f"type {address} . inet_proto . inet_service : {address} . inet_service",
        "opened": f"type {address} . inet_proto . inet_service",  # containers' own addresses
        "trusted": "type ifname . ifname",  # from where, and to which bridge
        "reached": f"type {address} . inet_proto . inet_service",  # containers' own addresses, from there
    }


def _table(family: _Family, bridges: tuple[Bridge, ...], ports: tuple[Forwarding, ...]) -> Table:
    version = family.version
    ours = [bridge for bridge in bridges if version == 4 or bridge.of(version)]
    translated = [b for b in ours if b.masquerade and not b.internal and b.mode(version) in (NAT, NAT_UNPROTECTED)]
    sources = {bridge.name: bridge.sources.get(version, "") for bridge in translated}
    led = [port for port in ports if port.target.version == version]
    own = [port for port in led if port.host_port and port.host_ip.version == version]
    elements: dict[str, Mapping[str, str]] = {
        "bridges": _names(ours),
        "own": {f'"{b.name}" . {subnet}': "" for b in ours for subnet in b.of(version)},
        "subnets": {str(subnet): "" for b in ours for subnet in b.of(version)},
        "masqueraded": {str(subnet): "" for b in translated if not sources[b.name] for subnet in b.of(version)},
        "sources": {str(s): sources[b.name] for b in translated if sources[b.name] for s in b.of(version)},
        "within": {f'"{b.name}" . "{b.name}"': "accept" if b.icc else "drop" for b in ours},
        "internal": _names(b for b in ours if b.internal),
        "inside": {f'"{b.name}" . "{b.name}"': "" for b in ours if b.internal},
        "routed": _names(b for b in ours if b.mode(version) == ROUTED),
        "unprotected": _names(b for b in ours if b.mode(version) == NAT_UNPROTECTED),
        "published": {f"{p.protocol} . {p.host_port}": _to(p) for p in own if p.host_ip in (ANY, ANY6)},
        "published_at": {
            f"{p.host_ip} . {p.protocol} . {p.host_port}": _to(p) for p in own if p.host_ip not in (ANY, ANY6)
        },
        "opened": {_at(p): "" for p in led if not p.host_port},
        "trusted": {f'"{interface}" . "{b.name}"': "" for b in ours for interface in b.trusted},
        "reached": {_at(p): "" for p in led if any(p.target in s for b in ours if b.trusted for s in b.of(version))},
    }
    return Table(family, elements)


def _names(bridges: Iterable[Bridge]) -> Mapping[str, str]:
    return {f'"{bridge.name}"': "" for bridge in bridges}


def _at(port: Forwarding) -> str:
    return f"{port.target} . {port.protocol} . {port.target_port}"


def _to(port: Forwarding) -> str:
    return f"{port.target} . {port.target_port}"


def _sets(table: Table) -> list[str]:
    lines = []
    for name, kind in _types(table.family).items():
        elements = table.elements[name]
        held = f"; elements = {{ {_listed(elements)} }}" if elements else ""
        lines.append(f"{'map' if ' : ' in kind else 'set'} {name} {{ {kind}{held}; }}")
    return lines


def _nat(family: _Family) -> list[str]:
    ip, loopback = family.name, family.loopback
    return [
        "chain published_ports {",
        f"  dnat {ip} to {ip} daddr . meta l4proto . th dport map @published_at",
        f"  dnat {ip} to meta l4proto . th dport map @published",
        "}",
        "chain prerouting {",
        "  type nat hook prerouting priority -100; policy accept;",
        # A packet for 127.0.0.0/8 that comes over a wire is forged; translated here it would no longer look so.
        f"  {ip} daddr != {loopback} fib daddr type local jump published_ports",
        "}",
        "chain output {",
        "  type nat hook output priority -100; policy accept;",
        # The kernel sends nothing from ::1 over a wire: what the host asks of that is served by ``ports``.
        f"  {'fib daddr type local' if family.version == 4 else 'ip6 daddr != ::1 fib daddr type local'}"
        " jump published_ports",
        "}",
        "chain postrouting {",
        "  type nat hook postrouting priority 100; policy accept;",
        # A container could not answer to 127.0.0.1: that is itself.
        f"  oifname @bridges {ip} saddr {loopback} masquerade",
        # To a port published by a neighbour, or by itself: without this the answer would go to the asker directly,
        # who does not know the address that it comes from. Told by addresses, not by the interface that it came in
        # on: a packet that br_netfilter shows us has none here.
        f"  oifname . {ip} saddr @own oifname . {ip} daddr @own ct status dnat masquerade",
        f"  oifname . {ip} saddr != @own snat {ip} to {ip} saddr map @sources",
        f"  oifname . {ip} saddr != @own {ip} saddr @masqueraded masquerade",
        "}",
    ]


def _filter(family: _Family) -> list[str]:
    ip, loopback = family.name, family.loopback
    return [
        "chain raw {",
        "  type filter hook prerouting priority -300; policy accept;",
        # Bridges with published ports have route_localnet set, for 127.0.0.1. Without this rule a container could reach
        # whatever else listens there. Answers to translated connections still name the bridge's own address here.
        f"  iifname @bridges {ip} daddr {loopback} drop",
        # With route_localnet the kernel takes 127.0.0.0/8 for an ordinary sender, too; what is forged must not reach a
        # service that trusts its own machine.
        f"  iifname @bridges {ip} saddr {loopback} drop",
        # Nor may a container pass for one of another network. What is behind a container, as its own pods are or what
        # it routes for, is let through as by Docker's engine.
        f"  iifname @bridges {ip} saddr @subnets iifname . {ip} saddr != @own drop",
        "}",
        "chain forward {",
        "  type filter hook forward priority 0; policy accept;",
        "  iifname != @bridges oifname != @bridges return",
        "  ct state established,related accept",
        "  iifname @internal iifname . oifname != @inside drop",
        "  oifname @internal iifname . oifname != @inside drop",
        "  ct status dnat accept",
        "  iifname . oifname vmap @within",
        f"  oifname @bridges {ip} daddr . meta l4proto . th dport @opened accept",
        f"  iifname . oifname @trusted {ip} daddr . meta l4proto . th dport @reached accept",
        f"  oifname @routed {family.echo} accept",
        "  iifname != @bridges oifname @unprotected accept",
        "  oifname @bridges drop",  # from another network of ours, or from outside to a port that is not published
        "  accept",
        "}",
    ]
