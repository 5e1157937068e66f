"""Network values for tests, with everything that a test does not care about filled in."""

from datetime import UTC, datetime

from runtimed.network.core.model import Attached, Sandbox
from runtimed.network.core.names import new_id
from sampan.resource.container import Container, EndpointState
from sampan.resource.container_spec import ContainerSpec, Endpoint


def container(spec: ContainerSpec) -> Container:
    return Container(new_id(), spec, datetime.now(UTC))


def attached(
    network: str = "bridge",
    address: str = "172.17.0.2",
    *,
    dns_names: tuple[str, ...] = (),
    requested: Endpoint | None = None,
    gateway: str = "172.17.0.1",
) -> Attached:
    state = EndpointState(
        network=network,
        network_id=network * 4,
        requested=requested or Endpoint(network),
        endpoint_id=new_id(),
        ipv4_address=address,
        ipv4_prefix=16,
        gateway=gateway,
        dns_names=dns_names,
    )
    return Attached(state, "eth0", "ve0")


def sandbox(
    *endpoints: Attached, name: str = "web", hostname: str = "web", owns_namespace: bool = True, id: str = ""
) -> Sandbox:
    return Sandbox(
        container_id=id or new_id(),
        container_name=name,
        hostname=hostname,
        sandbox_id=new_id(),
        owns_namespace=owns_namespace,
        endpoints=endpoints,
        gateway_endpoint=endpoints[0].state.endpoint_id if endpoints else "",
    )
