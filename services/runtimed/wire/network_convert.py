"""Network messages to values and back."""

from google.protobuf.timestamp_pb2 import Timestamp

from runtimed.network.core.model import Network
from runtimed.network.core.networks import Member, NetworkRequest, PoolRequest
from sampan.api.runtime.v1 import networks_pb2, spec_pb2
from sampan.resource.container_spec import Endpoint


def request_from_proto(message: networks_pb2.Network) -> NetworkRequest:
    """Read a network to make."""
    return NetworkRequest(
        name=message.name,
        driver=message.driver or "bridge",
        internal=message.internal,
        attachable=message.attachable,
        enable_ipv6=message.enable_ipv6,
        pools=tuple(PoolRequest(p.subnet, p.gateway, p.ip_range, dict(p.auxiliary)) for p in message.pools),
        options=dict(message.options),
        labels=dict(message.labels),
        ipam_driver=message.ipam_driver or "default",
        ipam_options=dict(message.ipam_options),
    )


def network_to_proto(network: Network, members: tuple[Member, ...]) -> networks_pb2.Network:
    """Write a network and who is on it."""
    created = Timestamp()
    created.FromDatetime(network.created)
    return networks_pb2.Network(
        id=network.id,
        name=network.name,
        driver=network.driver,
        created=created,
        internal=network.internal,
        attachable=network.attachable,
        pools=[
            networks_pb2.Network.Pool(
                subnet=str(pool.subnet),
                gateway=str(pool.gateway or ""),
                ip_range=str(pool.ip_range or ""),
                auxiliary={name: str(address) for name, address in pool.auxiliary.items()},
            )
            for pool in network.pools
        ],
        options=network.options,
        labels=network.labels,
        members=[_member_to_proto(member) for member in members],
        ipam_driver=network.ipam_driver,
        ipam_options=network.ipam_options,
    )


def _member_to_proto(member: Member) -> networks_pb2.Network.Member:
    state = member.state
    return networks_pb2.Network.Member(
        container_id=member.container_id,
        container_name=member.container_name,
        endpoint_id=state.endpoint_id,
        mac_address=state.mac_address,
        ipv4_address=f"{state.ipv4_address}/{state.ipv4_prefix}" if state.ipv4_address else "",
    )


def endpoint_from_proto(message: spec_pb2.Endpoint) -> Endpoint:
    """Read a place on a network."""
    return Endpoint(
        network=message.network,
        aliases=tuple(message.aliases),
        ipv4_address=message.ipv4_address,
        ipv6_address=message.ipv6_address,
        mac_address=message.mac_address,
        links=tuple(message.links),
        driver_options=dict(message.driver_options),
    )
