"""Which networks a container joins, and how: the mode's first."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from sampan.docker.options.namespaces import BRIDGE, CONTAINER, network_mode
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Endpoint

_WITHOUT_ENDPOINTS: Final = ("none", "host")
_PREDEFINED: Final = (BRIDGE, *_WITHOUT_ENDPOINTS)


def endpoints(mode: str, given: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """Return the networks to join for ``mode``, that of the mode first; none where there is nothing to say of them.

    Raises:
        InvalidArgumentError: in Docker's words, a network twice, or with a mode that has none of its own.
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
    if first.aliases and (mode in _PREDEFINED or mode.startswith(CONTAINER)):
        raise InvalidArgumentError(
            f"invalid config for network {mode}: invalid endpoint settings:\n"
            "network-scoped aliases are only supported for user-defined networks"
        )
    if mode in _WITHOUT_ENDPOINTS or mode.startswith(CONTAINER) or (not named and first == Endpoint(BRIDGE)):
        return ()
    return (first, *named.values())
