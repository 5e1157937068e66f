"""A network as ``sampan network inspect`` prints it."""

from typing import Any

from sampan.api.runtime.v1 import networks_pb2 as pb
from sampan_cli.shape.times import shape_time
from sampan_cli.template.functions import NIL_MAP, GoMap


def shape_network(network: pb.Network) -> dict[str, Any]:
    """Return everything that is known about a network, under Docker's names."""
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": shape_time(network.created),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv6": network.enable_ipv6,
        "IPAM": {
            "Driver": network.ipam_driver or "default",
            "Options": GoMap(network.ipam_options) or NIL_MAP,
            "Config": [_pool(pool) for pool in network.pools],
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "Containers": GoMap({member.container_id: _member(member) for member in network.members}),
        "Options": GoMap(network.options),
        "Labels": GoMap(network.labels),
    }


def _pool(pool: pb.Network.Pool) -> dict[str, Any]:
    shaped: dict[str, Any] = {"Subnet": pool.subnet, "Gateway": pool.gateway}
    if pool.ip_range:
        shaped["IPRange"] = pool.ip_range
    if pool.auxiliary:
        shaped["AuxiliaryAddresses"] = GoMap(pool.auxiliary)
    return shaped


def _member(member: pb.Network.Member) -> dict[str, Any]:
    return {
        "Name": member.container_name,
        "EndpointID": member.endpoint_id,
        "MacAddress": member.mac_address,
        "IPv4Address": member.ipv4_address,
        "IPv6Address": member.ipv6_address,
    }
