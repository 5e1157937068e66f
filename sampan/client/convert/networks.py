"""Networks."""

from typing import Final

from sampan.api.runtime.v1 import networks_pb2
from sampan.client.convert.codec import Codec
from sampan.resource.network import AddressPool, Network, NetworkMember, NetworkRequest

_POOL: Final = Codec(AddressPool, networks_pb2.Network.Pool)

NETWORK: Final = Codec(Network, networks_pb2.Network, nested=(_POOL, Codec(NetworkMember, networks_pb2.Network.Member)))
REQUEST: Final = Codec(NetworkRequest, networks_pb2.Network, nested=(_POOL,), ignored=("id", "created", "members"))
