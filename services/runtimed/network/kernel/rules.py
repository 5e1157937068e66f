"""The engine's nftables table as text, from what should be: which bridges there are, and which ports are published.

The whole table is replaced in one transaction each time, so the kernel never shows half of it, and a table that
somebody damaged is whole again after the next change. Connections that are being translated go on: conntrack has them.

Other tables have a say too. ``accept`` here ends only our own chain: a forward chain elsewhere with policy ``drop``
still drops, and has to let our bridges pass. ``firewall.py`` sees to that for iptables' FORWARD; for chains that an
administrator wrote in nftables' own language it is theirs to do.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

ANY = IPv4Address(0)


@dataclass(frozen=True, slots=True)
class Bridge:
    """A network, as far as rules are concerned."""

    name: str
    subnets: tuple[IPv4Network, ...]
    internal: bool = False
    icc: bool = True  # whether its containers reach each other
    masquerade: bool = True


@dataclass(frozen=True, slots=True)
class Forwarding:
    """A published port: where it arrives and where it goes. ``host_ip`` 0.0.0.0 is every address of the host."""

    protocol: str  # "tcp", "udp", "sctp"
    host_ip: IPv4Address
    host_port: int
    target: IPv4Address
    target_port: int


def table(name: str, bridges: Iterable[Bridge], ports: Iterable[Forwarding]) -> str:
    """Return the commands that put our table in place of the present one, if any."""
    ours = tuple(bridges)
    chains = (
        _sets(ours),
        _ports(tuple(ports)),
        _nat(ours),
        _filter(ours),
    )
    body = "\n".join(line for chain in chains for line in chain)
    return f"{drop(name)}table ip {name} {{\n{body}\n}}\n"


def drop(name: str) -> str:
    """Return the commands that remove our table, whether it is there or not."""
    return f"add table ip {name}\ndelete table ip {name}\n"


def _sets(bridges: tuple[Bridge, ...]) -> list[str]:
    elements = ", ".join(f'"{bridge.name}"' for bridge in bridges)
    return [
        "set bridges {",
        "  type ifname",
        *([f"  elements = {{ {elements} }}"] if elements else []),
        "}",
    ]


def _ports(ports: tuple[Forwarding, ...]) -> list[str]:
    anywhere = [f"{p.protocol} . {p.host_port} : {_to(p)}" for p in ports if p.host_ip == ANY]
    somewhere = [f"{p.host_ip} . {p.protocol} . {p.host_port} : {_to(p)}" for p in ports if p.host_ip != ANY]
    return [
        "map published {",
        "  type inet_proto . inet_service : ipv4_addr . inet_service",
        *_elements(anywhere),
        "}",
        "map published_at {",
        "  type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service",
        *_elements(somewhere),
        "}",
    ]


def _to(port: Forwarding) -> str:
    return f"{port.target} . {port.target_port}"


def _elements(elements: list[str]) -> list[str]:
    return ["  elements = { " + ", ".join(elements) + " }"] if elements else []


def _nat(bridges: tuple[Bridge, ...]) -> list[str]:
    return [
        "chain published_ports {",
        "  dnat ip to ip daddr . meta l4proto . th dport map @published_at",
        "  dnat ip to meta l4proto . th dport map @published",
        "}",
        "chain prerouting {",
        "  type nat hook prerouting priority -100; policy accept;",
        # A packet for 127.0.0.0/8 that comes over a wire is forged; translated here it would no longer look so.
        "  ip daddr != 127.0.0.0/8 fib daddr type local jump published_ports",
        "}",
        "chain output {",
        "  type nat hook output priority -100; policy accept;",
        "  fib daddr type local jump published_ports",
        "}",
        "chain postrouting {",
        "  type nat hook postrouting priority 100; policy accept;",
        # A container could not answer to 127.0.0.1: that is itself.
        "  oifname @bridges ip saddr 127.0.0.0/8 masquerade",
        *(line for bridge in bridges for line in _masquerade(bridge)),
        "}",
    ]


def _masquerade(bridge: Bridge) -> list[str]:
    lines = []
    for subnet in bridge.subnets:
        # To a port published by a neighbour, or by itself: without this the answer would go to the asker directly,
        # who does not know the address that it comes from. Told by addresses, not by the interface that it came in
        # on: a packet that br_netfilter shows us has none here.
        lines.append(f'  oifname "{bridge.name}" ip saddr {subnet} ip daddr {subnet} ct status dnat masquerade')
        if bridge.masquerade and not bridge.internal:
            lines.append(f'  oifname != "{bridge.name}" ip saddr {subnet} masquerade')
    return lines


def _filter(bridges: tuple[Bridge, ...]) -> list[str]:
    return [
        "chain raw {",
        "  type filter hook prerouting priority -300; policy accept;",
        # Bridges with published ports have route_localnet set, for 127.0.0.1. Without this rule a container could reach
        # whatever else listens there. Answers to translated connections still name the bridge's own address here.
        "  iifname @bridges ip daddr 127.0.0.0/8 drop",
        # With route_localnet the kernel takes 127.0.0.0/8 for an ordinary sender, too; what is forged must not reach a
        # service that trusts its own machine.
        "  iifname @bridges ip saddr 127.0.0.0/8 drop",
        # Nor may a container pass for one of another network. What is behind a container, as its own pods are or what
        # it routes for, is let through as by Docker's engine.
        *(
            f'  iifname @bridges iifname != "{bridge.name}" ip saddr {subnet} drop'
            for bridge in bridges
            for subnet in bridge.subnets
        ),
        "}",
        "chain forward {",
        "  type filter hook forward priority 0; policy accept;",
        "  iifname != @bridges oifname != @bridges return",
        "  ct state established,related accept",
        *(f"  {line}" for bridge in bridges if bridge.internal for line in _internal(bridge)),
        "  ct status dnat accept",
        *(f'  iifname "{b.name}" oifname "{b.name}" {"accept" if b.icc else "drop"}' for b in bridges),
        "  oifname @bridges drop",  # from another network of ours, or from outside to a port that is not published
        "  accept",
        "}",
    ]


def _internal(bridge: Bridge) -> list[str]:
    return [
        f'iifname "{bridge.name}" oifname != "{bridge.name}" drop',
        f'iifname != "{bridge.name}" oifname "{bridge.name}" drop',
    ]
