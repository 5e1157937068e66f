"""Connect a running container to one more network, or take it off one."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Final

from runtimed.network.core import plan
from runtimed.network.core.model import Attached, Network, Sandbox
from runtimed.network.core.stack import NetworkStack
from runtimed.network.dns.server_pool import needs_server
from runtimed.network.kernel.netns import in_own_thread
from sampan.cancellation import to_the_end
from sampan.resource.container import Container, PublishedPort
from sampan.resource.container_spec import Endpoint


class LiveEndpoints:
    """Changes the interfaces of running containers; call it in the container's turn (``NetworkStack.turn``)."""

    def __init__(self, stack: NetworkStack) -> None:
        self._stack: Final = stack

    async def join(self, container: Container, network: Network, endpoint: Endpoint) -> None:
        """Add an interface on ``network``; all or nothing. The default route moves only if there was none.

        Raises:
            InvalidArgumentError, ResourceExhaustedError: as ``ipam.allocate``.
            StartError: the container publishes ports, this network is the first that leads out, and one is taken.
        """
        stack = self._stack
        before = stack.sandboxes[container.id]
        in_use = stack.in_use(network.id)
        attached = plan.connect(network, endpoint, container, in_use, plan.next_interface(before.endpoints))
        after = replace(before, endpoints=(*before.endpoints, attached))
        gateway = None
        if not before.gateway_endpoint and attached.state.gateway:
            gateway = IPv4Address(attached.state.gateway)
            after = replace(after, gateway_endpoint=attached.state.endpoint_id)
        stack.sandboxes[container.id] = after  # the address is taken from here on
        try:
            await to_the_end(self._join(container, after, attached, gateway))
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
        moves = before.gateway_endpoint == attached.state.endpoint_id
        gateway_id = plan.gateway_endpoint(remaining) if moves else before.gateway_endpoint
        ports: tuple[PublishedPort, ...] = before.ports if gateway_id else ()
        after = replace(before, endpoints=remaining, gateway_endpoint=gateway_id, ports=ports)
        await to_the_end(self._unplug(after, attached, moved=before.ports if moves else None))
        stack.announce("disconnect", network, container_id)

    async def _join(
        self, container: Container, after: Sandbox, attached: Attached, gateway: IPv4Address | None
    ) -> None:
        stack = self._stack
        if gateway is not None:
            after = replace(after, ports=stack.reserve_ports(container, after))
        stack.keep(after)
        await stack.left(attached.state.network_id, attached.state.ipv4_address)
        path = stack.files_of.namespace(container.id)
        (wire,) = stack.wires((attached,))
        await in_own_thread(lambda: stack.dataplane.plug(path, wire, gateway), f"netns-{container.short_id}")
        await stack.ports_changed(after.ports if gateway is not None else ())
        if needs_server(after):
            await stack.dns_servers.start(container.id, path, container.spec.dns)

    async def _undo(self, before: Sandbox, attached: Attached) -> None:
        stack = self._stack
        stack.keep(before)
        if not before.ports:
            stack.ports.release(before.container_id)
        await stack.apply_rules()
        if not needs_server(before):
            await stack.dns_servers.stop(before.container_id)
        stack.let_go((attached,))

    async def _unplug(self, after: Sandbox, attached: Attached, *, moved: tuple[PublishedPort, ...] | None) -> None:
        """``moved``: the ports that lead elsewhere now, or nowhere; None: this network did not lead out."""
        stack = self._stack
        stack.keep(after)
        await stack.ports_changed(moved or ())
        if not needs_server(after):
            await stack.dns_servers.stop(after.container_id)
        if not after.ports:
            stack.ports.release(after.container_id)
        path = stack.files_of.namespace(after.container_id)
        target = after.target if moved is not None else None
        gateway = IPv4Address(target.state.gateway) if target else None
        others = stack.wires(after.endpoints)
        (wire,) = stack.wires((attached,))
        await in_own_thread(
            lambda: stack.dataplane.unplug(path, wire, others, gateway), f"netns-{after.container_id[:12]}"
        )
