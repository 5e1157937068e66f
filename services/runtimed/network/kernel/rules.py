"""The engine's nftables tables as text, from what should be: which bridges there are, and which ports are published.

There is one table of each family. They are replaced as a whole in one transaction each time, so the kernel never shows
half of it, and a table that somebody damaged is whole again after the next change. Connections that are being
translated go on: conntrack has them.

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


def table(name: str, bridges: Iterable[Bridge], ports: Iterable[Forwarding], *, ipv6: bool = False) -> str:
    """Return the commands that put our tables in place of the present ones, if any; that of IPv6 where it is wanted."""
    ours, published = tuple(bridges), tuple(ports)
    return "".join(_table(name, family, ours, published) for family in _FAMILIES if ipv6 or family.version == 4)


def _table(name: str, family: _Family, bridges: tuple[Bridge, ...], ports: tuple[Forwarding, ...]) -> str:
    ours = tuple(bridge for bridge in bridges if family.version == 4 or bridge.of(family.version))
    chains = (
        _sets(ours),
        _ports(family, tuple(port for port in ports if port.target.version == family.version)),
        _nat(family, ours),
        _filter(family, ours),
    )
    body = "\n".join(line for chain in chains for line in chain)
    return f"{_drop(name, family)}table {family.name} {name} {{\n{body}\n}}\n"


def drop(name: str, *, ipv6: bool = False) -> str:
    """Return the commands that remove our tables, whether they are there or not."""
    return "".join(_drop(name, family) for family in _FAMILIES if ipv6 or family.version == 4)


def _drop(name: str, family: _Family) -> str:
    return f"add table {family.name} {name}\ndelete table {family.name} {name}\n"


def _sets(bridges: tuple[Bridge, ...]) -> list[str]:
    elements = ", ".join(f'"{bridge.name}"' for bridge in bridges)
    return [
        "set bridges {",
        "  type ifname",
        *([f"  elements = {{ {elements} }}"] if elements else []),
        "}",
    ]


def _ports(family: _Family, ports: tuple[Forwarding, ...]) -> list[str]:
    own = [port for port in ports if port.host_port and port.host_ip.version == family.version]
    anywhere = [f"{p.protocol} . {p.host_port} : {_to(p)}" for p in own if p.host_ip in (ANY, ANY6)]
    somewhere = [f"{p.host_ip} . {p.protocol} . {p.host_port} : {_to(p)}" for p in own if p.host_ip not in (ANY, ANY6)]
    direct = [f"{p.target} . {p.protocol} . {p.target_port}" for p in ports if not p.host_port]
    return [
        "map published {",
        f"  type inet_proto . inet_service : {family.type} . inet_service",
        *_elements(anywhere),
        "}",
        "map published_at {",
        f"  type {family.type} . inet_proto . inet_service : {family.type} . inet_service",
        *_elements(somewhere),
        "}",
        "set opened {",
        f"  type {family.type} . inet_proto . inet_service",
        *_elements(list(dict.fromkeys(direct))),
        "}",
    ]


def _to(port: Forwarding) -> str:
    return f"{port.target} . {port.target_port}"


def _elements(elements: list[str]) -> list[str]:
    return ["  elements = { " + ", ".join(elements) + " }"] if elements else []


def _nat(family: _Family, bridges: tuple[Bridge, ...]) -> list[str]:
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
        *(line for bridge in bridges for line in _masquerade(family, bridge)),
        "}",
    ]


def _masquerade(family: _Family, bridge: Bridge) -> list[str]:
    lines = []
    ip = family.name
    source = bridge.sources.get(family.version, "")
    for subnet in bridge.of(family.version):
        # To a port published by a neighbour, or by itself: without this the answer would go to the asker directly,
        # who does not know the address that it comes from. Told by addresses, not by the interface that it came in
        # on: a packet that br_netfilter shows us has none here.
        lines.append(f'  oifname "{bridge.name}" {ip} saddr {subnet} {ip} daddr {subnet} ct status dnat masquerade')
        if bridge.masquerade and not bridge.internal and bridge.mode(family.version) in (NAT, NAT_UNPROTECTED):
            act = f"snat to {source}" if source else "masquerade"
            lines.append(f'  oifname != "{bridge.name}" {ip} saddr {subnet} {act}')
    return lines


def _filter(family: _Family, bridges: tuple[Bridge, ...]) -> list[str]:
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
        *(
            f'  iifname @bridges iifname != "{bridge.name}" {ip} saddr {subnet} drop'
            for bridge in bridges
            for subnet in bridge.of(family.version)
        ),
        "}",
        "chain forward {",
        "  type filter hook forward priority 0; policy accept;",
        "  iifname != @bridges oifname != @bridges return",
        "  ct state established,related accept",
        *(f"  {line}" for bridge in bridges if bridge.internal for line in _internal(bridge)),
        "  ct status dnat accept",
        *(f'  iifname "{b.name}" oifname "{b.name}" {"accept" if b.icc else "drop"}' for b in bridges),
        f"  oifname @bridges {ip} daddr . meta l4proto . th dport @opened accept",
        *(f'  oifname "{b.name}" {family.echo} accept' for b in bridges if b.mode(family.version) == ROUTED),
        *(
            f'  iifname != @bridges oifname "{b.name}" accept'
            for b in bridges
            if b.mode(family.version) == NAT_UNPROTECTED
        ),
        "  oifname @bridges drop",  # from another network of ours, or from outside to a port that is not published
        "  accept",
        "}",
    ]


def _internal(bridge: Bridge) -> list[str]:
    return [
        f'iifname "{bridge.name}" oifname != "{bridge.name}" drop',
        f'iifname != "{bridge.name}" oifname "{bridge.name}" drop',
    ]
