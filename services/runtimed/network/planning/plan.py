"""Decide how a container is connected: which networks, which addresses, which gateway. No I/O."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from ipaddress import ip_address

from runtimed.containers.links import without_link
from runtimed.network.core import files, names
from runtimed.network.core.model import (
    BRIDGE,
    CONTAINER_PREFIX,
    HOST,
    ISOLATED,
    NONE,
    OPTION_ENDPOINT_INTERFACE,
    OPTION_INTERFACE_PREFIX,
    WIRED,
    Address,
    Attached,
    Network,
    Sandbox,
)
from runtimed.network.planning import ipam, options
from runtimed.network.publish import ports
from sampan.docker.options import namespaces
from sampan.docker.options.namespaces import namespace_path
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError, PermissionDeniedError
from sampan.resource.container import Container, EndpointState, NetworkSettings, PublishedPort
from sampan.resource.container_spec import ContainerSpec, Endpoint

Resolve = Callable[[str], Network]


def network_mode(spec: ContainerSpec) -> str:
    """Return the mode with the default filled in."""
    return namespaces.network_mode(spec.namespaces.network)


def wanted(spec: ContainerSpec) -> tuple[Endpoint, ...]:
    """Return the networks to join: those that the spec lists, with the mode's first, or else the mode's alone."""
    mode = network_mode(spec)
    if mode.startswith(CONTAINER_PREFIX) or namespace_path(mode):
        return ()
    if not spec.endpoints:
        return (Endpoint(mode),)
    listed = [replace(e, network=BRIDGE) if e.network in ("", "default") else e for e in spec.endpoints]
    return tuple(sorted(listed, key=lambda endpoint: endpoint.network != mode))  # stable: others keep their order


def check(spec: ContainerSpec, resolve: Resolve) -> tuple[NetworkSettings, tuple[str, ...]]:
    """Validate a spec; return the settings as requested, and warnings. See ``Networking.check``."""
    mode = network_mode(spec)
    bindings = ports.requests(spec)
    for text in spec.exposed_ports:
        ports.parse_exposed(text)
    files.check_dns(spec.dns)
    if mode.startswith(CONTAINER_PREFIX) or namespace_path(mode):
        _check_joining(spec, published=bool(bindings) or spec.publish_all_ports)
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
    for version, asked in ((4, endpoint.ipv4_address), (6, endpoint.ipv6_address)):
        if asked and network.user_defined and network.driver in WIRED and not network.pools_of(version):
            raise InvalidArgumentError(
                f"invalid endpoint settings:\nno configured subnet contains IP address {asked}: "
                f"network {network.name} has no IPv{version} subnet"
            )
        if asked:
            ipam.check_static(network, asked, version)
    if endpoint.mac_address:
        parse_mac(endpoint.mac_address)
    options.check_endpoint(network, endpoint)


def _check_joining(spec: ContainerSpec, *, published: bool) -> None:
    conflicts = {
        # Whoever joins a namespace by its file says what the host is called there: nobody else could.
        "hostname": bool(spec.hostname) and not namespace_path(network_mode(spec)),
        "dns": bool(spec.dns.servers or spec.dns.search or spec.dns.options),
        "custom host-to-IP mapping": bool(spec.extra_hosts),
        "port publishing": published,
    }
    for option, given in conflicts.items():
        if given:
            kind = "container type network mode" if option == "port publishing" else "network mode"
            raise InvalidArgumentError(f"conflicting options: {option} and the {kind}")


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
    network: Network,
    endpoint: Endpoint,
    container: Container,
    in_use: Collection[Address],
    others: Sequence[Attached],
) -> Attached:
    """Give an endpoint its identity and addresses, beside the container's ``others``.

    Raises:
        ConflictError: the network is set aside, or its interface would have another's name.
        PermissionDeniedError: it is no network to be on.
        SampanError: as ``ipam.allocate``.
    """
    if network.fault:
        raise ConflictError(f"network {network.name} was set aside when the engine started, remove it: {network.fault}")
    if network.config_only:
        raise PermissionDeniedError("cannot create endpoint on configuration-only network")
    identity = names.new_id()
    if network.driver not in WIRED:
        state = EndpointState(network.name, network.id, endpoint, identity, aliases=endpoint.aliases)
        return Attached(state, "", "")
    v4, prefix4, gateway4 = _family(network, 4, in_use, endpoint.ipv4_address)
    v6, prefix6, gateway6 = _family(network, 6, in_use, endpoint.ipv6_address)
    mac = parse_mac(endpoint.mac_address) if endpoint.mac_address else names.mac_for(ip_address(v4 or v6))
    known = (container.name, *endpoint.aliases, container.short_id, container.spec.hostname)
    state = EndpointState(
        network=network.name,
        network_id=network.id,
        requested=endpoint,
        endpoint_id=identity,
        ipv4_address=v4,
        ipv4_prefix=prefix4,
        gateway=gateway4,
        mac_address=mac,
        aliases=endpoint.aliases,
        dns_names=tuple(dict.fromkeys(name for name in known if name)) if network.user_defined else (),
        ipv6_address=v6,
        ipv6_prefix=prefix6,
        ipv6_gateway=gateway6,
    )
    wanted = endpoint.driver_options.get(OPTION_ENDPOINT_INTERFACE, "")
    if wanted and any(other.interface == wanted for other in others):
        raise ConflictError(f"interface name {wanted} is asked for twice")
    interface = wanted or next_interface(others, network.options.get(OPTION_INTERFACE_PREFIX) or "eth")
    veth = names.veth(identity) if network.driver == BRIDGE else ""
    return Attached(state, interface, veth, on_link=network.layer3 and not network.internal)


def _family(network: Network, version: int, in_use: Collection[Address], asked: str) -> tuple[str, int, str]:
    """Return the address of a family with its prefix length and gateway, as far as the network has them."""
    if not network.pools_of(version):
        return "", 0, ""
    address, pool = ipam.allocate(network, in_use, asked, version)
    closed = network.internal or network.layer3 or network.gateway_mode(version) == ISOLATED
    return str(address), pool.subnet.prefixlen, "" if closed or pool.router is None else str(pool.router)


def gateway_endpoint(endpoints: Sequence[Attached], version: int = 4) -> str:
    """Return the ID of the endpoint that leads out for a family, 4 or 6; empty: none does.

    Docker takes the one of the highest priority, of those one that leads out for both families, and of those the
    first network by name.
    """

    def rank(attached: Attached) -> tuple[int, int, str]:
        families = attached.leads_out(4) + attached.leads_out(6)
        return -attached.state.requested.gw_priority, -families, attached.state.network

    first = min((attached for attached in endpoints if attached.leads_out(version)), key=rank, default=None)
    return first.state.endpoint_id if first else ""


def reduced(sandbox: Sandbox, remaining: tuple[Attached, ...]) -> Sandbox:
    """Return a sandbox that has these endpoints left; where the one that led out is gone, another does."""
    ids = {attached.state.endpoint_id for attached in remaining}
    v4, v6 = sandbox.gateway_endpoint, sandbox.gateway6_endpoint
    return replace(
        sandbox,
        endpoints=remaining,
        gateway_endpoint=v4 if v4 in ids else gateway_endpoint(remaining, 4),
        gateway6_endpoint=v6 if v6 in ids else gateway_endpoint(remaining, 6),
    )


def settings(sandbox: Sandbox, path: str, exposed: Sequence[PublishedPort]) -> NetworkSettings:
    """Return a sandbox as a container's record shows it."""
    return NetworkSettings(
        sandbox_id=sandbox.sandbox_id,
        sandbox_path=path,
        endpoints=tuple(attached.state for attached in sandbox.endpoints),
        ports=(*sandbox.ports, *exposed),
    )


def next_interface(endpoints: Sequence[Attached], prefix: str = "eth") -> str:
    """Return the lowest free name: eth0, eth1, …"""
    used = {attached.interface for attached in endpoints}
    return next(name for name in (f"{prefix}{number}" for number in range(len(used) + 1)) if name not in used)


def unlinked(sandbox: Sandbox, alias: str) -> Sandbox:
    """Return the sandbox of a container that has no link of that alias any more."""
    endpoints = tuple(
        replace(attached, state=replace(attached.state, requested=without_link(attached.state.requested, alias)))
        for attached in sandbox.endpoints
    )
    return replace(sandbox, endpoints=endpoints)


def renamed(sandbox: Sandbox, name: str) -> Sandbox:
    """Return the sandbox of a container that got another name, under which it is found from now on."""
    old = sandbox.container_name
    endpoints = []
    for attached in sandbox.endpoints:
        kept = tuple(known for known in attached.state.dns_names if known != old)
        dns_names = tuple(dict.fromkeys((name, *kept))) if attached.state.dns_names else ()
        endpoints.append(replace(attached, state=replace(attached.state, dns_names=dns_names)))
    return replace(sandbox, container_name=name, endpoints=tuple(endpoints))
