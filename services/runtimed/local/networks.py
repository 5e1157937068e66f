"""Networks as clients are offered them: addresses as text."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from runtimed.network.core.model import Network
from runtimed.network.core.networks import Member, Networks
from sampan.resource import network as shown
from sampan.resource.container_spec import Endpoint
from sampan.resource.listing import NO_FILTERS, Filters


class LocalNetworks:
    """Satisfies ``resource.protocols.Networks``."""

    def __init__(
        self, networks: Networks, timed: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext()
    ) -> None:
        """``timed`` measures the action that it is called for."""
        self._networks = networks
        self._timed = timed

    async def create(self, request: shown.NetworkRequest) -> str:
        """Make a network; return its ID."""
        return (await self._networks.create(request)).id

    async def get(self, network: str) -> shown.Network:
        """Return one."""
        return _shown(*self._networks.get(network))

    async def list(self, filters: Filters = NO_FILTERS) -> tuple[shown.Network, ...]:
        """Return those that match."""
        return tuple(_shown(*entry) for entry in self._networks.list(filters))

    async def pages(self, filters: Filters = NO_FILTERS) -> AsyncGenerator[Sequence[shown.Network], None]:
        """Yield those that match."""
        yield await self.list(filters)

    async def remove(self, network: str) -> None:
        """Remove it."""
        await self._networks.remove(network)

    async def connect(self, network: str, container: str, endpoint: Endpoint) -> None:
        """Connect a container."""
        with self._timed("connect"):
            await self._networks.connect(network, container, endpoint)

    async def disconnect(self, network: str, container: str, *, force: bool = False) -> None:
        """Disconnect a container."""
        await self._networks.disconnect(network, container, force=force)

    async def prune(self, filters: Filters = NO_FILTERS) -> tuple[str, ...]:
        """Remove what nobody uses; return names."""
        return await self._networks.prune(filters)


def _shown(network: Network, members: tuple[Member, ...]) -> shown.Network:
    return shown.Network(
        id=network.id,
        name=network.name,
        driver=network.driver,
        created=network.created,
        internal=network.internal,
        disable_ipv4=not network.enable_ipv4,
        enable_ipv6=network.enable_ipv6,
        config_only=network.config_only,
        config_from=network.config_from,
        attachable=network.attachable,
        pools=tuple(
            shown.AddressPool(
                str(pool.subnet),
                str(pool.gateway or ""),
                str(pool.ip_range or ""),
                {name: str(address) for name, address in pool.auxiliary.items()},
            )
            for pool in network.pools
        ),
        options=network.options,
        labels=network.labels,
        members=tuple(_member(member) for member in members),
        ipam_driver=network.ipam_driver,
        ipam_options=network.ipam_options,
    )


def _member(member: Member) -> shown.NetworkMember:
    state = member.state
    return shown.NetworkMember(
        container_id=member.container_id,
        container_name=member.container_name,
        endpoint_id=state.endpoint_id,
        mac_address=state.mac_address,
        ipv4_address=f"{state.ipv4_address}/{state.ipv4_prefix}" if state.ipv4_address else "",
        ipv6_address=f"{state.ipv6_address}/{state.ipv6_prefix}" if state.ipv6_address else "",
    )
