"""Reconcile memory, records and kernel when the engine starts."""

import asyncio
from collections.abc import Collection
from dataclasses import replace

from runtimed.network.core.model import BRIDGE, CONTAINER_PREFIX, Network
from runtimed.network.core.state import NetworkState
from runtimed.network.dns.server_pool import needs_server
from runtimed.network.kernel.dataplane import pools_locked
from runtimed.network.planning import ipam, plan
from sampan.docker.options.namespaces import namespace_path
from sampan.errors import InvalidArgumentError
from sampan.log import log
from sampan.resource.container import Container
from sampan.service.set_aside import why


async def recover(stack: NetworkState, running: Collection[Container]) -> None:
    """Keep what belongs to ``running``, remove every other thing of ours, and make what is missing."""
    alive = {container.id: container for container in running}
    for container_id in {*stack.files_of.namespaces(), *stack.files_of.all(), *stack.sandboxes} - set(alive):
        log.info("removing leftover network", container=container_id)
        with stack.set_aside.guard("sandbox", container_id):
            await _remove(stack, container_id)
    for container in running:
        undo_unrecorded(stack, container)
        _rename(stack, container)
    # Containers run while the engine does not, and somebody may have flushed the rules: they come before all below.
    await stack.apply_table()
    async with pools_locked():
        await _settle_default_bridge(stack)
        for network in tuple(stack.networks.values()):
            if network.fault:
                stack.set_aside.add("network", network.id, network.fault, network.name)
            elif network.driver == BRIDGE:
                await _make_bridge(stack, network)
            # What macvlan and ipvlan networks share is looked for when a container starts: it may come later.
    veths = [attached.veth for sandbox in stack.sandboxes.values() for attached in sandbox.endpoints]
    swept = await asyncio.to_thread(stack.dataplane.sweep, tuple(stack.networks.values()), veths)
    if swept:
        log.info("removed leftover interfaces", interfaces=swept)
    for container in alive.values():
        with stack.set_aside.guard("sandbox", container.id, container.name):
            await _reclaim(stack, container)
    stack.kept.settle()
    await stack.apply_rules()


def undo_unrecorded(stack: NetworkState, container: Container) -> None:
    """Take endpoints out of a sandbox that the container's record does not know: of a connect that was killed.

    Its client was told nothing, inspect does not show it, and another connect would be refused as the second one. The
    interface goes with all others that no sandbox has.
    """
    sandbox = stack.sandboxes.get(container.id)
    if sandbox is None:
        return
    recorded = {state.endpoint_id for state in container.network.endpoints}
    known = tuple(attached for attached in sandbox.endpoints if attached.state.endpoint_id in recorded)
    if known == sandbox.endpoints:
        return
    log.info("undoing a connect that was not recorded", container=container.id)
    # Ports lead to the first network that leads out. If that was this one, there was none before it, or it took over.
    after = plan.reduced(sandbox, known)
    stack.keep(after if stack.leads_out(after) else replace(after, ports=()))


def _rename(stack: NetworkState, container: Container) -> None:
    """Call a sandbox what its container's record says: a rename may have been killed between the two."""
    sandbox = stack.sandboxes.get(container.id)
    if sandbox is not None and sandbox.shown and sandbox.container_name != container.name:
        stack.keep(plan.renamed(sandbox, container.name))


def has_left(stack: NetworkState, container: Container) -> bool:
    """Whether a container's sandbox lacks an endpoint that its record has."""
    sandbox = stack.sandboxes.get(container.id)
    if sandbox is None:
        return False
    connected = {attached.state.endpoint_id for attached in sandbox.endpoints}
    return not connected.issuperset(state.endpoint_id for state in container.network.endpoints)


async def _make_bridge(stack: NetworkState, network: Network) -> None:
    try:
        await asyncio.to_thread(stack.dataplane.make, network)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not keep the rest from being served
        stack.set_aside.add("network", network.id, why(error), network.name)
        stack.networks[network.id] = replace(network, fault=why(error))


async def _remove(stack: NetworkState, container_id: str) -> None:
    sandbox = stack.sandboxes.pop(container_id, None)
    await asyncio.to_thread(stack.dataplane.tear_down, stack.files_of.namespace(container_id))
    if sandbox is not None:
        veths = tuple(attached.veth for attached in sandbox.endpoints if attached.veth)
        await asyncio.to_thread(stack.dataplane.delete_links, veths)
    stack.files_of.remove(container_id)


async def _reclaim(stack: NetworkState, container: Container) -> None:
    sandbox = stack.sandboxes.get(container.id)
    if sandbox is None:
        mode = plan.network_mode(container.spec)
        if not mode.startswith(CONTAINER_PREFIX) and not namespace_path(mode):
            log.warning("running container has no network record", container=container.id)
        return
    lost = stack.ports.reacquire(container.id, sandbox.ports)
    if lost:
        log.warning("published ports are also bound by another program", container=container.id, ports=lost)
    await stack.relay(sandbox)
    if needs_server(sandbox):
        await stack.dns_servers.restart(container.id, stack.files_of.namespace(container.id), container.spec.dns)


async def _settle_default_bridge(stack: NetworkState) -> None:
    """Make the default network what the configuration says, and move it if somebody else took its addresses meanwhile.

    While containers are on it its bridge stays as it is: they would lose their addresses.

    Raises:
        InvalidArgumentError: the addresses that it is to have belong to a network of ours.
    """
    network, wanted = stack.default, stack.default_bridge
    after = wanted.of(network)
    if stack.in_use(network.id):
        after = wanted.beneath(network)
        if wanted.of(network) != after or not wanted.keeps(network):
            log.warning("default network stays as it is while containers run on it")
    else:
        others = [each.pools for each in stack.networks.values() if each.id != network.id and not each.config_only]
        ours = [pool.subnet for pools in others for pool in pools]
        for pool in wanted.pools:
            if ipam.overlaps(pool.subnet, ours):
                key = "bip" if pool.subnet.version == 4 else "bip6"
                raise InvalidArgumentError(f"{key}: {pool.subnet} overlaps a network that is there")
        taken = await asyncio.to_thread(stack.dataplane.taken, network.bridge)
        given = {pool.subnet.version for pool in wanted.pools}
        staying = [
            pool
            for pool in network.pools
            if pool.subnet.version not in given and not pool.asked_for and not ipam.overlaps(pool.subnet, taken)
        ]
        lost = any(p.subnet.version not in given and ipam.overlaps(p.subnet, taken) for p in network.pools)
        if lost or not wanted.keeps(network):
            pools = await stack.default_pools(staying)
            log.warning("default network moved", subnets=[str(pool.subnet) for pool in pools], was_taken=lost)
            after = replace(after, pools=pools)
    if after == network:
        return
    if not stack.in_use(network.id):
        await asyncio.to_thread(stack.dataplane.remove, network)
    await stack.store.redefine(after)
    stack.networks[network.id] = after
