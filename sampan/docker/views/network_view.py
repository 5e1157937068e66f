"""A network, and how a container is connected to it, in the shapes that Docker's clients know."""

from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from typing import Final

from sampan.docker.options.networks import PREDEFINED
from sampan.docker.times import rfc3339
from sampan.resource.container import EndpointState
from sampan.resource.network import AddressPool, Network, NetworkMember

_MOST: Final = 2**64 - 1  # what Go's number holds; an IPv6 subnet has more


def network_json(network: Network, *, members: bool) -> dict[str, object]:
    """Return a network; its containers only with ``members``, as in an inspect."""
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": rfc3339(network.created),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": not network.disable_ipv4,
        "EnableIPv6": network.enable_ipv6,
        "IPAM": {
            "Driver": network.ipam_driver or "default",
            # Who makes a network sends an object, as docker's client does; nobody sent that of a predefined one.
            "Options": None if network.name in PREDEFINED else dict(network.ipam_options),
            "Config": [_pool_json(pool) for pool in network.pools],
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": network.config_from},
        "ConfigOnly": network.config_only,
        "Containers": {member.container_id: _member_json(member) for member in network.members} if members else {},
        "Options": dict(network.options),
        "Labels": dict(network.labels),
    }


def endpoint_json(endpoint: EndpointState, names: Iterable[str], version: tuple[int, int]) -> dict[str, object]:
    """Return one ``EndpointSettings``; ``names`` are those that a container has of itself, its short ID the first."""
    asked = endpoint.requested
    ipam: dict[str, object] = {"IPv4Address": asked.ipv4_address, "IPv6Address": asked.ipv6_address}
    ipam["LinkLocalIPs"] = list(asked.link_local_ips)
    aliases = list(endpoint.aliases)
    if version < (1, 45) and endpoint.network not in PREDEFINED:  # moved to DNSNames in 1.45
        aliases = list(dict.fromkeys((*aliases, *names)))
    result: dict[str, object] = {
        "IPAMConfig": {key: value for key, value in ipam.items() if value} or ({} if asked.ipv4_address else None),
        "Links": (list(asked.links) or None) if endpoint.network != "bridge" else None,  # those are in HostConfig
        "Aliases": aliases or None,
        "MacAddress": endpoint.mac_address,
        "DriverOpts": dict(asked.driver_options) or None,
        "GwPriority": asked.gw_priority,
        "NetworkID": endpoint.network_id,
        "EndpointID": endpoint.endpoint_id,
        "Gateway": endpoint.gateway,
        "IPAddress": endpoint.ipv4_address,
        "IPPrefixLen": endpoint.ipv4_prefix,
        "IPv6Gateway": endpoint.ipv6_gateway,
        "GlobalIPv6Address": endpoint.ipv6_address,
        "GlobalIPv6PrefixLen": endpoint.ipv6_prefix,
        "DNSNames": list(endpoint.dns_names) or None,
    }
    if version < (1, 48):
        del result["GwPriority"]
    return result


def status_json(network: Network) -> dict[str, object] | None:
    """Return how many addresses of each subnet are in use, and how many are left to be given out; None without any."""
    addresses = [text for member in network.members for text in (member.ipv4_address, member.ipv6_address) if text]
    taken = {ip_interface(text).ip for text in addresses}
    subnets = {pool.subnet: _use_json(pool, taken) for pool in network.pools if not network.config_only}
    return {"IPAM": {"Subnets": subnets}} if subnets else None


def _use_json(pool: AddressPool, taken: Collection[IPv4Address | IPv6Address]) -> dict[str, int]:
    subnet = ip_network(pool.subnet)
    space = ip_network(pool.ip_range) if pool.ip_range else subnet
    ends = {subnet[0], subnet[-1]} if subnet.version == 4 else {subnet[0]}
    reserved = {ip_address(text) for text in (pool.gateway, *pool.auxiliary.values()) if text}
    used = {address for address in (*ends, *reserved, *taken) if address in subnet}
    left = space.num_addresses - sum(address in space for address in used)
    return {"IPsInUse": len(used), "DynamicIPsAvailable": min(left, _MOST)}


def _pool_json(pool: AddressPool) -> dict[str, object]:
    result: dict[str, object] = {"Subnet": pool.subnet}
    if pool.ip_range:
        result["IPRange"] = pool.ip_range
    if pool.gateway:
        result["Gateway"] = pool.gateway
    if pool.auxiliary:
        result["AuxiliaryAddresses"] = dict(pool.auxiliary)
    return result


def _member_json(member: NetworkMember) -> dict[str, str]:
    return {
        "Name": member.container_name,
        "EndpointID": member.endpoint_id,
        "MacAddress": member.mac_address,
        "IPv4Address": member.ipv4_address,
        "IPv6Address": member.ipv6_address,
    }
