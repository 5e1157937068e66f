"""Which networks a filter means, in Docker's terms."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from runtimed.network.core.model import Network
from sampan.errors import InvalidArgumentError

Filters = Mapping[str, tuple[str, ...]]

_LIST: Final = frozenset({"name", "id", "driver", "type", "label", "dangling", "scope"})
_PRUNE: Final = frozenset({"until", "label", "label!"})
_TRUE: Final = frozenset({"1", "true", "t"})
_FALSE: Final = frozenset({"0", "false", "f"})
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s)")
_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


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
    return tuple(
        network
        for network in networks
        if _named(network, filters)
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
    limits = [parse_until(value, now) for value in filters.get("until", ())]
    if len(limits) > 1:
        raise InvalidArgumentError("more than one until filter specified")
    refused = filters.get("label!", ())
    return tuple(
        network
        for network in networks
        if network.user_defined
        and network.id not in used
        and all(network.created < limit for limit in limits)
        and _has_labels(network, filters.get("label", ()))
        and not any(_has_labels(network, (label,)) for label in refused)
    )


def parse_until(text: str, now: datetime) -> datetime:
    """Read a moment: seconds since 1970, RFC 3339, or a duration such as ``24h`` before ``now``.

    Raises:
        InvalidArgumentError: it is none of these.
    """
    pieces = _DURATION.findall(text)
    if pieces and "".join(number + unit for number, unit in pieces) == text:
        return now - timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in pieces))
    try:
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return datetime.fromtimestamp(float(text), UTC)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise InvalidArgumentError(f"invalid filter: 'until'='{text}'") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


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


def _named(network: Network, filters: Filters) -> bool:
    names, ids = filters.get("name", ()), filters.get("id", ())
    drivers, scopes = filters.get("driver", ()), filters.get("scope", ())
    return (
        (not names or any(name in network.name for name in names))
        and (not ids or any(network.id.startswith(prefix) for prefix in ids))
        and (not drivers or network.driver in drivers)
        and (not scopes or "local" in scopes)
    )


def _has_labels(network: Network, wanted: Iterable[str]) -> bool:
    for entry in wanted:
        key, equals, value = entry.partition("=")
        if key not in network.labels or (equals and network.labels[key] != value):
            return False
    return True
