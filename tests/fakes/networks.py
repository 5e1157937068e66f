"""Networks in memory: ``resource.protocols.Networks`` without a kernel."""

import secrets
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from sampan.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, PermissionDeniedError
from sampan.resource.container_spec import Endpoint
from sampan.resource.listing import NO_FILTERS, Filters
from sampan.resource.network import AddressPool, Network, NetworkMember, NetworkRequest

_PREDEFINED = ("bridge", "host", "none")


class FakeNetworks:
    """The default bridge, and what is created; every container is taken for one that runs."""

    def __init__(self) -> None:
        pool = AddressPool("172.17.0.0/16", "172.17.0.1")
        bridge = Network("b" * 64, "bridge", "bridge", datetime.now(UTC), pools=(pool,))
        self.networks: dict[str, Network] = {bridge.id: bridge}
        self.connected: list[tuple[str, str, Endpoint]] = []

    def find(self, name: str) -> Network:
        for network in self.networks.values():
            if name in (network.id, network.name) or (len(name) >= 4 and network.id.startswith(name)):
                return network
        raise NotFoundError(f"network {name} not found")

    async def create(self, request: NetworkRequest) -> str:
        if request.name in _PREDEFINED:
            raise PermissionDeniedError(f"operation is not permitted on predefined {request.name} network")
        if not request.name.strip():
            raise InvalidArgumentError(f"invalid network name {request.name!r}")
        if request.driver not in ("", "bridge"):
            raise NotFoundError(f'plugin "{request.driver}" not found')
        if any(request.name == other.name for other in self.networks.values()):
            raise AlreadyExistsError(f"network with name {request.name} already exists")
        made = Network(
            id=secrets.token_hex(32),
            name=request.name,
            driver="bridge",
            created=datetime.now(UTC),
            internal=request.internal,
            attachable=request.attachable,
            pools=request.pools or (AddressPool("172.18.0.0/16", "172.18.0.1"),),
            options=request.options,
            labels=request.labels,
            ipam_driver=request.ipam_driver or "default",
            ipam_options=request.ipam_options,
        )
        self.networks[made.id] = made
        return made.id

    async def get(self, network: str) -> Network:
        return self.find(network)

    async def list(self, filters: Filters = NO_FILTERS) -> tuple[Network, ...]:
        if unknown := set(filters) - {"name", "id", "driver", "label", "dangling", "scope", "type"}:
            raise InvalidArgumentError(f"invalid filter '{min(unknown)}'")
        names = filters.get("name", ())
        found = [one for one in self.networks.values() if not names or any(name in one.name for name in names)]
        return tuple(reversed(found))

    async def pages(self, filters: Filters = NO_FILTERS) -> AsyncGenerator[Sequence[Network], None]:
        yield await self.list(filters)

    async def remove(self, network: str) -> None:
        found = self.find(network)
        if found.name in _PREDEFINED:
            raise PermissionDeniedError(f"{found.name} is a pre-defined network and cannot be removed")
        if found.members:
            raise PermissionDeniedError(f"error while removing network: network {found.name} has active endpoints")
        del self.networks[found.id]

    async def connect(self, network: str, container: str, endpoint: Endpoint) -> None:
        found = self.find(network)
        if any(member.container_id == container for member in found.members):
            raise PermissionDeniedError(f"endpoint with name {container} already exists in network {found.name}")
        self.connected.append((network, container, endpoint))
        member = NetworkMember(container, container, secrets.token_hex(32), ipv4_address="172.18.0.2/16")
        self.networks[found.id] = replace(found, members=(*found.members, member))

    async def disconnect(self, network: str, container: str, *, force: bool = False) -> None:
        found = self.find(network)
        left = tuple(member for member in found.members if member.container_id != container)
        if left == found.members and not force:
            raise PermissionDeniedError(f"container {container} is not connected to network {found.name}")
        self.networks[found.id] = replace(found, members=left)

    async def prune(self, filters: Filters = NO_FILTERS) -> tuple[str, ...]:
        gone = [one for one in self.networks.values() if one.name not in _PREDEFINED and not one.members]
        for one in gone:
            del self.networks[one.id]
        return tuple(one.name for one in gone)
