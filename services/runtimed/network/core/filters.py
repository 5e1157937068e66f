"""Which networks a filter means, in Docker's terms."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from runtimed.network.core.model import Network
from sampan.errors import InvalidArgumentError
from sampan.moments import to_ns, until_ns
from sampan.pattern import any_found
from sampan.resource.listing import Filters

_LIST: Final = frozenset({"name", "id", "driver", "type", "label", "dangling", "scope"})
_PRUNE: Final = frozenset({"until", "label", "label!"})
_TRUE: Final = frozenset({"1", "true", "t"})
_FALSE: Final = frozenset({"0", "false", "f"})


def select(networks: Iterable[Network], filters: Filters, used: frozenset[str]) -> tuple[Network, ...]:
    """Return the networks that match every filter, each by any of its values.

    Args:
        networks: to choose from.
        filters: by name, as ``docker network ls`` knows them.
        used: IDs of networks that containers are on.

    Raises:
        InvalidArgumentError: an unknown filter, or a value that it cannot have.
    """
    _check(filters, _LIST)
    dangling = _flag(filters, "dangling")
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
        and _has_labels(network, filters.get("label", ()))
    )


def prunable(networks: Iterable[Network], filters: Filters, used: frozenset[str], now: datetime) -> tuple[Network, ...]:
    """Return the networks that ``docker network prune`` removes.

    Raises:
        InvalidArgumentError: as ``select``.
    """
    _check(filters, _PRUNE)
    limits = [until_ns(value, to_ns(now)) for value in filters.get("until", ())]
    if len(limits) > 1:
        raise InvalidArgumentError("more than one until filter specified")
    refused = filters.get("label!", ())
    return tuple(
        network
        for network in networks
        if network.user_defined
        and network.id not in used
        and all(to_ns(network.created) < limit for limit in limits)
        and _has_labels(network, filters.get("label", ()))
        and not any(_has_labels(network, (label,)) for label in refused)
    )


def _check(filters: Filters, known: frozenset[str]) -> None:
    for name in filters:
        if name not in known:
            raise InvalidArgumentError(f"invalid filter '{name}'")


def _flag(filters: Filters, name: str) -> bool | None:
    values = filters.get(name)
    if not values:
        return None
    value = values[-1].lower()
    if value not in _TRUE | _FALSE:
        raise InvalidArgumentError(f"invalid filter: '{name}'='{values[-1]}'")
    return value in _TRUE


def _named(filters: Filters) -> Callable[[Network], bool]:
    """Test names and IDs, both by regular expressions, and what else a network is called by."""
    names, ids = filters.get("name", ()), filters.get("id", ())
    drivers, scopes = filters.get("driver", ()), filters.get("scope", ())
    name_found, id_found = any_found(names, "invalid filter 'name'"), any_found(ids, "invalid filter 'id'")
    return lambda network: (
        (not names or name_found(network.name))
        and (not ids or id_found(network.id))
        and (not drivers or network.driver in drivers)
        and (not scopes or "local" in scopes)
    )


def _has_labels(network: Network, wanted: Iterable[str]) -> bool:
    for entry in wanted:
        key, equals, value = entry.partition("=")
        if key not in network.labels or (equals and network.labels[key] != value):
            return False
    return True
