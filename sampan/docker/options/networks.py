"""Which networks a container joins, and how: the mode's first."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from sampan.docker.options.namespaces import BRIDGE, CONTAINER, network_mode
from sampan.errors import ConflictError, InvalidArgumentError
from sampan.resource.container_spec import Endpoint

_NONE: Final = "none"
_HOST: Final = "host"
_WITHOUT_ENDPOINTS: Final = (_NONE, _HOST)
PREDEFINED: Final = (BRIDGE, *_WITHOUT_ENDPOINTS)
LOCAL_SCOPE: Final = "local"
ENDPOINT_SYSCTLS: Final = "com.docker.network.endpoint.sysctls"  # an endpoint's driver option


def endpoints(mode: str, given: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """Return the networks to join for ``mode``, that of the mode first; none where there is nothing to say of them.

    Raises:
        InvalidArgumentError: in Docker's words, a network twice, or with a mode that has none of its own, or something
            of an interface where the container gets none.
    """
    named: dict[str, Endpoint] = {}
    for endpoint in given:
        network = network_mode(endpoint.network)
        if network in named:
            raise InvalidArgumentError(f'network "{network}" is specified multiple times')
        named[network] = replace(endpoint, network=network)
    first = named.pop(mode, Endpoint(mode))
    if named and (mode.startswith(CONTAINER) or not {mode, *named}.isdisjoint(_WITHOUT_ENDPOINTS)):
        raise InvalidArgumentError(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
        )
    if first.aliases and (mode in PREDEFINED or mode.startswith(CONTAINER)):
        raise InvalidArgumentError(
            f"invalid config for network {mode}: invalid endpoint settings:\n"
            "network-scoped aliases are only supported for user-defined networks"
        )
    if mode in _WITHOUT_ENDPOINTS or mode.startswith(CONTAINER):
        _check_nothing(mode, first)
        return ()
    return () if not named and first == Endpoint(BRIDGE) else (first, *named.values())


def check_scope(scope: str, *, ingress: bool = False) -> None:
    """Refuse a network that is to span machines: here each is of one. Raises InvalidArgumentError, which names it."""
    if ingress or scope not in ("", LOCAL_SCOPE):
        what = "Ingress" if ingress else f"Scope {scope!r}"
        raise InvalidArgumentError(
            f"{what} is of swarm networks, which this engine does not support: scope is {LOCAL_SCOPE!r}"
        )


def without_families(options: Mapping[str, str], *, ipv4: bool, ipv6: bool) -> dict[str, str]:
    """Return a driver's options but for those of address families of which the request itself says something.

    That prevails; ``ipv4`` and ``ipv6`` say whether it does.
    """
    said = {"com.docker.network.enable_ipv4": ipv4, "com.docker.network.enable_ipv6": ipv6}
    return {name: value for name, value in options.items() if not said.get(name)}


def link_of(name: str) -> tuple[str, str]:
    """Return whose legacy link ``web/db`` is, and its alias. Raises ConflictError, in Docker's words: it names none."""
    container, _, alias = name.strip("/").rpartition("/")
    if not container or not alias:
        raise ConflictError("Conflict, cannot remove the default link name of the container")
    return container, alias


def _check_nothing(mode: str, endpoint: Endpoint) -> None:
    """Refuse what is said of an interface that there will not be."""
    if endpoint.links and mode != _NONE:
        kind = "host type networking" if mode == _HOST else "container type network"
        raise InvalidArgumentError(
            f"conflicting options: {kind} can't be used with links. This would result in undefined behavior"
        )
    if endpoint.ipv4_address or endpoint.ipv6_address:
        raise InvalidArgumentError(
            f"invalid config for network {mode}: invalid endpoint settings:\n"
            "user specified IP address is supported on user defined networks only"
        )
    asked = {
        "mac-address": endpoint.mac_address,
        "links": endpoint.links,
        "link-local-ip": endpoint.link_local_ips,
        "gw-priority": endpoint.gw_priority,
        "driver-opt": endpoint.driver_options,
    }
    for option, given in asked.items():
        if given:
            raise InvalidArgumentError(f"conflicting options: {option} and the network mode")
