"""Connect a running container to one more network, or take it off one."""

from dataclasses import replace
from typing import Final

from runtimed.network.core.model import Attached, Network, Sandbox
from runtimed.network.core.stack import NetworkStack
from runtimed.network.dns.server_pool import needs_server
from runtimed.network.kernel.dataplane import Exits
from runtimed.network.planning import plan
from sampan.cancellation import to_the_end
from sampan.resource.container import Container
from sampan.resource.container_spec import Endpoint
from sampan.sys.netns import in_own_thread


class LiveEndpoints:
    """Changes the interfaces of running containers; call it in the container's turn (``NetworkStack.turn``)."""

    def __init__(self, stack: NetworkStack) -> None:
        self._stack: Final = stack

    async def join(self, container: Container, network: Network, endpoint: Endpoint) -> None:
        """Add an interface on ``network``; all or nothing. Default routes move where it precedes those that lead out.

        Raises:
            InvalidArgumentError, ResourceExhaustedError: as ``ipam.allocate``.
            StartError: the container publishes ports, this network is the first that leads out, and one is taken.
        """
        stack = self._stack
        before = stack.sandboxes[container.id]
        attached = plan.connect(network, endpoint, container, stack.in_use(network.id), before.endpoints)
        endpoints = (*before.endpoints, attached)
        after = replace(
            before,
            endpoints=endpoints,
            gateway_endpoint=plan.gateway_endpoint(endpoints, 4),
            gateway6_endpoint=plan.gateway_endpoint(endpoints, 6),
        )
        stack.sandboxes[container.id] = after  # the address is taken from here on
        try:
            await to_the_end(self._join(container, before, after, attached))
        except BaseException:
            await to_the_end(self._undo(before, attached))
            raise
        stack.announce("connect", network, container.id)

    async def leave(self, container_id: str, network: Network) -> None:
        """Remove the interface on ``network``, where the container has one.

        If it led out, the default route and the published ports go on through another network that does, or end.
        """
        stack = self._stack
        before = stack.sandboxes[container_id]
        attached = before.on(network.id)
        if attached is None:
            return
        remaining = tuple(other for other in before.endpoints if other is not attached)
        after = plan.reduced(before, remaining)
        if not stack.leads_out(after):
            after = replace(after, ports=())
        await to_the_end(self._unplug(before, after, attached))
        stack.announce("disconnect", network, container_id)

    async def _join(self, container: Container, before: Sandbox, after: Sandbox, attached: Attached) -> None:
        stack = self._stack
        moved = _moved(before, after)
        if moved and not before.ports:
            after = replace(after, ports=stack.reserve_ports(container, after))
        stack.keep(after)
        await stack.left(attached)
        path = stack.files_of.namespace(container.id)
        (wire,) = stack.wires((attached,))
        exits = _exits(before, after)
        await in_own_thread(lambda: stack.dataplane.plug(path, wire, exits), f"netns-{container.short_id}")
        await stack.ports_changed(after, after.ports if moved else ())
        if needs_server(after):
            await stack.dns_servers.start(container.id, path, container.spec.dns)

    async def _undo(self, before: Sandbox, attached: Attached) -> None:
        stack = self._stack
        stack.keep(before)
        if not before.ports:
            await stack.relays.stop(before.container_id)
            stack.ports.release(before.container_id)
        await stack.apply_rules()
        if not needs_server(before):
            await stack.dns_servers.stop(before.container_id)
        stack.let_go((attached,))

    async def _unplug(self, before: Sandbox, after: Sandbox, attached: Attached) -> None:
        stack = self._stack
        stack.keep(after)
        await stack.ports_changed(after, before.ports if _moved(before, after) else ())
        if not needs_server(after):
            await stack.dns_servers.stop(after.container_id)
        if not after.ports:
            stack.ports.release(after.container_id)
        path = stack.files_of.namespace(after.container_id)
        exits = _exits(before, after)
        (wire,) = stack.wires((attached,))
        await in_own_thread(lambda: stack.dataplane.unplug(path, wire, exits), f"netns-{after.container_id[:12]}")


def _moved(before: Sandbox, after: Sandbox) -> bool:
    """Tell whether another endpoint leads out than before."""
    ways = (before.gateway_endpoint, before.gateway6_endpoint)
    return ways != (after.gateway_endpoint, after.gateway6_endpoint)


def _exits(before: Sandbox, after: Sandbox) -> Exits:
    """Return the endpoints to which default routes move."""
    return Exits(
        after.gateway(4) if before.gateway_endpoint != after.gateway_endpoint else None,
        after.gateway(6) if before.gateway6_endpoint != after.gateway6_endpoint else None,
    )
