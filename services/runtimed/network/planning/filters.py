"""Which networks a filter means, in Docker's terms."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from runtimed.network.core.model import Network
from sampan.docker.filters import check_known, found_test, label_test, truth, until_ns
from sampan.docker.times import to_ns
from sampan.errors import InvalidArgumentError
from sampan.resource.listing import Filters

_LIST: Final = frozenset({"name", "id", "driver", "type", "label", "dangling", "scope"})
_PRUNE: Final = frozenset({"until", "label", "label!"})


def select(networks: Iterable[Network], filters: Filters, used: frozenset[str]) -> tuple[Network, ...]:
    """Return the networks that match every filter, each by any of its values.

    Args:
        networks: to choose from.
        filters: by name, as ``docker network ls`` knows them.
        used: IDs of networks that containers are on.

    Raises:
        InvalidArgumentError: an unknown filter, or a value that it cannot have.
    """
    check_known(filters, _LIST)
    dangling, labelled = truth(filters, "dangling"), label_test(filters)
    kinds = filters.get("type", ())
    for kind in kinds:
        if kind not in ("custom", "builtin"):
            raise InvalidArgumentError(f"invalid filter: 'type'='{kind}'")
    named = _named(filters)
    return tuple(
        network
        for network in networks
        if named(network)
        and (not kinds or ("builtin" if network.predefined else "custom") in kinds)
        and (dangling is None or dangling == (network.user_defined and network.id not in used))
        and labelled(network.labels)
    )


def prunable(networks: Iterable[Network], filters: Filters, used: frozenset[str], now: datetime) -> tuple[Network, ...]:
    """Return the networks that ``docker network prune`` removes.

    Raises:
        InvalidArgumentError: as ``select``.
    """
    check_known(filters, _PRUNE)
    limit, labelled = until_ns(filters, to_ns(now)), label_test(filters)
    return tuple(
        network
        for network in networks
        if network.user_defined
        and network.id not in used
        and (limit is None or to_ns(network.created) < limit)
        and labelled(network.labels)
    )


def _named(filters: Filters) -> Callable[[Network], bool]:
    """Test names and IDs, both by regular expressions, and what else a network is called by."""
    drivers, scopes = filters.get("driver", ()), filters.get("scope", ())
    name_found, id_found = found_test(filters, "name"), found_test(filters, "id")
    return lambda network: (
        name_found(network.name)
        and id_found(network.id)
        and (not drivers or network.driver in drivers)
        and (not scopes or "local" in scopes)
    )
