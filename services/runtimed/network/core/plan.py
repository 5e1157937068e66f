"""Decide how a container is connected: which networks, which addresses, which gateway. No I/O."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from ipaddress import IPv4Address

from runtimed.network.core import files, ipam, names, ports
from runtimed.network.core.model import BRIDGE, CONTAINER_PREFIX, HOST, NONE, Attached, Network, Sandbox
from sampan.docker.options import namespaces
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError
from sampan.resource.container import Container, EndpointState, NetworkSettings, PublishedPort
from sampan.resource.container_spec import ContainerSpec, Endpoint

Resolve = Callable[[str], Network]


def network_mode(spec: ContainerSpec) -> str:
    """Return the mode with the default filled in."""
    return namespaces.network_mode(spec.namespaces.network)


def wanted(spec: ContainerSpec) -> tuple[Endpoint, ...]:
    """Return the networks to join: those that the spec lists, with the mode's first, or else the mode's alone."""
    mode = network_mode(spec)
    if mode.startswith(CONTAINER_PREFIX):
        return ()
    if not spec.endpoints:
        return (Endpoint(mode),)
    listed = [replace(e, network=BRIDGE) if e.network in ("", "default") else e for e in spec.endpoints]
    return tuple(sorted(listed, key=lambda endpoint: endpoint.network != mode))  # stable: others keep their order


def check(spec: ContainerSpec, resolve: Resolve) -> tuple[NetworkSettings, tuple[str, ...]]:
    """Validate a spec; return the settings as requested, and warnings. See ``Networking.check``."""
    mode = network_mode(spec)
    bindings = ports.requests(spec)
    exposed = [ports.parse_exposed(text) for text in spec.exposed_ports]
    files.check_dns(spec.dns)
    if mode.startswith(CONTAINER_PREFIX):
        _check_joining(spec, published=bool(bindings), exposed=bool(exposed))
        return NetworkSettings(), ()
    requested = wanted(spec)
    states = []
    seen: set[str] = set()
    for endpoint in requested:
        try:
            network = resolve(endpoint.network)
        except NotFoundError:
            # Left to the start, as in Docker: its client takes a 404 from create for a missing image, and pulls.
            states.append(EndpointState(endpoint.network, "", endpoint, aliases=endpoint.aliases))
            continue
        if network.id in seen:
            raise InvalidArgumentError(f"network {network.name} is asked for twice")
        seen.add(network.id)
        check_endpoint(network, endpoint)
        if len(requested) > 1 and network.name in (HOST, NONE):
            raise InvalidArgumentError(f"conflicting options: network {network.name} and another network")
        states.append(EndpointState(network.name, "", endpoint, aliases=endpoint.aliases))
    warnings = ("Published ports are discarded when using host network mode",) if mode == HOST and bindings else ()
    return NetworkSettings(endpoints=tuple(states)), warnings


def check_endpoint(network: Network, endpoint: Endpoint) -> None:
    """Raise InvalidArgumentError for what is not possible on ``network``, in Docker's words."""
    if endpoint.aliases and not network.user_defined:
        raise InvalidArgumentError(
            f"invalid config for network {network.name}: invalid endpoint settings:\n"
            "network-scoped aliases are only supported for user-defined networks"
        )
    if endpoint.ipv6_address:
        raise InvalidArgumentError(f"invalid endpoint settings: network {network.name} has no IPv6 subnet")
    if endpoint.ipv4_address:
        ipam.check_static(network, endpoint.ipv4_address)
    if endpoint.mac_address:
        parse_mac(endpoint.mac_address)


def _check_joining(spec: ContainerSpec, *, published: bool, exposed: bool) -> None:
    conflicts = {
        "hostname": bool(spec.hostname),
        "dns": bool(spec.dns.servers or spec.dns.search or spec.dns.options),
        "custom host-to-IP mapping": bool(spec.extra_hosts),
        "port publishing": published,
    }
    for option, given in conflicts.items():
        if given:
            kind = "container type network mode" if option == "port publishing" else "network mode"
            raise InvalidArgumentError(f"conflicting options: {option} and the {kind}")
    if exposed and spec.publish_all_ports:
        raise InvalidArgumentError("conflicting options: port exposing and the container type network mode")


def parse_mac(text: str) -> str:
    """Return a hardware address in the usual form.

    Raises:
        InvalidArgumentError: it is none, or a multicast address.
    """
    octets = text.replace("-", ":").split(":")
    try:
        raw = bytes(int(octet, 16) for octet in octets)
    except ValueError:
        raw = b""
    if len(raw) != 6 or raw[0] & 1 or not any(raw):
        raise InvalidArgumentError(f"invalid MAC address: {text}")
    return ":".join(f"{octet:02x}" for octet in raw)


def connect(
    network: Network, endpoint: Endpoint, container: Container, in_use: Collection[IPv4Address], interface: str
) -> Attached:
    """Give an endpoint its identity and addresses.

    Raises:
        ConflictError: the network is set aside.
        SampanError: as ``ipam.allocate``.
    """
    if network.fault:
        raise ConflictError(f"network {network.name} was set aside when the engine started, remove it: {network.fault}")
    identity = names.new_id()
    if network.driver != BRIDGE:
        state = EndpointState(network.name, network.id, endpoint, identity, aliases=endpoint.aliases)
        return Attached(state, "", "")
    address, pool = ipam.allocate(network, in_use, endpoint.ipv4_address)
    mac = parse_mac(endpoint.mac_address) if endpoint.mac_address else names.mac_for(address)
    known = (container.name, *endpoint.aliases, container.short_id, container.spec.hostname)
    state = EndpointState(
        network=network.name,
        network_id=network.id,
        requested=endpoint,
        endpoint_id=identity,
        ipv4_address=str(address),
        ipv4_prefix=pool.subnet.prefixlen,
        gateway="" if network.internal or pool.gateway is None else str(pool.gateway),
        mac_address=mac,
        aliases=endpoint.aliases,
        dns_names=tuple(dict.fromkeys(name for name in known if name)) if network.user_defined else (),
    )
    return Attached(state, interface, names.veth(identity))


def gateway_endpoint(endpoints: Sequence[Attached]) -> str:
    """Return the ID of the endpoint that leads out: Docker takes the first network by name; empty: none does."""
    leading = [attached.state for attached in endpoints if attached.state.gateway]
    return min(leading, key=lambda state: state.network).endpoint_id if leading else ""


def settings(sandbox: Sandbox, path: str, exposed: Sequence[PublishedPort]) -> NetworkSettings:
    """Return a sandbox as a container's record shows it."""
    return NetworkSettings(
        sandbox_id=sandbox.sandbox_id,
        sandbox_path=path,
        endpoints=tuple(attached.state for attached in sandbox.endpoints),
        ports=(*sandbox.ports, *exposed),
    )


def next_interface(endpoints: Sequence[Attached]) -> str:
    """Return the lowest free name: eth0, eth1, …"""
    used = {attached.interface for attached in endpoints}
    return next(name for name in (f"eth{number}" for number in range(len(used) + 1)) if name not in used)


def renamed(sandbox: Sandbox, name: str) -> Sandbox:
    """Return the sandbox of a container that got another name, under which it is found from now on."""
    old = sandbox.container_name
    endpoints = []
    for attached in sandbox.endpoints:
        kept = tuple(known for known in attached.state.dns_names if known != old)
        dns_names = tuple(dict.fromkeys((name, *kept))) if attached.state.dns_names else ()
        endpoints.append(replace(attached, state=replace(attached.state, dns_names=dns_names)))
    return replace(sandbox, container_name=name, endpoints=tuple(endpoints))
