"""A network in the shape that Docker's clients know."""

from sampan.docker.times import rfc3339
from sampan.resource.network import AddressPool, Network, NetworkMember


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
            "Options": dict(network.ipam_options) or None,
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
