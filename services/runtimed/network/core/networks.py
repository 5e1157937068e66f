"""The operations that users perform on networks."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from runtimed.containers.links import has_link, without_link
from runtimed.network.core.live import LiveEndpoints
from runtimed.network.core.model import (
    BRIDGE,
    CONTAINER_PREFIX,
    HOST,
    NONE,
    NULL_DRIVER,
    OPTION_BRIDGE_NAME,
    OPTION_PARENT,
    VLAN,
    Network,
    Pool,
)
from runtimed.network.core.names import new_id
from runtimed.network.core.stack import NetworkStack
from runtimed.network.kernel.dataplane import pools_locked
from runtimed.network.planning import check, ipam, options, plan
from runtimed.network.planning import filters as selection
from runtimed.protocol import ContainerRecords
from sampan import limits
from sampan.cancellation import to_the_end
from sampan.docker.options.namespaces import namespace_path
from sampan.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, PermissionDeniedError
from sampan.resource.container import Container, EndpointState, NetworkSettings
from sampan.resource.container_spec import Endpoint
from sampan.resource.listing import Filters
from sampan.resource.network import AddressPool, NetworkRequest


@dataclass(frozen=True, slots=True)
class Member:
    """A running container on a network."""

    container_id: str
    container_name: str
    state: EndpointState


class Networks:
    """Make, show and remove networks, and connect containers to them."""

    def __init__(self, stack: NetworkStack, records: ContainerRecords) -> None:
        self._stack = stack
        self._records = records
        self._live = LiveEndpoints(stack)
        # What networks get that do not say otherwise, by driver.
        self.default_options: Mapping[str, Mapping[str, str]] = {}
        self._changing = asyncio.Lock()  # one network is made or removed at a time: names and addresses are chosen

    async def create(self, request: NetworkRequest) -> Network:
        """Make a network.

        Raises:
            InvalidArgumentError: a bad name, address or option.
            NotFoundError: an unknown driver.
            AlreadyExistsError: the name is taken.
            PermissionDeniedError: a predefined name, or addresses that overlap another network's.
            ResourceExhaustedError: no addresses are left to choose from.
        """
        if not request.config_from:
            own = self.default_options.get(request.driver or BRIDGE, {})
            request = replace(request, options={**own, **request.options})
        request = options.as_asked(request)
        check.check_request(request)
        async with self._changing:
            if any(network.name == request.name for network in self._stack.networks.values()):
                raise AlreadyExistsError(f"network with name {request.name} already exists")
            async with pools_locked():
                network = await self._plan(request)
                await to_the_end(self._make(network))
        return network

    def get(self, reference: str) -> tuple[Network, tuple[Member, ...]]:
        """Return a network and who is on it. Errors are those of ``NetworkStack.resolve``."""
        network = self._stack.resolve(reference)
        return network, self._members(network)

    def list(self, filters: Filters) -> tuple[tuple[Network, tuple[Member, ...]], ...]:
        """Return the networks that match, newest first. Errors are those of ``selection.select``."""
        found = selection.select(self._stack.networks.values(), filters, self._used())
        newest_first = sorted(found, key=lambda network: network.created, reverse=True)
        return tuple((network, self._members(network)) for network in newest_first)

    async def remove(self, reference: str) -> None:
        """Remove a network.

        Raises:
            NotFoundError: there is none.
            PermissionDeniedError: it is predefined, or a running container is on it.
        """
        async with self._changing:
            network = self._stack.resolve(reference)
            if network.predefined:
                raise PermissionDeniedError(f"{network.name} is a pre-defined network and cannot be removed")
            if network.config_only and any(n.config_from == network.name for n in self._stack.networks.values()):
                raise PermissionDeniedError(
                    f'error while removing network: configuration network "{network.name}" is in use'
                )
            members = self._members(network)
            if members:
                who = ", ".join(f'name:"{m.container_name}" id:"{m.state.endpoint_id[:12]}"' for m in members)
                raise PermissionDeniedError(
                    f"error while removing network: network {network.name} has active endpoints ({who})"
                )
            await to_the_end(self._remove((network,)))

    async def prune(self, filters: Filters) -> tuple[str, ...]:
        """Remove every network that no container is on; return their names. Errors are those of ``selection``."""
        async with self._changing:
            chosen = selection.prunable(self._stack.networks.values(), filters, self._used(), datetime.now(UTC))
            removed = tuple(network for network in chosen if not self._members(network))
            await to_the_end(self._remove(removed))
        self._stack.publish("network", "prune", "", {"reclaimed": "0"})  # the field of all prunes
        return tuple(network.name for network in removed)

    async def connect(self, reference: str, container_reference: str, endpoint: Endpoint) -> None:
        """Connect a container, at once if it runs and otherwise when it starts.

        Raises:
            NotFoundError: no such network or container.
            InvalidArgumentError: the two do not go together.
            PermissionDeniedError: they are connected already.
            ResourceExhaustedError: no address is left, or the one asked for is taken.
        """
        container = await self._records.find(container_reference)
        network = self._stack.resolve(reference)
        endpoint = replace(endpoint, network=network.name)
        async with self._stack.turn(container.id):
            # As they are now that it is our turn: the network may have been removed, or another have its name.
            container = await self._records.find(container.id)
            network = self._stack.resolve(network.id)
            _check_pair(container, network)
            plan.check_endpoint(network, endpoint)
            _check_count(container, endpoint)
            if any(self._stack.resolve(e.network) is network for e in self._asked(container)):
                raise PermissionDeniedError(
                    f"endpoint with name {container.name} already exists in network {network.name}"
                )
            await to_the_end(self._connect(container, network, endpoint))

    async def disconnect(self, reference: str, container_reference: str, *, force: bool) -> None:
        """Disconnect a container.

        Raises:
            NotFoundError: no such container or network; with ``force`` the words are those for an endpoint.
            InvalidArgumentError: no container is named, or it is on the host's network.
            PermissionDeniedError: the two are not connected.
        """
        try:
            container = await self._records.find(container_reference)
        except NotFoundError:
            if force:  # which forgets endpoints of containers that are gone; here they go with the container
                self._stack.resolve(reference)
                raise NotFoundError(f"endpoint {container_reference} not found") from None
            raise
        network = self._stack.resolve(reference)
        async with self._stack.turn(container.id):
            container = await self._records.find(container.id)
            network = self._stack.resolve(network.id)
            if HOST in (network.name, plan.network_mode(container.spec)):
                raise InvalidArgumentError(
                    "container cannot be disconnected from host network or connected to host network"
                )
            asked = self._asked(container)
            remaining = tuple(e for e in asked if self._stack.resolve(e.network) is not network)
            if len(remaining) == len(asked):
                raise PermissionDeniedError(f"container {container.id} is not connected to network {network.name}")
            await to_the_end(self._disconnect(container, network, remaining))

    async def unlink(self, reference: str, alias: str) -> None:
        """Take a legacy link from a container, at once if it runs. NotFoundError: it has none; Docker's words."""
        try:
            identity = (await self._records.find(reference)).id
            async with self._stack.turn(identity):
                container = await self._records.find(identity)
                if not has_link(container.spec, alias):
                    raise NotFoundError(alias)
                await to_the_end(self._unlink(container, alias))
        except NotFoundError:
            raise NotFoundError(f"No such container: {reference}/{alias}") from None

    async def _unlink(self, container: Container, alias: str) -> None:
        if (sandbox := self._stack.sandboxes.get(container.id)) is not None:
            self._stack.keep(plan.unlinked(sandbox, alias))
        await self._record(container, tuple(without_link(endpoint, alias) for endpoint in self._asked(container)))

    async def _connect(self, container: Container, network: Network, endpoint: Endpoint) -> None:
        """Connect and record it: a client that leaves in between does not part the two."""
        asked = (*self._asked(container), endpoint)  # before it joins, and is one of those that it is on
        if container.id in self._stack.sandboxes:
            await self._live.join(container, network, endpoint)
        await self._record(container, asked)

    async def _disconnect(self, container: Container, network: Network, remaining: tuple[Endpoint, ...]) -> None:
        if container.id in self._stack.sandboxes:
            await self._live.leave(container.id, network)
        await self._record(container, remaining)

    async def _make(self, network: Network) -> None:
        """Record and make it; a client that leaves in between does not part the two.

        A row is written although nobody waits for it any more: its name would be taken by a network that is not there.
        """
        await self._stack.store.add(network)
        try:
            await asyncio.to_thread(self._stack.dataplane.make, network)
            self._stack.networks[network.id] = network
            await self._stack.apply_rules()
        except BaseException:
            self._stack.networks.pop(network.id, None)
            await to_the_end(self._forget(network))
            raise
        self._stack.announce("create", network)

    async def _plan(self, request: NetworkRequest) -> Network:
        if request.config_from:
            request = self._configured(request)
        driver = NULL_DRIVER if request.config_only else request.driver or BRIDGE
        identity = new_id()
        bridge = ""
        if driver == BRIDGE:
            bridge = request.options.get(OPTION_BRIDGE_NAME) or self._stack.names.bridge(identity)
        if bridge and any(network.bridge == bridge for network in self._stack.networks.values()):
            raise AlreadyExistsError(f"bridge {bridge} belongs to another network: choose another name")
        return Network(
            id=identity,
            name=request.name,
            driver=driver,
            created=datetime.now(UTC),
            bridge=bridge,
            internal=request.internal or (driver in VLAN and not request.options.get(OPTION_PARENT)),
            attachable=request.attachable,
            pools=await self._pools(request),
            options=request.options,
            labels=request.labels,
            ipam_driver=request.ipam_driver or "default",
            ipam_options=request.ipam_options,
            enable_ipv4=not request.disable_ipv4,
            enable_ipv6=request.enable_ipv6,
            config_only=request.config_only,
            config_from=request.config_from,
        )

    def _configured(self, request: NetworkRequest) -> NetworkRequest:
        """Fill in a request from the network that holds its configuration."""
        found = next(
            (n for n in self._stack.networks.values() if n.name == request.config_from and n.config_only), None
        )
        if found is None:
            raise NotFoundError(f'configuration network "{request.config_from}" does not exist')
        check.check_depending(request)
        pools = tuple(
            AddressPool(
                str(pool.subnet),
                str(pool.gateway or ""),
                str(pool.ip_range or ""),
                {name: str(address) for name, address in pool.auxiliary.items()},
            )
            for pool in found.pools
        )
        request = replace(
            request,
            pools=pools,
            options=found.options,
            labels={**found.labels, **request.labels},
            disable_ipv4=not found.enable_ipv4,
            enable_ipv6=found.enable_ipv6,
            ipam_driver=found.ipam_driver,
            ipam_options=found.ipam_options,
        )
        check.check_request(request)
        return request

    async def _pools(self, request: NetworkRequest) -> tuple[Pool, ...]:
        """Read the addresses that were asked for, and choose others for a family that has none."""
        said = [pool for pool in request.pools if pool.subnet]
        pools = [ipam.parse_pool(p.subnet, p.gateway, p.ip_range, dict(p.auxiliary)) for p in said]
        if request.config_only:
            return tuple(
                pool if asked.gateway else replace(pool, gateway=None) for pool, asked in zip(pools, said, strict=True)
            )
        self._check_overlap(pools)
        for version, enabled in ((4, not request.disable_ipv4), (6, request.enable_ipv6)):
            if enabled and not any(pool.subnet.version == version for pool in pools):
                pools.append(await self._stack.free_pool(version))
        return tuple(sorted(pools, key=lambda pool: pool.subnet.version))  # stable: the user's order is kept

    def _check_overlap(self, pools: Sequence[Pool]) -> None:
        networks = self._stack.networks.values()
        taken = [pool.subnet for network in networks if not network.config_only for pool in network.pools]
        for pool in pools:
            if ipam.overlaps(pool.subnet, taken):
                raise PermissionDeniedError(ipam.OVERLAP)
            taken.append(pool.subnet)

    async def _remove(self, networks: Sequence[Network]) -> None:
        # Out of sight first, so that nobody joins them meanwhile.
        for network in networks:
            del self._stack.networks[network.id]
        try:
            await self._stack.store.remove(*(network.id for network in networks))
        except BaseException:
            self._stack.networks.update((network.id, network) for network in networks)  # recorded, so they are there
            raise
        try:
            await self._clear(networks)
        finally:
            for network in networks:
                self._stack.announce("destroy", network)

    async def _forget(self, network: Network) -> None:
        # The row goes first: after a crash a bridge without one is a leftover, and recover removes it.
        await self._stack.store.remove(network.id)
        await self._clear((network,))

    async def _clear(self, networks: Sequence[Network]) -> None:
        for network in networks:
            self._stack.set_aside.drop("network", network.id)
        await self._stack.apply_rules()
        await asyncio.to_thread(self._stack.dataplane.remove, *networks)

    def _asked(self, container: Container) -> tuple[Endpoint, ...]:
        """The networks that the container is to be on; of a running one, those that it is on.

        What it was created with does not count: it may have been disconnected from all of that since.
        """
        sandbox = self._stack.sandboxes.get(container.id)
        if sandbox is not None:
            return tuple(replace(a.state.requested, network=a.state.network) for a in sandbox.endpoints)
        recorded = (replace(state.requested, network=state.network) for state in container.network.endpoints)
        return tuple(endpoint for endpoint in recorded if self._known(endpoint.network))

    def _known(self, reference: str) -> bool:
        try:
            self._stack.resolve(reference)
        except NotFoundError:
            return False
        return True

    async def _record(self, container: Container, endpoints: tuple[Endpoint, ...]) -> None:
        if container.id in self._stack.sandboxes:
            settings = self._stack.settings(container)
        else:
            states = tuple(EndpointState(e.network, "", e, aliases=e.aliases) for e in endpoints)
            settings = NetworkSettings(endpoints=states)
        await self._records.set_network(container.id, endpoints, settings)

    def _members(self, network: Network) -> tuple[Member, ...]:
        pairs = ((sandbox, sandbox.on(network.id)) for sandbox in self._stack.sandboxes.values() if sandbox.shown)
        return tuple(Member(s.container_id, s.container_name, a.state) for s, a in pairs if a is not None)

    def _used(self) -> frozenset[str]:
        endpoints = (a for sandbox in self._stack.sandboxes.values() for a in sandbox.endpoints)
        return frozenset(attached.state.network_id for attached in endpoints)


def _check_count(container: Container, endpoint: Endpoint) -> None:
    """Refuse one network more than a container's record has room for."""
    if len(container.network.endpoints) >= limits.NETWORKS:
        raise InvalidArgumentError(f"container {container.name} has {limits.NETWORKS} networks, which is the most")
    limits.check_record(replace(container.spec, endpoints=(*container.spec.endpoints, endpoint)), "container")


def _check_pair(container: Container, network: Network) -> None:
    mode = plan.network_mode(container.spec)
    if HOST in (network.name, mode):
        raise InvalidArgumentError("container cannot be disconnected from host network or connected to host network")
    if mode.startswith(CONTAINER_PREFIX) or namespace_path(mode):
        raise InvalidArgumentError(
            "container sharing network namespace with another container or host "
            "cannot be connected to any other network"
        )
    if NONE in (network.name, mode):
        raise InvalidArgumentError(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )
