"""What the nftables table should hold, from the networks and sandboxes that there are."""

from collections.abc import Iterable
from ipaddress import IPv4Address

from runtimed.network.core.model import BRIDGE, OPTION_ICC, OPTION_MASQUERADE, Network, Sandbox
from runtimed.network.kernel.rules import Bridge, Forwarding


def bridges(networks: Iterable[Network]) -> tuple[Bridge, ...]:
    """Return the bridges of those networks that have one."""
    return tuple(
        Bridge(
            name=network.bridge,
            subnets=tuple(pool.subnet for pool in network.pools),
            internal=network.internal,
            icc=network.flag(OPTION_ICC, default=True),
            masquerade=network.flag(OPTION_MASQUERADE, default=True),
        )
        for network in networks
        if network.driver == BRIDGE
    )


def forwardings(sandboxes: Iterable[Sandbox]) -> tuple[Forwarding, ...]:
    """Return every published port of those sandboxes."""
    return tuple(
        Forwarding(
            protocol=port.protocol,
            host_ip=IPv4Address(port.host_ip),
            host_port=port.host_port,
            target=IPv4Address(sandbox.target.state.ipv4_address),
            target_port=port.container_port,
        )
        for sandbox in sandboxes
        if sandbox.target is not None
        for port in sandbox.ports
    )
